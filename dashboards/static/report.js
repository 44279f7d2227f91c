// The report's own script: theme, timeline, log filter.  It reads codes and words from the page
// and sets text only as text, so nothing that a user wrote can become markup or code.
(() => {
  "use strict";
  const root = document.documentElement;
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  // Theme: the system's, until the button says otherwise.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  let plots = [];
  const retheme = () => {
    const button = one("#theme");
    button.hidden = false;
    button.textContent = isDark() ? "Light theme" : "Dark theme";
    const text = getComputedStyle(root).getPropertyValue("--muted").trim();
    for (const plot of plots) {
      for (const axis of [...plot.below, ...plot.left]) axis.major_label_text_color = text;
    }
  };
  one("#theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("daskflow-theme", root.dataset.theme); } catch { /* a browser may forbid it */ }
    retheme();
  });
  system.addEventListener("change", retheme);
  retheme();

  // Logs: show the lines that contain a text.
  const find = one("#find");
  find.hidden = all(".log .r").length === 0;
  find.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const line of all(".log .r")) {
      line.hidden = !line.textContent.toLowerCase().includes(wanted);
    }
  });
  for (const log of all(".log.to-end")) log.scrollTop = log.scrollHeight;

  // Timeline.
  const figure = JSON.parse(one("#figure-data").textContent);
  if (figure === null) {
    root.dataset.drawn = "nothing";
    return;
  }
  const seconds = (ms) => {
    if (ms < 1000) return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
    if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
    const whole = Math.round(ms / 1000);
    const tail = (value) => String(value).padStart(2, "0");
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${tail(whole % 60)} s`;
    return `${Math.floor(whole / 3600)} h ${tail(Math.floor((whole % 3600) / 60))} min`;
  };
  const label = (source) => {
    const { task, kind, index, count, lane, left, right } = source.data;
    const words = figure.words;
    const name = [], what = [], when = [], where = [];
    for (let i = 0; i < lane.length; i++) {
      name.push(words.tasks[task[i]] + (index[i] >= 0 ? `-${index[i]}` : ""));
      const more = count[i] > 1 ? `, ${count[i].toLocaleString("en")} together` : "";
      what.push(words.kinds[kind[i]] + more);
      when.push(`${seconds(left[i])} to ${seconds(right[i])}`);
      where.push(words.workers[lane[i]]);
    }
    source.data = { ...source.data, name, what, when, where };
  };
  const colorBy = (choice, renderers) => {
    for (const renderer of renderers) {
      if (renderer.name !== "problem") renderer.visible = renderer.name === `by-${choice}`;
    }
    for (const button of all("[data-by]")) {
      button.setAttribute("aria-pressed", String(button.dataset.by === choice));
    }
    for (const key of all("[data-key]")) key.hidden = key.dataset.key !== choice;
  };
  const zoom = (range, whole, how) => {
    const span = range.end - range.start, middle = (range.start + range.end) / 2;
    const factor = { in: 0.5, out: 2 }[how] ?? 1;
    const shift = { left: -0.25, right: 0.25 }[how] ?? 0;
    const width = how === "fit" ? whole : Math.min(whole, span * factor);
    const begin = how === "fit" ? 0 : middle - width / 2 + shift * width;
    const start = Math.min(Math.max(0, begin), whole - width);
    range.setv({ start, end: start + width });
  };
  const KEYS = {
    ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", f: "fit", 0: "fit",
  };

  (async () => {
    const place = one("#figure");
    const views = await Bokeh.embed.embed_item(figure.item, place);
    const view = views.roots ? views.roots[0] : views[0];
    const page = view.model.document;
    plots = view.model.children;
    const renderers = plots[1].renderers.filter((renderer) => renderer.name !== "lost");
    new Set(renderers.map((renderer) => renderer.data_source)).forEach(label);
    const range = page.get_model_by_name("time"), whole = range.end;
    one("#tools").hidden = false;
    for (const button of all("[data-by]")) {
      button.addEventListener("click", () => colorBy(button.dataset.by, renderers));
    }
    for (const button of all("[data-zoom]")) {
      button.addEventListener("click", () => zoom(range, whole, button.dataset.zoom));
    }
    place.addEventListener("keydown", (event) => {
      const how = KEYS[event.key];
      if (!how || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      zoom(range, whole, how);
    });
    range.properties.end.change.connect(() => {
      root.dataset.range = `${range.start} ${range.end}`;
    });
    retheme();
    requestAnimationFrame(() => requestAnimationFrame(() => {
      root.dataset.drawn = "yes";
      root.dataset.drawnMs = String(Math.round(performance.now()));
    }));
  })();
})();
