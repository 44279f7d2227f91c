"""The report in a real browser: drawn, quiet, without requests, at any width and by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from daskflow.dashboards.report import write_report
from daskflow.runner.store import open_store
from tests.browser.chromium import Chromium, Page
from tests.browser.recorded import HOSTILE, RUN_ID, Recorded, flow_run, large_run, ugly_run

pytestmark = pytest.mark.browser

RUNS: dict[str, Callable[[], Recorded]] = {
    "ugly": ugly_run,
    "large": lambda: large_run(20_000),
    "empty": lambda: Recorded(flow_run()),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports of some runs, each by way of a real run store."""
    folder = tmp_path_factory.mktemp("reports")
    found = {}
    for name, made in RUNS.items():
        url = f"sqlite:///{folder}/{name}.db"
        made().write_to(url)
        with open_store(url) as store:
            found[name] = write_report(store, RUN_ID, folder / f"{name}.html")
    return found


def opened(chromium: Chromium, path: Path, width: int = 1280, *, dark: bool = False) -> Page:
    page = chromium.open(path.as_uri(), width=width, dark=dark)
    page.wait_for("document.documentElement.dataset.drawn")
    return page


def pixels_drawn(page: Page) -> int:
    """Coloured pixels of the largest canvas inside the figure, shadow roots included."""
    return int(
        page.evaluate(
            """(() => {
              const found = [];
              const walk = (node) => {
                for (const child of node.querySelectorAll("*")) {
                  if (child.tagName === "CANVAS") found.push(child);
                  if (child.shadowRoot) walk(child.shadowRoot);
                }
              };
              walk(document.querySelector("#figure"));
              const painted = found.map((canvas) => {
                const { width, height } = canvas;
                if (!width || !height) return 0;
                const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
                let count = 0;
                for (let i = 3; i < data.length; i += 4) if (data[i] > 200) count++;
                return count;
              });
              return Math.max(0, ...painted);
            })()"""
        )
    )


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", RUNS)
def test_page_is_drawn_quietly_without_a_request_and_without_scrolling_sideways(
    chromium: Chromium, reports: dict[str, Path], name: str, width: int
) -> None:
    page = opened(chromium, reports[name], width)
    assert page.evaluate("document.documentElement.dataset.errors") is None
    assert page.complaints() == []
    assert page.requests() == [reports[name].as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if name == "empty":
        assert page.evaluate("document.documentElement.dataset.drawn") == "nothing"
    else:
        assert pixels_drawn(page) > 5_000


def test_no_request_can_leave_the_page(chromium: Chromium, reports: dict[str, Path]) -> None:
    page = opened(chromium, reports["ugly"])
    page.evaluate(
        """(() => {
          const image = new Image(); image.src = "http://127.0.0.1:9/pixel.png";
          const script = document.createElement("script"); script.textContent = "window.owned = 1";
          document.body.append(image, script);
          return fetch("http://127.0.0.1:9/").catch(() => null).then(() => true);
        })()"""
    )
    page.wait_for("(document.documentElement.dataset.errors || '').split('\\n').length >= 3")
    errors = page.evaluate("document.documentElement.dataset.errors")
    assert {line.split()[0] for line in errors.splitlines()} == {
        "img-src",
        "connect-src",
        "script-src-elem",
    }
    assert page.evaluate("typeof window.owned") == "undefined"


def test_markup_in_names_shows_as_text(chromium: Chromium, reports: dict[str, Path]) -> None:
    page = opened(chromium, reports["ugly"])
    assert HOSTILE in page.evaluate("document.querySelector('.pairs dt').textContent")
    assert HOSTILE in page.evaluate("document.querySelector('h1').textContent")
    assert HOSTILE in page.title()
    assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0


def test_hovering_a_bar_tells_its_task_run_as_text(
    chromium: Chromium, reports: dict[str, Path]
) -> None:
    page = opened(chromium, reports["ugly"])
    box = page.evaluate("document.querySelector('#figure').getBoundingClientRect().toJSON()")
    tooltip = """(() => {
      const texts = [];
      const walk = (node) => {
        for (const child of node.querySelectorAll("*")) {
          if (child.classList.contains("bk-tooltip-content")) texts.push(child.innerText);
          if (child.shadowRoot) walk(child.shadowRoot);
        }
      };
      walk(document);
      return texts.join(" ");
    })()"""
    for x in range(int(box["left"]) + 100, int(box["right"]) - 40, 40):
        for y in range(int(box["top"]) + 110, int(box["bottom"]) - 40, 20):
            page.move_mouse(x, y)
            page.next_frame()
            if "worker" in (text := page.evaluate(tooltip)):
                assert "load <script>alert(1)</script>-" in text or "<img src=x" in text
                assert page.evaluate("document.documentElement.dataset.errors") is None
                return
    pytest.fail("no bar under the mouse anywhere in the figure")


def test_theme_follows_the_system_until_the_button_is_used(
    chromium: Chromium, reports: dict[str, Path]
) -> None:
    page = opened(chromium, reports["ugly"], dark=True)
    ground = "getComputedStyle(document.body).backgroundColor"
    axis = "Bokeh.documents[0].roots()[0].children[1].below[0]"
    label = f"JSON.stringify({axis}.major_label_text_color)"
    assert page.evaluate(ground) == "rgb(13, 15, 20)"
    dark_label = page.evaluate(label)
    page.evaluate("document.querySelector('#theme').focus()")
    page.press("Enter")
    assert page.evaluate(ground) == "rgb(246, 247, 249)"
    assert page.evaluate("document.querySelector('#theme').textContent") == "Dark theme"
    assert page.evaluate(label) != dark_label


def test_timeline_can_be_used_with_the_keyboard_alone(
    chromium: Chromium, reports: dict[str, Path]
) -> None:
    page = opened(chromium, reports["large"])
    page.evaluate("document.querySelector('#figure').focus()")
    shown = "document.documentElement.dataset.range"
    seen = []
    for key in ("+", "+", "ArrowRight", "-", "f"):
        before = page.evaluate(f"{shown} || ''")
        page.press(key)
        page.wait_for(f"{shown} !== {before!r}")
        seen.append([float(number) for number in page.evaluate(shown).split()])
    starts = [start for start, _ in seen]
    spans = [end - start for start, end in seen]
    assert spans == pytest.approx([spans[4] * part for part in (1 / 2, 1 / 4, 1 / 4, 1 / 2, 1)])
    assert starts[2] > starts[1] > starts[0] > starts[4] == 0
    page.evaluate("document.querySelector('[data-by=state]').focus()")
    page.press("Enter")
    assert page.evaluate("document.querySelector('[data-by=state]').ariaPressed") == "true"
    assert page.evaluate("document.querySelectorAll('[data-key=state]:not([hidden])').length") > 1


def test_log_lines_are_found_by_their_text(chromium: Chromium, reports: dict[str, Path]) -> None:
    page = opened(chromium, reports["ugly"])
    page.evaluate("document.querySelector('#find input').focus()")
    for letter in "good":
        page.press(letter)
    shown = "[...document.querySelectorAll('.log .r:not([hidden])')]"
    page.wait_for(f"{shown}.length === 1")
    assert "good bye" in page.evaluate(f"{shown}[0].textContent")
