"""The driver on a simulated cluster, without and with faults: laws checked after every event.

Flows are larger here than in the thousands of stories of `test_simulated_faults.py`, and fewer.
"""

from __future__ import annotations

import itertools
import random

import pytest

from benchmarks.simulated_workers import Faults
from daskflow.runner.core.graph import CacheNote, LaneKey, Run, Scope, Stage
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.core.states import CACHED, COMPLETED, FINAL, SUCCESSFUL
from tests.unit.simulated_cluster import CheckedCluster

CALM = Faults(error=0, slow=0, loss_every_s=None, large=0, twice=0)
KINDS = {
    "calm": CALM,
    "errors": CALM._replace(error=0.3, exits=0.02),
    "losses": Faults(error=0, loss_every_s=0.05),
    "blind-losses": Faults(error=0.05, loss_every_s=0.05, blind=1.0),
    "known-losses": Faults(error=0.05, loss_every_s=0.03, blind=0.0, retired=0.0),
    "large-values": Faults(error=0.03, loss_every_s=0.04, large=0.9),
    "any-order": Faults(error=0.05, loss_every_s=0.06, twice=0.3, reordered=0.3),
    "everything": Faults(error=0.1, exits=0.01, loss_every_s=0.06, reordered=0.02, broken=0.005),
}
LANES = (LaneKey(), LaneKey(), LaneKey(), LaneKey(priority=5), LaneKey(is_async=True))


def stage(scope: Scope, number: int, chance: random.Random) -> Stage:
    policy = RetryPolicy(
        retries=chance.choice((0, 0, 1, 3)),
        delays_s=chance.choice(((0.0,), (0.01,), (0.0, 0.2))),
        jitter_factor=chance.choice((0.0, 0.5)),
        crash_retries=chance.choice((0, 1, 3)),
    )
    return Stage(scope, f"s{number}", policy, lane_key=chance.choice(LANES))


def random_story(
    seed: int, faults: Faults, *, cancels: bool = False, cached: float = 0.0
) -> CheckedCluster:
    """A random graph, submitted bit by bit by a flow that drops and asks for results."""
    chance = random.Random(seed)
    rules = PackingRules(max_runs=chance.choice((3, 2048)), depth=chance.choice((1, 2)))
    cluster = CheckedCluster(seed, slots=chance.choice((1, 2, 5)), faults=faults, rules=rules)
    scopes = [Scope("a"), Scope("b")]
    stages = [stage(scopes[n % 3 == 2], n, chance) for n in range(chance.randint(1, 6))]
    numbers = itertools.count()
    fan = chance.choice((1, 2, 4))
    held: list[Run] = []

    def submit_some() -> None:
        cluster.submissions -= 1
        for _ in range(chance.choice((1, 3, 12, 30))):
            near = held[-chance.choice((2, 30)) :]
            deps = chance.sample(near, min(len(near), chance.randint(0, fan)))
            if deps and chance.random() < 0.1:
                deps.append(deps[0])  # the same input, once allowed to fail and once not
            allowed = frozenset(s for s in range(len(deps)) if chance.random() < 0.2)
            taken = chance.randint(0, len(deps)) if chance.random() < 0.2 else None
            number = next(numbers)
            run = Run(chance.choice(stages), number, (), tuple(deps), cluster.now, allowed, taken)
            if cached and chance.random() < cached:
                run.cache = CacheNote()
            cluster.submit(run)
            held.append(run)

    def use_some() -> None:
        cluster.submissions -= 1
        for run in chance.sample(held, min(len(held), 4)):
            if chance.random() < 0.5:
                held.remove(run)
                cluster.let_go(run)
            elif run.state in SUCCESSFUL:
                cluster.driver.value_needed(run)

    for _ in range(chance.randint(1, 5)):
        for action in (submit_some, use_some, use_some):
            cluster.submissions += 1
            cluster.after(chance.random() * 0.3, action)
    if cancels:
        cluster.after(chance.random() * 0.2, lambda: cluster.cancel(scopes[0]))
        if chance.random() < 0.3:
            cluster.after(
                chance.random() * 0.3,
                lambda: cluster.driver.refuse(ConnectionError("gone"), cluster.now),
            )
    return cluster


def play(
    seed: int, faults: Faults, *, cancels: bool = False, cached: float = 0.0
) -> CheckedCluster:
    cluster = random_story(seed, faults, cancels=cancels, cached=cached)
    try:
        cluster.run()
    except Exception as error:
        error.add_note(f"seed {seed} of {faults}, cancels={cancels}")
        raise
    return cluster


@pytest.mark.parametrize("kind", KINDS)
def test_every_law_holds_in_random_stories(kind):
    for seed in range(12):
        play(seed, KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_every_law_holds_when_flows_are_cancelled_and_clusters_go(kind):
    for seed in range(8):
        play(seed, KINDS[kind], cancels=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_law_holds_when_runs_are_looked_up_and_answers_come_late_or_twice(kind):
    for seed in range(5):
        play(seed, KINDS[kind], cached=0.6)
        play(seed, KINDS[kind], cached=0.6, cancels=True)


def test_what_is_found_is_not_executed():
    found = 0
    for seed in range(10):
        cluster = play(2000 + seed, CALM._replace(large=0), cached=1.0)
        plain = [run for run in cluster.runs if run.value == ("found", run.number)]
        assert {run.state for run in plain} <= {CACHED}
        assert not any(cluster.executions[run] for run in plain)
        assert all(cluster.lookups[run] <= 1 for run in cluster.runs)
        found += len(plain)
    assert found > 50


def test_without_faults_every_run_is_executed_once():
    for seed in range(20):
        cluster = play(1000 + seed, CALM)
        assert {run.state for run in cluster.runs} == {COMPLETED}
        assert set(cluster.executions.values()) == {1}


def test_the_same_seed_tells_the_same_story():
    first, second = (play(7, KINDS["everything"]) for _ in range(2))
    assert [run.state for run in first.runs] == [run.state for run in second.runs]
    assert first.now == second.now


def test_the_stories_reach_what_they_are_meant_to_reach():
    """Laws that nothing puts to the test prove nothing."""
    reached: set[str] = set()
    for seed in range(40):
        cluster = play(seed, KINDS["everything"])
        for run in cluster.runs:
            reached.add(run.state)
            again = cluster.executions[run] > run.attempt
            reached |= {name for name, seen in (("again", again), ("crash", run.crashes)) if seen}
        reached |= {"late"} if cluster.driver.late else set()
    assert reached >= {*FINAL - {"Cached", "TimedOut", "Cancelled"}, "again", "crash", "late"}


def test_every_law_holds_where_others_make_the_same_results():
    """Parcels come back before they are sent, and some of their runs wait for an answer again."""
    faults = Faults(error=0.05, loss_every_s=0.1, claimed=0.3)
    for seed in range(30):
        play(seed, faults, cancels=seed % 3 == 0, cached=0.7)
