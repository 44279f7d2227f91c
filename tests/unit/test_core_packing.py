"""core.packing and core.lanes: what shares a parcel, for any graph and any number of slots."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import LaneKey, Outcome, Run, Scope, Stage
from daskflow.runner.core.packing import PackingRules, full_parcel_s, parcel_size
from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.core.states import COMPLETED
from tests.unit.driver_story import Story

keys = st.sampled_from(
    [
        LaneKey(),
        LaneKey(priority=3),
        LaneKey(is_async=True),
        LaneKey(resources=(("GPU", 1.0),)),
        LaneKey(workers=("w1",)),
    ]
)
durations = st.one_of(st.none(), st.sampled_from([0.0, 1e-5, 1e-3, 0.02, 0.3, 10.0]))
rules_ = st.builds(
    PackingRules,
    target_s=st.sampled_from([0.01, 0.05]),
    floor_s=st.sampled_from([0.0, 0.005]),
    max_runs=st.sampled_from([1, 7, 2048]),
    depth=st.integers(1, 3),
    async_runs_per_slot=st.sampled_from([1, 10, 5_000]),
    overhead_s=st.just(1e-5),
    scheduler_s=st.sampled_from([0.0, 0.0012]),
    scheduler_load=st.just(0.5),
    parcel_bytes=st.just(1_000),
)


@st.composite
def graphs(draw):
    """Stages, and for each run its stage and the places of its inputs among the runs before."""
    stages = draw(st.lists(st.tuples(keys, durations), min_size=1, max_size=4))
    size = draw(st.integers(1, 60))
    runs = []
    for place in range(size):
        near = st.integers(max(0, place - 5), place - 1) if place else st.nothing()
        inputs = draw(st.lists(near, max_size=2)) if place else []
        runs.append((draw(st.integers(0, len(stages) - 1)), tuple(inputs)))
    return stages, runs


def submitted(driver, graph):
    stage_specs, specs = graph
    scope, stages, runs = Scope("f"), [], []
    for number, (key, known) in enumerate(stage_specs):
        stage = Stage(scope, f"s{number}", RetryPolicy(), lane_key=key)
        stage.estimate.seconds = known
        stages.append(stage)
    for number, (place, inputs) in enumerate(specs):
        run = Run(stages[place], number, (), tuple(runs[i] for i in inputs), 0.0)
        runs.append(run)
        driver.submit(run)
    return runs


@settings(max_examples=150)
@given(graphs(), st.integers(1, 9), rules_)
def test_any_graph_is_sent_once_in_order_and_within_the_rules(graph, slots, rules):
    driver = Driver(rules)
    driver.slots = slots
    runs = submitted(driver, graph)
    sent: list[Run] = []
    while True:
        driver.pack(0.0)
        parcels = driver.take().send
        check_window(driver, slots, rules)
        check_no_idle_slot(driver, runs, slots, rules)
        if not parcels:
            break
        for parcel in parcels:
            check_parcel(parcel, sent, slots, rules)
            sent += parcel.runs
        for parcel in parcels:
            outcomes = [Outcome(run.number, True, 0.0, 0.001, 1) for run in parcel.runs]
            driver.outcomes(parcel.id, outcomes, "w", 1)
            driver.parcel_done(parcel.id)
    assert sorted(run.number for run in sent) == [run.number for run in runs]
    assert {run.state for run in runs} == {COMPLETED}


def check_parcel(parcel, sent_before, slots, rules):
    assert 1 <= len(parcel.runs) <= rules.max_runs
    assert {run.stage.lane_key for run in parcel.runs} == {parcel.lane.key}
    before = set(sent_before)
    for run in parcel.runs:
        assert run not in before
        assert before.issuperset(run.deps), f"{run!r} precedes its input"
        before.add(run)
    known = [run.stage.estimate.seconds for run in parcel.runs]
    if None not in known and len(known) > 1 and not parcel.lane.key.is_async:
        assert sum(known) <= full_parcel_s(slots, rules, waiting_s=math.inf)


def check_window(driver, slots, rules):
    for lane in driver._lanes._order:
        if lane.key.is_async:
            riders = sum(
                bool(run.waiting)
                for parcel in driver.parcels.values()
                for run in parcel.runs
                if parcel.lane is lane
            )
            assert lane.runs - riders <= rules.async_runs_per_slot * slots
        else:
            assert lane.parcels <= rules.depth * slots


def as_urgent(driver, lane):
    """The lane and those that differ from it in a higher priority alone."""
    mine = lane.key._replace(priority=0)
    return [
        other
        for other in driver._lanes._order
        if other.key._replace(priority=0) == mine and other.key.priority >= lane.key.priority
    ]


def check_no_idle_slot(driver, runs, slots, rules):
    """After packing, ready runs wait only where the window is full or enough probes are out."""
    for stage in {run.stage for run in runs if run.stage.ready}:
        lane = driver._lanes._lanes[stage.lane_key]
        flying = as_urgent(driver, lane)
        parcels = sum(each.parcels for each in flying)
        if lane.key.is_async:
            runs_flying = sum(each.runs for each in flying)
            busy = runs_flying >= rules.async_runs_per_slot * slots or lane.parcels >= slots
        else:
            busy = parcels >= rules.depth * slots or stage.probing >= rules.depth * slots
        assert busy, f"{stage.name} has {len(stage.ready)} ready runs and slots are idle"


@given(st.integers(1, 400), st.integers(1, 16), st.sampled_from([1e-6, 1e-4, 0.004, 0.02, 0.2]))
def test_runs_of_known_duration_occupy_every_slot(count, slots, known):
    story = Story(slots=slots)
    task = story.task(takes_s=known)
    for _ in range(count):
        story.submit(task)
    parcels = story.sent()
    floor = max(1, int(story.driver.rules.floor_s / (known + story.driver.rules.overhead_s)))
    assert len(parcels) >= min(slots, -(-count // floor))


@given(st.integers(1, 9))
def test_runs_of_unknown_duration_go_alone_as_probes(slots):
    story = Story(slots=slots)
    task = story.task()
    runs = [story.submit(task) for _ in range(100)]
    assert story.sent() == [[run] for run in runs[: 2 * slots]]
    assert story.sent() == []
    story.ok(runs[0], run_s=1e-5)
    assert len(story.sent()[0]) > 1


def test_the_tail_of_a_map_is_split_among_the_slots():
    story = Story(slots=4)
    task = story.task(takes_s=0.01)
    for _ in range(20):
        story.submit(task)
    sizes = [len(parcel) for parcel in story.sent()]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 3
    assert sizes[-1] == 1
    assert len(sizes) == 8


@pytest.mark.parametrize("known", [None, 1e-5], ids=["unknown", "short"])
def test_a_chain_goes_in_one_parcel(known):
    story = Story(slots=4)
    runs = story.chain(story.task(takes_s=known), 300)
    assert story.sent() == [runs]


def test_a_chain_of_long_runs_does_not_ride():
    story = Story(slots=4)
    runs = story.chain(story.task(takes_s=1.0), 3)
    assert story.sent() == [runs[:1]]


def test_a_fan_out_of_unknown_duration_is_spread_and_one_rides():
    story = Story(slots=4)
    source = story.submit(story.task("source"))
    leaves = [story.submit(story.task("leaf"), source) for _ in range(6)]
    assert story.sent() == [[source, leaves[0]]]


def test_a_dependent_with_an_input_elsewhere_does_not_ride():
    story = Story(slots=4)
    one, other = story.submit(story.task()), story.submit(story.task("b", lane=LaneKey(priority=1)))
    both = story.submit(story.task("c"), one, other)
    assert [one] in story.sent()
    assert both.parcel is None


def test_riders_never_overfill_a_parcel():
    story = Story(slots=1, rules=PackingRules(max_runs=3))
    task = story.task(takes_s=1e-5)
    parents = [story.submit(task) for _ in range(9)]
    for parent in parents:
        story.submit(story.task("b"), parent)
    assert [len(parcel) for parcel in story.sent()] == [3, 3]


def test_stages_of_one_lane_take_turns():
    story = Story(slots=2)
    first, second = story.task("a", takes_s=1.0), story.task("b", takes_s=1.0)
    a = [story.submit(first) for _ in range(50)]
    b = [story.submit(second) for _ in range(2)]
    assert story.sent() == [[a[0]], [b[0]], [a[1]], [b[1]]]


def test_an_urgent_run_is_sent_though_others_fill_their_window():
    story = Story(slots=1)
    slow = story.task("slow", takes_s=60.0)
    for _ in range(10):
        story.submit(slow)
    story.sent()
    urgent = story.submit(story.task("urgent", lane=LaneKey(priority=1)))
    assert story.sent() == [[urgent]]


def test_more_urgent_lanes_are_packed_first():
    story = Story(slots=1)
    runs = [story.submit(story.task(lane=LaneKey(priority=place))) for place in (0, 5, -5, 3)]
    assert story.sent() == [[runs[1]], [runs[3]]]
    story.ok(runs[3])
    assert story.sent() == [[runs[0]]]
    story.ok(runs[1], runs[0])
    assert story.sent() == [[runs[2]]]


@given(
    st.integers(25, 3_000),
    st.integers(1, 100_000),
    st.floats(0.001, 5.0),
    st.floats(0.0, 3.0),
)
def test_parcels_of_many_slots_are_neither_too_few_to_share_nor_too_many_to_hand_out(
    slots, ready, known, flying_per_slot_s
):
    rules = PackingRules()
    cost_s, flying_s = known + rules.overhead_s, flying_per_slot_s * slots

    def size(count):
        stage = Stage(Scope("f"), "t", RetryPolicy())
        stage.estimate.seconds = known
        run = Run(stage, 0, None, (), 0.0)
        stage.ready.extend([run] * count)
        return parcel_size(stage, count * cost_s, flying_s, slots, rules)

    most = size(ready)
    assert 1 <= most <= min(ready, rules.max_runs)
    assert most == 1 or most * cost_s <= full_parcel_s(slots, rules, ready * cost_s)
    # while parcels of this size are handed out, each slot gets one before it has done its own
    enough_s = slots * rules.scheduler_s
    work_s = ready * cost_s + flying_s
    at_once_s = math.sqrt(work_s * rules.scheduler_s)  # where there are more slots than parcels
    assert most in (ready, rules.max_runs) or (most + 1) * cost_s > min(enough_s, at_once_s)
    assert size(max(1, ready // 2)) <= most  # less work, no larger parcels


def test_a_stage_that_was_emptied_by_a_cancelled_flow_hides_no_other():
    story = Story(slots=1)
    gone = Scope("gone")
    for name, number in itertools.product("ab", range(2)):
        story.submit(story.task(f"{name}{number}", scope=gone))
    run = story.submit(story.task("stays"))
    story.driver.cancel(gone, story.now)
    assert story.sent() == [[run]]


def test_async_runs_ride_together_without_probes_and_all_at_once():
    story = Story(slots=2)
    tasks = [story.task(lane=LaneKey(is_async=True)) for _ in range(2)]
    for task in tasks:
        for _ in range(100):
            story.submit(task)
    sent = story.sent()
    assert sum(len(parcel) for parcel in sent) == 200
    assert [len(parcel) for parcel in sent[:1]] == [50]
    assert len(sent) <= 4


def test_async_runs_of_one_task_are_spread_evenly():
    story = Story(slots=2)
    task = story.task(lane=LaneKey(is_async=True))
    for _ in range(101):
        story.submit(task)
    assert [len(parcel) for parcel in story.sent()] == [51, 50]


def test_the_window_of_async_runs_counts_runs():
    story = Story(slots=2, rules=PackingRules(async_runs_per_slot=10))
    task = story.task(lane=LaneKey(is_async=True))
    for _ in range(100):
        story.submit(task)
    assert sum(len(parcel) for parcel in story.sent()) == 20
    assert story.sent() == []


def test_a_clock_that_goes_back_on_a_worker_makes_runs_short_and_no_more():
    story = Story(slots=2)
    task = story.task()
    first, *rest = [story.submit(task) for _ in range(5)]
    story.sent()
    story.ok(first, run_s=-3_600.0)
    assert task.estimate.seconds == 0.0
    assert [run for parcel in story.sent() for run in parcel] == rest[3:]


def test_nothing_is_sent_while_there_is_no_worker():
    story = Story(slots=0)
    run = story.submit(story.task())
    assert story.sent() == []
    story.driver.slots = 1
    assert story.sent() == [[run]]
