"""What packing makes of whole flows on a simulated cluster without faults and without latency."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated_cluster import SimulatedCluster
from benchmarks.simulated_workers import Faults, Planned
from daskflow.runner.core.graph import Outcome, Parcel, Run, Scope, Stage
from daskflow.runner.core.packing import PackingRules, probes_by
from daskflow.runner.core.retries import RetryPolicy
from tests.unit.driver_story import Large, Story

NO_FAULTS = Faults(
    error=0, slow=0, loss_every_s=None, blind=0, retired=0, large=0, twice=0, partial=0
)


class Flow(SimulatedCluster):
    """One flow of runs whose durations the test gives.

    Parameters
    ----------
    slots : int
    takes_s : callable
        Seconds that a run takes.
    rules : PackingRules, optional
    faults : Faults
    """

    def __init__(
        self,
        slots: int,
        takes_s: Callable[[Run], float],
        rules: PackingRules | None = None,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self.takes_s = takes_s
        self.scope = Scope("f")
        self.submitted: list[Run] = []
        self.ended_at: dict[Run, float] = {}
        self.sizes: list[int] = []
        self.live = 0
        self.live_peak = 0
        super().__init__(1, slots, faults, rules)

    def task(self, name: str, takes_s: float | None = None) -> Stage:
        task = Stage(self.scope, name, RetryPolicy())
        task.estimate.seconds = takes_s
        return task

    def add(self, task: Stage, *deps: Run, held: bool = True) -> Run:
        run = Run(task, len(self.submitted), None, deps, self.now)
        run.held = held
        self.submitted.append(run)
        self.submit(run)
        return run

    def duration(self, run: Run) -> float:
        return self.takes_s(run)

    def latency(self) -> float:
        return 0.0

    def on_sent(self, parcel: Parcel) -> None:
        self.sizes.append(len(parcel.runs))

    def on_executed(self, done: Sequence[Planned], until: float) -> None:
        for planned in done:
            self.ended_at[planned.run] = planned.end

    def on_turn(self) -> None:
        self.live = sum(
            run.value is not None and (run.dependents > 0 or run.held) for run in self.submitted
        )
        self.live_peak = max(self.live_peak, self.live)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 2_000),
    st.integers(1, 16),
    st.sampled_from([0.0005, 0.003, 0.011, 0.04, 0.3]),
)
def test_uniform_runs_take_at_most_a_twentieth_longer_than_the_best_split(count, slots, run_s):
    flow = Flow(slots, lambda run: run_s)
    flow.on_turn = lambda: None  # type: ignore[method-assign]
    task = flow.task("t", run_s)
    for _ in range(count):
        flow.add(task)
    flow.run()
    best_s = math.ceil(count / slots) * run_s
    assert flow.now <= 1.05 * best_s + flow.driver.rules.floor_s


def test_no_tiny_run_waits_for_a_long_one():
    flow = Flow(2, lambda run: 5.0 if run.number == 3_000 else 0.0005)
    flow.on_turn = lambda: None  # type: ignore[method-assign]
    task = flow.task("t")
    runs = [flow.add(task) for _ in range(10_000)]
    flow.run()
    tiny = [flow.ended_at[run] for run in runs if run.number != 3_000]
    assert max(tiny) < 0.0005 * 10_000 * 1.1
    assert flow.now < 5.0 + 2.0  # and it starts as early as its turn is


def test_sizes_that_change_within_a_map_are_followed():
    flow = Flow(1, lambda run: 0.001 if run.number < 2_000 else 0.04)
    flow.on_turn = lambda: None  # type: ignore[method-assign]
    task = flow.task("t")
    for _ in range(2_300):
        flow.add(task)
    flow.run()
    # 50 at a time, then within two parcels (two more are on their way) a quarter of a second's
    # work, and less of it towards the end
    first_long = next(n for n in range(len(flow.sizes)) if sum(flow.sizes[: n + 1]) > 2_000)
    assert max(flow.sizes[5 : first_long - 1]) >= 40
    assert max(flow.sizes[first_long + 4 :]) <= 6
    assert max(flow.sizes[-4:]) <= 2


def test_parcels_grow_with_the_work_that_waits_and_shrink_with_it():
    rules, largest = PackingRules(), {}
    for many in (40, 400):
        flow = Flow(2, lambda run: 0.01)
        task = flow.task("t", takes_s=0.01)
        for _ in range(many):
            flow.add(task)
        flow.run()
        largest[many] = 0.01 * max(flow.sizes)
        assert max(flow.sizes[-2:]) <= 5
        assert flow.now <= many * 0.01 / 2 * 1.02 + rules.target_s
    assert 0.04 <= largest[40] <= 2 * rules.target_s
    assert 0.2 <= largest[400] <= rules.growth * rules.target_s


def test_a_wide_and_deep_graph_goes_depth_first_so_that_few_values_are_live():
    width, depth, slots = 200, 6, 2
    flow = Flow(slots, lambda run: 0.02)
    tasks = [flow.task(f"t{level}") for level in range(depth)]
    row = [flow.add(tasks[0], held=False) for _ in range(width)]
    for task in tasks[1:]:
        row = [flow.add(task, run, held=False) for run in row]
    flow.run()
    assert len(flow.ended_at) == width * depth
    assert flow.live_peak <= 8 * slots * flow.driver.rules.depth


def test_a_wide_graph_whose_branches_meet_goes_branch_by_branch():
    flow = Flow(2, lambda run: 0.02)
    leaf, middle, top = flow.task("leaf"), flow.task("middle"), flow.task("top")
    tops = []
    for _ in range(30):
        middles = [
            flow.add(middle, *[flow.add(leaf, held=False) for _ in range(4)], held=False)
            for _ in range(4)
        ]
        tops.append(flow.add(top, *middles, held=False))
    flow.run()
    # 480 leaves: their values are used up while others are still to be made
    assert flow.live_peak <= 60


def test_runs_that_return_much_go_alone_once_that_is_known():
    story = Story(slots=2)
    task = story.task(takes_s=0.0001)
    runs = [story.submit(task) for _ in range(500)]
    first = story.sent()
    assert all(len(parcel) > 50 for parcel in first)
    parcel = runs[0].parcel
    assert parcel is not None
    story.driver.outcomes(
        parcel.id,
        [Outcome(r.number, True, 0.0, 1e-4, Large(), result_bytes=50 << 20) for r in first[0]],
        "w",
        1,
    )
    story.driver.parcel_done(parcel.id)
    assert {len(parcel) for parcel in story.sent()} == {1}


def test_what_a_parcel_returns_is_bounded_for_runs_that_return_some():
    story = Story(slots=1, rules=PackingRules(parcel_bytes=1 << 20))
    task = story.task(takes_s=0.0001)
    task.estimate.result_bytes = (1 << 20) / 10
    for _ in range(500):
        story.submit(task)
    assert {len(parcel) for parcel in story.sent()} == {10}


def test_parcels_of_a_large_cluster_hold_what_its_scheduler_can_keep_up_with():
    rules = PackingRules()
    sent = {}
    for slots in (2, 20, 200):
        story = Story(slots=slots)
        task = story.task(takes_s=0.01)
        for _ in range(20_000):
            story.submit(task)
        first = story.sent()[0]
        sent[slots] = len(first) * (0.01 + rules.overhead_s)
    assert sent[2] <= rules.growth * rules.target_s
    assert sent[20] <= rules.growth * rules.target_s
    assert sent[200] >= 200 * rules.scheduler_s


def test_probes_come_as_fast_as_the_scheduler_hands_them_out():
    story = Story(slots=1_000)
    task = story.task()
    runs = [story.submit(task) for _ in range(5_000)]
    at_once = len(story.sent())
    assert at_once == probes_by(0.0, story.driver.rules)
    due = story.driver.next_due()
    assert due is not None
    more = len(story.later(due - story.now))
    assert 0 < more <= (due - 100.0) / story.driver.rules.scheduler_s + 1
    story.ok(runs[0], run_s=60.0)
    assert len(story.sent()) == 2_000 - at_once - more + 1
    assert story.driver.next_due() is None
