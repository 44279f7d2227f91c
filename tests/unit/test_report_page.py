"""The report as a file: complete, self-contained, small, and closed to what users write."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from daskflow.dashboards import report
from daskflow.dashboards.kinds import KINDS
from daskflow.dashboards.page import page_of
from daskflow.dashboards.report import render_report, write_report
from daskflow.dashboards.timeline import TASK_COLORS
from daskflow.runner.store import open_store
from daskflow.runner.store.rows import LogRow
from tests.browser.recorded import (
    BEGAN,
    HOSTILE,
    RUN_ID,
    Recorded,
    flow_run,
    large_run,
    task,
    task_run,
    ugly_run,
)


class Outline(HTMLParser):
    """What a browser would see: elements with their attributes, texts, scripts, styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def ugly() -> Outline:
    return Outline(render_report(ugly_run(), "8f3a"))


def test_everything_that_a_colleague_asks_for_is_in_the_report(ugly: Outline) -> None:
    for words in (
        "1 failed",
        "2 retries",
        "1 execution lost with a worker",
        "1 never ran",
        "Slowest task runs",
        "Parameters",
        "Subflow runs",
        "Environment",
        "good bye",
        "processes, 2 workers × 1 thread",
    ):
        assert words in ugly.text


def test_what_users_write_stays_text(ugly: Outline) -> None:
    tags = [tag for tag, _ in ugly.elements]
    assert tags.count("script") == 4  # early, data, BokehJS, page: none of the user's
    assert "img" not in tags
    assert not any(name.startswith("on") for _, attrs in ugly.elements for name in attrs)
    assert ugly.text.count(HOSTILE) >= 10  # name, flow, parameters, tags, messages, logs, ...
    data = next(text for text in ugly.scripts if text.startswith("{"))
    assert "<" not in data
    assert f"load {HOSTILE}" in json.loads(data)["words"]["tasks"]


def test_nothing_is_fetched_and_the_policy_permits_just_what_is_in_the_file(ugly: Outline) -> None:
    fetched = [
        value
        for _, attrs in ugly.elements
        for name, value in attrs.items()
        if name in ("src", "href", "xlink:href", "action", "srcset", "data")
        and not (value or "").startswith("#")
    ]
    assert fetched == []
    assert not any("@import" in style or "url(" in style for style in ugly.styles)
    policy = next(
        attrs["content"] or ""
        for tag, attrs in ugly.elements
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    code = [text for text in ugly.scripts if not text.startswith("{")]
    expected = [
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for text in [*code, *ugly.styles]
    ]
    assert sorted(re.findall(r"'sha256-[^']+'", policy)) == sorted(expected)
    assert not any("style" in attrs for _, attrs in ugly.elements)  # the policy would drop it


def test_the_state_is_told_in_words_and_icons_not_by_colour_alone(ugly: Outline) -> None:
    symbols = {attrs["id"] for tag, attrs in ugly.elements if tag == "symbol"}
    assert symbols == {f"i-{kind.name}" for kind in KINDS if kind.name != "recovered"} | {
        "i-recovered"
    }
    assert len({kind.hatch for kind in KINDS if kind.name != "pending"}) == len(KINDS) - 1
    bars = [attrs for tag, attrs in ugly.elements if tag == "svg" and attrs.get("role") == "img"]
    assert bars
    assert all(attrs["aria-label"] for attrs in bars)


def test_a_run_without_task_runs_has_a_report_without_bokeh() -> None:
    html = render_report(Recorded(flow_run(parameters="{}")), "8f3a")
    assert "This run has no task runs." in html
    assert "This flow takes none." in html
    assert len(html) < 60_000


def test_a_run_of_which_nothing_started_has_no_timeline() -> None:
    rows = [task_run(0, None, None, state="Pending", worker=None)]
    run = flow_run(state="Running", ended_at=None)
    html = render_report(Recorded(run, [task(0, "load")], rows), "8f3a")
    assert "No task run has started." in html
    assert "so far" in html


def test_only_the_ends_of_a_long_log_are_read() -> None:
    lines = [
        LogRow(None, 1, BEGAN + n, 30 if n % 10 == 0 else 20, "my", f"line {n}", None)
        for n in range(5_000)
    ]
    page = page_of(Recorded(flow_run(), log_rows=lines), "8f3a", now=BEGAN + 9)
    assert page["log_lines"] == 5_000
    assert [row[0].message for row in page["last"]] == [f"line {n}" for n in range(4_800, 5_000)]
    assert page["worst"][0][0].message == "line 0"
    assert len(page["worst"]) == 100
    assert page["worst_more"]


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 1_001, 1_002, 4_001])
def test_log_lines_are_counted_right(count: int) -> None:
    lines = [LogRow(None, 1, BEGAN, 20, "my", f"line {n}", None) for n in range(count)]
    page = page_of(Recorded(flow_run(), log_rows=lines), "8f3a", now=BEGAN + 9)
    assert page["log_lines"] == count
    assert len(page["last"]) == min(count, 200)


def test_a_hundred_thousand_task_runs_fit_into_two_megabytes_and_three_seconds() -> None:
    made = large_run(100_000, workers=64)
    began = time.process_time()
    html = render_report(made, "8f3a")
    assert time.process_time() - began <= 3.0
    assert len(html.encode()) <= 2_000_000
    assert "100,000" in html


def test_the_report_of_a_recorded_run_is_written_from_the_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    ugly_run().write_to(url)
    target = tmp_path / "new" / "run.html"
    with open_store(url) as store:
        assert write_report(store, "8f3a", target) == target
        assert write_report(store, RUN_ID, target) == target  # replaces what is there
    text = Outline(target.read_text("utf-8")).text
    assert f"run {HOSTILE}" in text
    assert "1 execution lost with a worker" in text
    assert "good bye" in text
    assert [path.name for path in target.parent.iterdir()] == ["run.html"]


def test_colours_have_enough_contrast_in_both_themes() -> None:
    css = (Path(report.__file__).parent / "static" / "report.css").read_text()
    light = themed(css.index(":root{"), css)
    dark = themed(css.index(":root[data-theme=dark]{"), css)
    assert themed(css.index(":root:not([data-theme=light]){"), css) == dark
    for theme in (light, dark):
        for text in ("text", "muted", "accent", "good", "bad", "warn", "info"):
            for ground in ("bg", "panel", "panel2", "logbg"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        assert contrast(theme["accent"], theme["accent-weak"]) >= 4.5
        for color in [theme["edge"], *TASK_COLORS, *(kind.color for kind in KINDS)]:
            assert contrast(color, theme["panel"]) >= 3.0, color


def themed(at: int, css: str) -> dict[str, str]:
    block = css[css.index("{", at) + 1 : css.index("}", at)]
    return dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6})", block))


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
