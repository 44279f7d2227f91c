"""Progress of `daskflow run`: plain lines, the live block, and figures that can be trusted."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from daskflow.runner.cli.live import LiveView, Rate
from daskflow.runner.cli.progress import (
    PlainView,
    StageProgress,
    merge_stages,
    stage_line,
    wants_live_view,
)


def stage(task="clean", total=10, done=0, failed=0, cached=0, retries=0, running=0):
    return StageProgress(task, total, done, failed, cached, retries, running)


class Clock:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def plain():
    stream, clock = io.StringIO(), Clock()
    return SimpleNamespace(
        view=PlainView(stream, clock), clock=clock, lines=lambda: stream.getvalue().splitlines()
    )


def test_stage_that_runs_and_ends_has_two_lines(plain):
    plain.view.update([stage()])
    plain.view.update([stage(done=4)])
    for now in (1.0, 2.5):
        plain.clock.now = now
        plain.view.update([stage(done=9, failed=1, cached=3, retries=2)])
    plain.view.close()
    assert plain.lines() == [
        "clean: started",
        "clean: 10/10 · 1 failed · 3 cached · 2 retries",
    ]


def test_stage_that_completes_over_and_over_is_told_once_at_the_end(plain):
    for number in range(1, 50):
        plain.clock.now = number * 0.2
        plain.view.update([stage(total=number, done=number - 1)])
        plain.view.update([stage(total=number, done=number)])
    plain.view.close()
    assert plain.lines() == ["clean: started", "clean: 49/49"]


def test_stage_that_goes_on_after_it_was_told_is_told_again(plain):
    for now in (0.0, 2.0):
        plain.clock.now = now
        plain.view.update([stage(total=1, done=1)])
    plain.view.update([stage(total=3, done=3)])
    plain.view.close()
    assert plain.lines() == ["clean: 1/1", "clean: 3/3"]


def test_stage_that_never_ended_is_told_with_what_it_reached(plain):
    plain.view.update([stage(done=2)])
    plain.view.close()
    assert plain.lines() == ["clean: started", "clean: 2/10"]


def test_name_of_a_task_cannot_move_the_cursor():
    assert stage_line(stage(task="a\x1b[2Jb", done=10)) == "a\\x1b[2Jb: 10/10"


def test_flow_runs_of_the_same_task_are_added_up():
    merged = merge_stages([stage(done=1), stage("b"), stage(done=2, failed=1, running=1)])
    assert merged == [stage(total=20, done=3, failed=1, running=1), stage("b")]


def test_rate_follows_the_last_five_seconds():
    rate = Rate()
    assert rate.per_second == 0
    for second in range(20):
        rate.observe(float(second), 0 if second < 10 else (second - 10) * 100)
    assert rate.per_second == pytest.approx(100)


@pytest.fixture
def live():
    console = Console(
        file=io.StringIO(), width=120, height=10, force_terminal=True, color_system=None
    )
    clock = Clock()
    view = LiveView(console, clock)
    yield SimpleNamespace(view=view, clock=clock, drawn=lambda: drawn(view))
    view.close()


def drawn(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(view.table())
    return console.file.getvalue()


def test_live_block_shows_figures_rate_and_time_left(live):
    live.view.update([stage(total=100)])
    live.clock.now = 2.0
    live.view.update([stage(total=100, done=39, failed=1, cached=5, retries=2, running=3)])
    text = live.drawn()
    for said in ("40/100", "20/s", "3.0s left", "1 failed", "5 cached", "2 retried", "3 running"):
        assert said in text


def test_live_block_fits_the_terminal_and_keeps_what_is_under_way(live):
    live.view.update([stage(f"task{n}", done=10 if n else 1) for n in range(30)])
    lines = live.drawn().splitlines()
    assert len(lines) <= 10
    assert "task0 " in lines[0]
    assert "and 23 more" in lines[-1]


@pytest.mark.parametrize(
    ("tty", "environment", "wanted"),
    [
        pytest.param(True, {}, True, id="terminal"),
        pytest.param(False, {}, False, id="pipe"),
        pytest.param(True, {"CI": "true"}, False, id="ci"),
        pytest.param(True, {"TERM": "dumb"}, False, id="dumb"),
    ],
)
def test_live_view_is_for_terminals_that_a_person_watches(monkeypatch, tty, environment, wanted):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_live_view(SimpleNamespace(isatty=lambda: tty)) is wanted


def test_live_block_says_that_the_cluster_is_waited_for_until_something_is_submitted(live):
    live.view.update([stage(total=0)])
    assert live.drawn().strip() == "waiting for the cluster …"
    live.view.update([stage(total=1)])
    assert "0/1" in live.drawn()
    assert "waiting" not in live.drawn()


def test_plain_view_is_silent_about_a_task_that_nothing_was_submitted_to():
    stream, clock = io.StringIO(), Clock()
    view = PlainView(stream, clock)
    view.update([stage(total=0)])
    clock.now += 5
    view.update([stage(total=0)])
    view.close()
    assert stream.getvalue() == ""
