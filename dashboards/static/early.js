// Runs before anything is shown: the theme that was chosen before, a list of whatever goes wrong
// (on the root element, where a test or a maintainer finds it), and the nonce for BokehJS.
(() => {
  "use strict";
  const root = document.documentElement;
  const note = (text) => {
    root.dataset.errors = (root.dataset.errors ? root.dataset.errors + "\n" : "") + text;
  };
  addEventListener("error", (event) => note(String(event.message)));
  addEventListener("unhandledrejection", (event) => note(String(event.reason)));
  document.addEventListener("securitypolicyviolation", (event) => {
    note(`${event.violatedDirective} ${event.blockedURI}`);
  });

  // BokehJS makes style elements; the policy lets them in by the nonce of this file.
  const createElement = document.createElement.bind(document);
  document.createElement = (name, options) => {
    const element = createElement(name, options);
    if (String(name).toLowerCase() === "style") element.nonce = root.dataset.nonce;
    return element;
  };

  try {
    const kept = localStorage.getItem("daskflow-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* a browser may forbid storage to files */ }
})();
