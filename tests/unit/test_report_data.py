"""Columns, totals, stages, problems by cause, and the words for numbers."""

from __future__ import annotations

import math

import pytest

from daskflow.dashboards import summary, wording
from daskflow.dashboards.data import RunColumns, columns
from daskflow.dashboards.kinds import KIND_OF_STATE, KINDS, kind_of
from daskflow.dashboards.problems import cause, past_attempts, problems, workers_lost
from daskflow.runner.core.states import STATES
from daskflow.runner.store.rows import EventRow, TaskRunRow, TransitionRow
from tests.browser.recorded import BEGAN, flow_run, task, task_run, ugly_run


def columns_of(*rows: TaskRunRow, now_s: float = 8.0, **of_run: object) -> RunColumns:
    tasks = [task(0, "load"), task(1, "save")]
    return columns(flow_run(**of_run), tasks, rows, now=BEGAN + now_s)


def test_every_state_of_the_engine_has_a_kind() -> None:
    assert set(KIND_OF_STATE) == set(STATES)
    assert {kind.name for kind in KINDS} >= set(KIND_OF_STATE.values())
    assert kind_of("InventedLater") == "pending"


def test_times_count_from_the_start_of_the_flow_run() -> None:
    data = columns_of(task_run(0, 1.5, 2.0))
    assert (data.start[0], data.end[0], data.run_s[0]) == pytest.approx((1.5, 3.5, 2.0))
    assert data.length_s == pytest.approx(8.0)


def test_a_run_under_way_is_drawn_to_now() -> None:
    row = task_run(0, 2.0, None, state="Running")
    data = columns_of(row, now_s=6.0, state="Running", ended_at=None)
    assert data.end[0] == pytest.approx(6.0)
    assert data.run_s[0] == pytest.approx(4.0)
    assert data.length_s == pytest.approx(6.0)


def test_a_run_that_never_started_has_no_worker() -> None:
    data = columns_of(task_run(0, None, None, state="NotReady", worker=None))
    assert data.worker.tolist() == [-1]
    assert data.workers == ()
    assert math.isnan(data.start[0])


def test_the_flow_process_comes_first_then_workers_in_order_of_their_first_run() -> None:
    data = columns_of(
        task_run(0, 3.0, 1.0, worker="tcp://a"),
        task_run(1, 1.0, 1.0, worker="tcp://b"),
        task_run(2, 4.0, 1.0, worker="local"),
    )
    assert data.workers == ("local", "tcp://b", "tcp://a")
    assert data.worker.tolist() == [2, 1, 0]


def test_runs_of_a_task_that_the_record_does_not_name_are_kept() -> None:
    data = columns_of(task_run(0, 0.0, 1.0, task_number=7))
    assert data.task_names[int(data.task[0])] == "task 7"


def test_totals_count_what_was_recovered_once_however_often_it_was_retried() -> None:
    key = summary.totals(
        columns_of(
            task_run(0, 0.0, 1.0, attempt=4),
            task_run(1, 0.0, 1.0, crashes=2),
            task_run(2, 0.0, 1.0, state="Failed", attempt=2),
            task_run(3, 0.0, 1.0, state="Crashed", crashes=1, attempt=0),
            task_run(4, 0.0, 1.0, state="Cached"),
            task_run(5, 0.0, 1.0),
        )
    )
    assert (key.task_runs, key.done, key.failed) == (6, 4, 2)
    assert (key.retries, key.crashes, key.recovered) == (4, 3, 2)


def test_stages_take_their_durations_from_runs_that_went_well() -> None:
    rows = [task_run(n, 0.0, float(n + 1)) for n in range(4)]
    rows.append(task_run(4, 0.0, 1000.0, state="Failed"))
    rows.append(task_run(5, 0.0, 9.0, task_number=1))
    load, save = summary.stages(columns_of(*rows))
    assert (load.name, load.runs, load.done, load.failed) == ("load", 5, 4, 1)
    assert (load.p50_s, load.total_s) == pytest.approx((2.5, 1010.0))
    assert (save.name, save.runs, save.p95_s) == ("save", 1, 9.0)


def test_a_stage_without_a_finished_run_has_no_durations() -> None:
    row = task_run(0, None, None, state="Pending", worker=None)
    load, _ = summary.stages(columns_of(row))
    assert math.isnan(load.p50_s)
    assert wording.duration(load.p50_s) == "–"


def test_the_slowest_runs_come_slowest_first_and_skip_what_never_ran() -> None:
    never = task_run(3, None, None, state="NotReady", worker=None)
    data = columns_of(task_run(0, 0, 1.0), task_run(1, 0, 3.0), task_run(2, 0, 2.0), never)
    found = summary.slowest(data, summary.stages(data))
    assert [line.row for line in found] == [1, 2, 0]
    assert found[0].of_task_p50 == pytest.approx(1.5)


def test_ended_per_second_adds_up_to_the_runs_that_ended() -> None:
    under_way = task_run(2, 0.0, None, state="Running")
    data = columns_of(task_run(0, 0.0, 1.0), task_run(1, 0.0, 8.0), under_way)
    middle, per_second = summary.ended_per_second(data, bins=16)
    assert per_second.sum() * (middle[1] - middle[0]) == pytest.approx(2.0)


def test_an_empty_run_has_figures_too() -> None:
    data = columns_of()
    assert summary.totals(data).task_runs == 0
    assert [stage.runs for stage in summary.stages(data)] == [0, 0]
    assert summary.slowest(data, summary.stages(data)) == []
    assert summary.worker_lines(data) == []
    assert summary.ended_per_second(data)[1].sum() == 0


# ---- problems


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("bad row 17", "bad row 99", id="numbers"),
        pytest.param("KeyError: 'a'", "KeyError: 'b'", id="quoted"),
        pytest.param("lost tcp://10.0.0.1:4", "lost tcp://10.9.9.1:77", id="addresses"),
        pytest.param("at 0x7f01", "at 0x8e22", id="pointers"),
        pytest.param("E: x\n  File a, line 3", "E: x\n  File b, line 4", id="tracebacks"),
    ],
)
def test_messages_that_differ_in_details_have_one_cause(one: str, other: str) -> None:
    assert cause(one) == cause(other)


def test_different_errors_have_different_causes() -> None:
    assert cause("KeyError: 'a'") != cause("ValueError: 'a'")


def test_an_attempt_is_counted_once_though_two_transitions_tell_of_it() -> None:
    found = past_attempts(
        [
            TransitionRow(5, 3.0, "AwaitingRetry", "ValueError: x", 2, "w"),
            TransitionRow(5, 1.0, "AwaitingRetry", "ValueError: x", 1, "w"),
            TransitionRow(5, 2.0, "Retrying", None, 2, "w"),
            TransitionRow(5, 4.0, "Retrying", None, 3, "w"),
            TransitionRow(6, 5.0, "Retrying", "OSError: at once", 1, "w"),
            TransitionRow(7, 5.0, "Running", None, 1, "w"),
            TransitionRow(None, 6.0, "AwaitingRetry", "the flow itself", 1, None),
        ]
    )
    assert [(attempt.number, attempt.at) for attempt in found] == [(5, 1.0), (5, 3.0), (6, 5.0)]


def test_a_lost_worker_is_told_from_an_error_that_talks_of_one() -> None:
    found = past_attempts(
        [
            TransitionRow(1, 1.0, "AwaitingRetry", "worker lost: killed by signal 9", 0, "w"),
            TransitionRow(2, 2.0, "AwaitingRetry", "ValueError: worker lost", 1, "w"),
        ]
    )
    assert [attempt.kind for attempt in found] == ["lost", "retrying"]


def test_a_worker_is_lost_once_though_event_and_attempts_name_it() -> None:
    attempts = past_attempts([TransitionRow(1, 9.0, "AwaitingRetry", "worker lost: x", 0, "b")])
    events = [EventRow(4.0, "daskflow.worker.lost", "a", None, {}), EventRow(1.0, "my", "c", 1, {})]
    assert workers_lost(events, attempts) == {"a": 4.0, "b": 9.0}
    events.append(EventRow(8.0, "daskflow.worker.lost", "b", None, {}))
    assert workers_lost(events, attempts) == {"a": 4.0, "b": 8.0}


def test_problems_are_grouped_by_cause_with_what_is_final_first() -> None:
    made = ugly_run()
    attempts = past_attempts(made.transition_rows)
    found = problems(made.rows, attempts, lambda number: "task", lambda number: f"run-{number}")
    assert [(p.kind, p.times, p.runs, p.recovered) for p in found] == [
        ("failed", 1, 1, 0),
        ("notready", 1, 1, 0),
        ("lost", 1, 1, 1),
        ("retrying", 2, 1, 1),
    ]
    assert found[3].examples == ("run-0",)


# ---- words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0004, "0.4 ms"),
        (0.012, "12 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7_620, "2 h 07 min"),
        (260_000, "3 d 0 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(None, "–"), (812, "812 B"), (3_400, "3.4 kB"), (999_600, "1.0 MB"), (12e15, "12.0 PB")],
)
def test_sizes(size_bytes: float | None, text: str) -> None:
    assert wording.size(size_bytes) == text


@pytest.mark.parametrize(
    ("number", "seconds", "text"),
    [(0, 8, ""), (5, 0, ""), (900, 2, "450 per second"), (3, 2, "1.5 per second"),
     (30, 120, "15 per minute"), (3, 7200, "1.5 per hour")],
)  # fmt: skip
def test_rates(number: int, seconds: float, text: str) -> None:
    assert wording.rate(number, seconds) == text


def test_terminal_colours_and_control_characters_do_not_reach_a_page() -> None:
    assert wording.printable("\x1b[1;31mred\x1b[0m\x00\ud800\ttab\r\nline") == "red��\ttab\nline"


def test_long_text_is_cut_and_what_is_missing_is_counted() -> None:
    assert wording.clip_text("x" * 5_000, 10) == "x" * 10 + " … 4,990 characters more"


@pytest.mark.parametrize(
    ("document", "items"),
    [
        ('{"a": "1", "argv": ["b", "c"], "n": {"x": 1}}',
         [("a", "1"), ("argv", "b c"), ("n", '{"x": 1}')]),
        ("not json", [("", "not json")]),
        ("[1, 2]", [("", "[1, 2]")]),
        ("", []),
    ],
)  # fmt: skip
def test_json_of_the_record_becomes_names_and_values(
    document: str, items: list[tuple[str, str]]
) -> None:
    assert wording.as_items(document) == items
