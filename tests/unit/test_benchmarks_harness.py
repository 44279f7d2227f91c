"""The benchmark harness: shapes, turns, checks of values, CPU seconds, cold processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from benchmarks import cold, cpu, engines, harness
from benchmarks.bodies import nap, spin
from benchmarks.cpu import CpuSeconds, Idle, Meter
from benchmarks.measurement import Timing
from benchmarks.workloads import WORKLOADS, Surface, Workload
from daskflow.config import get_settings

T = TypeVar("T")
BY_NAME = {workload.name: workload for workload in WORKLOADS}
# bodies that take their time, without it
INSTANT: dict[Callable[..., Any], Callable[..., Any]] = {nap: int, spin: float}
NOTHING = CpuSeconds(0.0, 0.0, 0.0, 0.0)


class Eager:
    """An engine that runs everything at once; a future is its value."""

    def __init__(self, name: str = "eager", *, wrong: bool = False) -> None:
        self.name = name
        self.wrong = wrong
        self.runs = self.said = 0

    def perform(self, work: Callable[[Surface], T]) -> T:
        return work(self)

    def submitter(self, function: Callable[..., Any], *, retries: int = 0) -> Callable[..., Any]:
        called = INSTANT.get(function, function)

        def submit(*args: Any) -> Any:
            self.runs += 1
            for _ in range(retries):
                with suppress(ConnectionError):
                    return called(*args)
            return called(*args)

        return submit

    def mapper(
        self, function: Callable[..., Any], *, retries: int = 0
    ) -> Callable[[Iterable[Any]], Sequence[Any]]:
        submit = self.submitter(function, retries=retries)
        return lambda items: [submit(item) for item in items]

    def result(self, future: Any) -> Any:
        return None if self.wrong else future

    def say(self, i: int) -> int:
        self.said += 1
        return i

    def lines(self, expected: int) -> int:
        return self.said

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        return [None for _ in futures] if self.wrong else list(futures)


class StillMeter(Meter):
    """A meter that neither waits nor looks."""

    def settled(self, *, within_s: float = 0.0) -> Idle:
        return Idle(0.0, NOTHING, NOTHING)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
@pytest.mark.parametrize("size", ["size", "quick_size", "warm_size"])
def test_workload_gives_what_it_expects_in_as_many_runs_as_it_says(
    workload: Workload, size: str
) -> None:
    engine, n = Eager(), getattr(workload, size)
    assert workload.shape(engine, n) == workload.expected(n)
    assert engine.runs == workload.runs(n)


def test_issue_sizes_give_the_known_values() -> None:
    chain, tree = BY_NAME["W2.chain"], BY_NAME["W3.tree"]
    assert (chain.expected(chain.size), tree.expected(tree.size)) == (300, 523_776)
    assert tree.runs(tree.size) == 1_023


def _case(names: Sequence[str], called: list[str]) -> harness.Case:
    def contender(name: str) -> Callable[[], Timing]:
        def run() -> Timing:
            called.append(name)
            return Timing(1.0, NOTHING)

        return run

    return harness.Case("case", "title", 1, 1, {name: contender(name) for name in names})


def test_each_contender_runs_once_a_round_and_takes_its_turn_to_go_first() -> None:
    called: list[str] = []
    measured = harness.run_case(_case("abc", called), 3, progress=lambda _: None)
    assert called == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert [(m.contender, m.round) for m in measured[:4]] == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
        ("b", 1),
    ]


def test_progress_names_case_round_and_contender() -> None:
    said: list[str] = []
    harness.run_case(_case(["dask"], []), 2, progress=said.append)
    assert said == ["case n=1 · round 1/2 · dask", "case n=1 · round 2/2 · dask"]


def test_quick_case_runs_the_quick_size_after_a_warm_up() -> None:
    workload, engine = BY_NAME["W1.map"], Eager()
    case = harness.engine_case(workload, [engine], StillMeter(), quick=True)
    (measured,) = harness.run_case(case, 1, progress=lambda _: None)
    assert (measured.size, measured.runs) == (workload.quick_size, workload.quick_size)
    assert engine.runs == workload.quick_size + workload.warm_size


def test_wrong_value_stops_the_benchmark_and_names_who_gave_it() -> None:
    engines = [Eager("good"), Eager("bad", wrong=True)]
    case = harness.engine_case(BY_NAME["W2.chain"], engines, StillMeter(), quick=True)
    with pytest.raises(harness.WrongValue, match=r"bad gave None for W2\.chain of size 20"):
        harness.run_case(case, 1, progress=lambda _: None)


def test_time_does_not_include_the_start_of_an_engine() -> None:
    class SlowToStart(Eager):
        def perform(self, work: Callable[[Surface], T]) -> T:
            _burn(0.3)
            return super().perform(work)

    case = harness.engine_case(BY_NAME["W2.chain"], [SlowToStart()], StillMeter(), quick=True)
    (measured,) = harness.run_case(case, 1, progress=lambda _: None)
    assert measured.wall_s < 0.15


# ---- settings of the subject


def test_settings_keep_a_benchmark_away_from_the_store_of_the_person_who_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASKFLOW_STORE__URL", "sqlite:////theirs/runs.db")
    with engines.overridden(engines.settings(tmp_path, record=False)):
        during = get_settings()
    assert (during.store.url, during.store.record) == (f"sqlite:///{tmp_path}/runs.db", False)
    assert (get_settings().store.url, get_settings().store.record) == (
        "sqlite:////theirs/runs.db",
        True,
    )


def test_settings_are_put_back_when_the_benchmark_fails(tmp_path: Path) -> None:
    with pytest.raises(harness.WrongValue), engines.overridden(engines.settings(tmp_path)):
        raise harness.WrongValue
    assert "DASKFLOW_STORE__RECORD" not in os.environ


# ---- CPU seconds


def _burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@contextmanager
def _burning_child(seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that has burnt so much CPU and waits to be ended."""
    burn = f"import time\nwhile time.process_time() < {seconds}: pass\n"
    with subprocess.Popen(
        [sys.executable, "-c", f"{burn}print('done', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        yield child
        child.communicate("\n", timeout=30)


def test_meter_charges_this_process_to_the_driver() -> None:
    meter = Meter()
    before = meter.sample()
    _burn(0.2)
    spent = meter.sample().since(before)
    assert spent.driver == pytest.approx(0.2, abs=0.1)
    assert spent.workers == 0


def test_meter_tells_workers_from_other_children() -> None:
    with _burning_child(0.2) as child:
        as_worker, as_other = Meter([child.pid]).sample(), Meter().sample()
    assert as_worker.workers >= 0.2
    assert as_other.workers == 0
    assert as_other.rest >= 0.2


def test_meter_does_not_charge_its_own_looking() -> None:
    meter = Meter()
    before = meter.sample()
    began = time.thread_time()
    for _ in range(20):
        meter.sample()
    looked_s = time.thread_time() - began
    assert meter.sample().since(before).driver < 0.5 * looked_s


def test_work_that_goes_on_after_the_results_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_WINDOW_S", 0.5)  # a busy machine may stop a thread for 0.1 s
    meter = Meter()
    idle = meter.settled()
    late = threading.Thread(target=_burn, args=(0.4,))
    late.start()
    spent = meter.spent_since(idle, results_at=time.perf_counter())
    late.join()
    assert spent.total > 0.3


def test_heartbeats_of_the_wait_for_quiet_are_not_charged() -> None:
    beating = CpuSeconds(0.0, 0.0, workers=0.1, rest=0.0)  # a second

    class Beating(Meter):
        def settled(self, *, within_s: float = 0.0) -> Idle:
            return Idle(at=12.0, cpu=CpuSeconds(0.0, 0.0, 3.2, 0.0), rate=beating)

    began = Idle(at=5.0, cpu=CpuSeconds(0.0, 0.0, 1.0, 0.0), rate=beating)
    assert Beating().spent_since(began, results_at=10.0).workers == pytest.approx(2.0)


# ---- cold processes


def test_cold_contender_is_timed_and_its_cpu_counted(tmp_path: Path) -> None:
    case = _cold_case(tmp_path, "while __import__('time').process_time() < 0.2: pass")
    (measured,) = harness.run_case(case, 1, progress=lambda _: None)
    assert measured.wall_s >= 0.15
    assert measured.cpu.total >= 0.2


@pytest.mark.parametrize(
    "code",
    [pytest.param("raise SystemExit(3)", id="exit-code"), pytest.param("print(1)", id="output")],
)
def test_cold_contender_that_does_something_else_is_a_wrong_value(
    tmp_path: Path, code: str
) -> None:
    with pytest.raises(harness.WrongValue, match="expected 0 and ''"):
        harness.run_case(_cold_case(tmp_path, code), 1, progress=lambda _: None)


def _cold_case(folder: Path, code: str) -> harness.Case:
    command = [sys.executable, "-c", code]
    return harness.Case(
        "cold", "title", 1, 1, {"python": cold.process_contender(command, {}, folder, "")}
    )


def test_cold_cases_have_the_control_first_and_leave_the_subject_out_on_request(
    tmp_path: Path,
) -> None:
    both = {case.name: list(case.contenders) for case in cold.cold_cases(tmp_path)}
    alone = cold.cold_cases(tmp_path, controls_only=True)
    assert both["W7.submit"] == ["dask", "daskflow"]
    assert set(both) == set(cold.TITLES)
    assert all(len(case.contenders) == 1 for case in alone)
