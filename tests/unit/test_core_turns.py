"""core.turns and the lanes: fair between flow runs and tasks, depth first, priorities kept."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.runner.core.graph import LaneKey, Run, Scope, Stage
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.core.turns import Turns
from tests.unit.driver_story import Story

seconds = st.sampled_from([1e-4, 0.001, 0.02, 0.3, 5.0])


def served(turns: Turns, work: dict[Stage, float], rounds: int) -> list[Stage]:
    """Give each stage whose turn it is what one parcel of it holds; all have enough to go on."""
    order = []
    for _ in range(rounds):
        turn = turns.next()
        order.append(turn.stage)
        turns.end(turn, work[turn.stage], more=True)
    return order


@given(st.lists(st.lists(seconds, min_size=1, max_size=4), min_size=1, max_size=4))
def test_flow_runs_and_the_tasks_in_them_get_equal_shares_of_the_work(flows):
    turns, work = Turns(), {}
    for number, parcels in enumerate(flows):
        scope = Scope(f"f{number}")
        for parcel_s in parcels:
            work[stage := Stage(scope, "t", RetryPolicy())] = parcel_s
            turns.put(stage)
    order = served(turns, work, 400)
    largest = max(work.values())
    done: Counter[Stage] = Counter()
    for stage in order:
        done[stage] += work[stage]
    by_flow: Counter[Scope] = Counter()
    for stage, total in done.items():
        by_flow[stage.scope] += total
    for scope in {stage.scope for stage in work}:
        tasks = [done[stage] for stage in work if stage.scope is scope]
        assert max(tasks) - min(tasks) <= largest * 1.001
        assert max(by_flow.values()) - by_flow[scope] <= largest * 1.001


@given(st.lists(seconds, min_size=2, max_size=6), st.integers(1, 60))
def test_who_comes_late_neither_waits_nor_catches_up(parcels, before):
    turns, scope, work = Turns(), Scope("f"), {}
    stages = [Stage(scope, f"t{n}", RetryPolicy()) for n in range(len(parcels))]
    work.update(zip(stages, parcels, strict=True))
    *early, late = stages
    for stage in early:
        turns.put(stage)
    served(turns, work, before)
    turns.put(late)
    order = served(turns, work, 200)
    others_s = sum(work[stage] for stage in order[: order.index(late)])
    assert others_s <= sum(work[stage] for stage in early) * 2
    last = len(order) - 1 - order[::-1].index(late)
    shares = Counter(stage for stage in order[: last + 1] for _ in range(1))
    most = max(shares[stage] * work[stage] for stage in early)
    assert shares[late] * work[late] <= most + 2 * max(parcels)


def test_flow_runs_that_are_over_are_forgotten():
    turns = Turns()
    for number in range(1_000):
        turns.put(stage := Stage(Scope(f"f{number}"), "t", RetryPolicy()))
        turn = turns.next()
        assert turn.stage is stage
        turns.end(turn, 1.0, more=False)
    assert not turns
    assert len(turns._scopes._entries) <= 32


def test_dependents_of_runs_that_have_ended_go_before_new_ones():
    story = Story(slots=1, rules=PackingRules(max_runs=1))
    load, fit, score = (story.task(name, takes_s=1.0) for name in ("load", "fit", "score"))
    for _ in range(5):
        story.submit(score, story.submit(fit, story.submit(load)))
    order = []
    flying = [run for parcel in story.sent() for run in parcel]
    while flying:
        run = flying.pop(0)
        order.append(run.stage.name)
        story.ok(run, run_s=1.0)
        flying += [run for parcel in story.sent() for run in parcel]
    # two are in flight at a time, so two items are under way at a time
    assert order[:6] == ["load", "load", "fit", "fit", "score", "score"]
    for place in range(1, len(order)):
        so_far = Counter(order[:place])
        assert so_far["load"] - so_far["score"] <= 2


def test_a_task_beside_a_deep_graph_gets_its_half():
    story = Story(slots=1, rules=PackingRules(max_runs=1))
    load, fit = story.task("load", takes_s=1.0), story.task("fit", takes_s=1.0)
    other = story.task("other", takes_s=1.0)
    for _ in range(20):
        story.submit(fit, story.submit(load))
        story.submit(other)
    order = []
    flying = [run for parcel in story.sent() for run in parcel]
    while flying and len(order) < 20:
        order.append(flying[0].stage.name)
        story.ok(flying.pop(0), run_s=1.0)
        flying += [run for parcel in story.sent() for run in parcel]
    assert 9 <= Counter(order)["other"] <= 11


@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(1, 30)), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_no_run_is_sent_while_a_more_urgent_one_waits(batches, slots):
    story = Story(slots=slots)
    tasks = {p: story.task(f"p{p}", lane=LaneKey(priority=p), takes_s=0.001) for p in range(-2, 3)}
    flying: list[list[Run]] = []
    while batches or flying:
        if batches:
            priority, count = batches.pop(0)
            for _ in range(count):
                story.submit(tasks[priority])
        parcels = story.sent()
        waiting = max((p for p, task in tasks.items() if task.ready), default=None)
        for parcel in parcels:
            assert waiting is None or parcel[0].stage.lane_key.priority >= waiting
        flying += parcels
        if flying:  # a tiny parcel is done within one round trip
            story.ok(*flying.pop(0))


@pytest.mark.parametrize(
    "lane",
    [
        LaneKey(resources=(("GPU", 1.0),)),
        LaneKey(workers=("tcp://a:1",)),
        LaneKey(is_async=True),
    ],
    ids=["resources", "workers", "async"],
)
def test_a_lane_that_needs_something_else_is_not_held_up_by_a_more_urgent_one(lane):
    story = Story(slots=2)
    urgent = story.task("urgent", lane=LaneKey(priority=9), takes_s=1.0)
    for _ in range(50):
        story.submit(urgent)
    run = story.submit(story.task("elsewhere", lane=lane, takes_s=1.0))
    assert [run] in story.sent()


def test_less_urgent_runs_fill_what_more_urgent_ones_leave():
    story = Story(slots=2)
    urgent = story.submit(story.task("urgent", lane=LaneKey(priority=1), takes_s=60.0))
    task = story.task("rest", takes_s=60.0)
    rest = [story.submit(task) for _ in range(9)]
    assert story.sent() == [[urgent], [rest[0]], [rest[1]], [rest[2]]]


def test_a_parcel_that_waits_for_its_children_does_not_hold_less_urgent_ones_up():
    story = Story(slots=1, rules=PackingRules(depth=1))
    parent = story.submit(story.task("parent", lane=LaneKey(priority=1), takes_s=60.0))
    child = story.submit(story.task("child", takes_s=60.0))
    assert story.sent() == [[parent]]
    assert parent.parcel is not None
    story.driver.parcel_waits(parent.parcel.id)
    assert story.sent() == [[child]]
