"""The invariants of `docs/faults.md`, held against what a flow of the soak has left behind.

There are three witnesses that know nothing of each other: the run record, the result store, and
the journal that the task bodies wrote.  Each check returns what it found wrong, in words.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from daskflow.caching.hashing import content_digest
from daskflow.caching.store import ResultStore
from daskflow.errors import DaskflowError
from daskflow.runner.core.states import FINAL
from daskflow.runner.store import FlowRunRow, RunStore, TaskRunRow, open_store
from tests.chaos.soak.plan import FlowPlan
from tests.chaos.soak.processes import Bench
from tests.chaos.soak.storm import BIG, CALLED, JOURNAL

__all__ = ["Line", "Story", "read_journal", "violations"]

CRASH_RETRIES = 3  # the default, of every task here but two
CRASHED_FOR_CAUSE = {"ClusterError", "TaskCrashed", "UpstreamFailed"}
LOOK_UP_S = 0.5  # between a body's look into the result store and its start
_BUDGETS = {"once": 0, "poison0": 0, "poison1": 1, "poison2": 2}


class Line(NamedTuple):
    """One line of the journal."""

    at: float
    event: str  # "start", "end" or "raise"
    task: str
    n: int
    pid: int
    run: str
    attempt: int


class Story(NamedTuple):
    """What was done to a flow, besides its plan."""

    starts: list[float]  # of its process: the first, and each time it was resumed
    workers_lost: int  # at most; outcomes that were not told yet went with them, uncharged
    schedulers_lost: int
    hurt: int  # entries of the result store
    elimination: bool  # who was executing may have to be found out: nannies need not tell


def read_journal(bench: Bench) -> list[Line]:
    """Return the journal in the order of time."""
    lines = []
    for text in (bench.folder / JOURNAL).read_text().splitlines():
        at, event, task, n, pid, run, attempt = text.split()
        lines.append(Line(float(at), event, task, int(n), int(pid), run, int(attempt)))
    return sorted(lines)


def violations(plan: FlowPlan, bench: Bench, story: Story) -> tuple[list[str], Counter[str]]:
    """Return what is wrong, and figures of what was right."""
    journal = read_journal(bench)
    figures: Counter[str] = Counter(executions=sum(line.event == "start" for line in journal))
    wrong: list[str] = []
    with open_store(bench.url) as store:
        root = next(
            run
            for run in store.flow_runs(flow="storm", limit=None)
            if str(bench.folder) in run.parameters
        )
        runs = list(_family(store, root))
        wrong += _ended(root, runs, store, figures)
        wrong += _within_budgets(runs, store)
        wrong += _final_stays(runs, store)
    answer = json.loads((bench.folder / "answer.json").read_text())
    wrong += _answers(plan, answer, crashes_allowed=len(plan.faults) > 3)
    wrong += _executions(journal, story)
    wrong += _commits(bench, journal, answer, story, figures)
    return wrong, figures


def _family(store: RunStore, root: FlowRunRow) -> Iterator[FlowRunRow]:
    yield root
    for child in store.children(root.flow_run_id):
        yield from _family(store, child)


def _ended(
    root: FlowRunRow, runs: list[FlowRunRow], store: RunStore, figures: Counter[str]
) -> Iterator[str]:
    """Every run has ended, and the flow itself as it should."""
    if root.state != "Completed":
        yield f"flow run {root.flow_run_id} is {root.state}: {root.message}"
    for run in runs:
        if run.state not in FINAL:
            yield f"flow run {run.flow_run_id} ({run.flow_name}) is still {run.state}"
        for state, count in store.counts(run.flow_run_id).items():
            figures[state] += count
            if state not in FINAL:
                yield f"{count} task runs of {run.flow_run_id} ({run.flow_name}) are {state}"


def _within_budgets(runs: list[FlowRunRow], store: RunStore) -> Iterator[str]:
    for run in runs:
        names = {task.task_number: task.name for task in store.tasks(run.flow_run_id)}
        for row in store.task_runs(run.flow_run_id):
            name = names[row.task_number]
            budget = _BUDGETS.get(name, CRASH_RETRIES)
            if row.crashes > budget + 1:
                yield f"{_label(row, name)} lost {row.crashes} workers, {budget} are allowed"
            if row.state == "Crashed" and "worker lost" in (row.message or ""):
                if row.crashes != budget + 1:
                    yield f"{_label(row, name)} crashed after {row.crashes} of {budget + 1} losses"


def _label(row: TaskRunRow, name: str) -> str:
    return f"{name}-{row.index} (number {row.number})"


def _final_stays(runs: list[FlowRunRow], store: RunStore) -> Iterator[str]:
    """A final state of a task run changes only with another attempt of its flow run."""
    for run in runs:
        final: dict[int, str] = {}
        for each in store.stored_transitions(run.flow_run_id):
            if each.number is None:
                if each.state == "Retrying":
                    final.clear()
                continue
            if each.number in final and each.state != final[each.number]:
                yield f"{run.flow_run_id}-{each.number}: {final[each.number]}, then {each.state}"
            if each.state in FINAL:
                final[each.number] = each.state


def _answers(plan: FlowPlan, answer: dict[str, Any], crashes_allowed: bool) -> Iterator[str]:
    """The flow got the right values."""
    size = plan.size
    expected: dict[str, list[Any]] = {
        "cached": [3 * (n % 60) for n in range(size // 2)],
        "loose": [1] * size,
        "flaky": ["ValueError" if n % 7 == 6 else n for n in range(size // 10)],
        "waits": list(range(size // 5)),
        "once": list(range(12)),
        "chains": [6] * (size // 20),
        "bigs": [BIG + n for n in range(size // 25)],
        "parents": [5] * (size // 50),
        "calls_flow": [20, 20],
        "below": [50, 50],
        "poison": ["TaskCrashed"] * 3,
    }
    got = {name: value for name, value in answer.items() if name in expected}
    got["kept"] = [str(value).partition(":")[0] for value in answer["kept"]]
    expected["kept"] = [str(n) for n in range(size)]
    for name, values in got.items():
        if len(values) != len(expected[name]):
            yield f"{name} has {len(values)} results, not {len(expected[name])}"
        for n, (value, right) in enumerate(zip(values, expected[name], strict=False)):
            lawful = name in ("once", "flaky") or crashes_allowed
            if value != right and not (lawful and value in {*CRASHED_FOR_CAUSE, "KeyError"}):
                yield f"{name}[{n}] is {value!r}, not {right!r}"
    if answer["streamed"] != size and not crashes_allowed:
        yield f"{answer['streamed']} of {size} runs of the stream were right"


def _executions(journal: list[Line], story: Story) -> Iterator[str]:
    """No run is executed more often than its budgets and the faults around it allow."""
    spans = [*story.starts, float("inf")]
    for began, over in pairwise(spans):
        counts: dict[tuple[str, str, int], Counter[str]] = defaultdict(Counter)
        for line in journal:
            if began <= line.at < over:
                counts[line.run, line.task, line.n][line.event] += 1
        for (run, task, n), seen in counts.items():
            budget = _BUDGETS.get(task, CRASH_RETRIES)
            free = 0 if budget == 0 else story.schedulers_lost + story.elimination
            broken_off = seen["start"] - seen["end"] - seen["raise"]
            if broken_off > budget + 1 + free:
                yield f"{task} {n} ({run}) was broken off {broken_off} times, {budget} are allowed"
            if budget == 0 and seen["start"] > 1:
                yield f"{task} {n} ({run}) was executed {seen['start']} times, once is allowed"
            if seen["raise"] > 5 + story.workers_lost:
                yield f"{task} {n} ({run}) raised {seen['raise']} times with 4 retries"


def _commits(
    bench: Bench, journal: list[Line], answer: dict[str, Any], story: Story, figures: Counter[str]
) -> Iterator[str]:
    """What is committed is readable, is what the flow got, and was not executed again."""
    store = ResultStore(str(bench.home / "results"))
    numbers = {line.n for line in journal if line.task in ("kept", "cached")}
    digests = {content_digest(n): n for n in numbers}
    folder = content_digest(str(bench.folder))
    starts: dict[tuple[str, int], list[Line]] = defaultdict(list)
    for line in journal:
        if line.event == "start":
            starts[line.task, line.n].append(line)
    stored = {}
    for entry in store.entries():
        n = digests.get(entry.parts.get("input n", ""))
        if n is None or (entry.task == "kept" and entry.parts.get("input folder") != folder):
            continue
        if n >= CALLED:  # of a flow that a task calls: another run each time the task is executed
            continue
        figures["committed"] += 1
        for line in starts[entry.task, n]:
            if entry.task == "kept" and line.at > entry.created_unix + LOOK_UP_S:
                yield (
                    f"{entry.task} {n} was executed {line.at - entry.created_unix:.1f} s after "
                    f"it was committed ({line.run}, attempt {line.attempt})"
                )
        try:
            stored[entry.task, n] = store.load(entry)
        except DaskflowError as error:
            yield f"the result of {entry.task} {n} cannot be read: {error}"
    for text in answer["kept"]:
        n = int(text.partition(":")[0]) if ":" in text else None
        if n is not None and stored.get(("kept", n)) != text:
            if ("kept", n) in stored or not story.hurt:
                yield f"the flow got {text!r} from kept, stored is {stored.get(('kept', n))!r}"
