"""Random small flows on a faulty cluster, one a seed.

`python -m tests.unit.fault_stories --seed N` plays one story again and prints it step by step;
`--seeds FROM TO` plays many and prints those that break an invariant.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable, Sequence

from benchmarks.simulated_workers import Faults
from daskflow.runner.core.graph import CacheNote, LaneKey, Run, Scope, Stage
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.core.states import SUCCESSFUL
from tests.unit.faulty_cluster import CALM, FaultyCluster, Trouble

__all__ = ["Violation", "first_violation", "main", "play"]

LANES = (LaneKey(), LaneKey(), LaneKey(), LaneKey(priority=5), LaneKey(is_async=True))
LOSSES = Faults(error=0.1, exits=0.02, loss_every_s=0.08, large=0.5, twice=0.1, reordered=0.1)
KINDS: tuple[tuple[Faults, Trouble], ...] = (
    # everything at once, and then each fault where few others hide what it does
    (
        LOSSES,
        Trouble(
            split=0.3,
            dropped=0.02,
            late=0.03,
            told_twice=0.2,
            zombie=0.3,
            timed_out=0.05,
            hands_back=0.1,
            skewed=0.3,
            scheduler_lost_every_s=0.5,
            clock_set_every_s=0.1,
        ),
    ),
    (LOSSES._replace(loss_every_s=0.04, blind=0.2), Trouble(told_twice=0.5, zombie=0.8, late=0.1)),
    (
        LOSSES._replace(loss_every_s=None, twice=0.5, reordered=0.5),
        Trouble(split=0.7, dropped=0.05, late=0.2, hands_back=0.3),
    ),
    (LOSSES._replace(loss_every_s=0.5), Trouble(scheduler_lost_every_s=0.1, late=0.1, split=0.3)),
    (LOSSES._replace(error=0.4, retired=0.0), Trouble(timed_out=0.3, clock_set_every_s=0.05)),
    (Faults(error=0.2, loss_every_s=None, twice=0.2), CALM._replace(skewed=0.5, late=0.2)),
)


class Violation(AssertionError):
    """A story in which an invariant did not hold; its text says how to play it again."""

    def __init__(self, seed: int, error: Exception) -> None:
        super().__init__(
            f"seed {seed}: {type(error).__name__}: {error}\n"
            f"see it happen: python -m tests.unit.fault_stories --seed {seed}"
        )
        self.seed = seed


class _Flow:
    """What the user of a story does, bit by bit, while the cluster has its troubles."""

    def __init__(self, seed: int, story: list[str] | None) -> None:
        self.chance = chance = random.Random(seed)
        faults, trouble = KINDS[seed % len(KINDS)]
        rules = PackingRules(max_runs=chance.choice((3, 2048)), depth=chance.choice((1, 2)))
        slots = chance.choice((1, 2, 3, 5))
        self.cluster = FaultyCluster(seed, slots, faults, trouble, rules, story)
        self.scopes = [Scope("a"), Scope("b")]
        self.stages = [self._stage(number) for number in range(chance.randint(1, 4))]
        self.cluster.stages = self.stages
        self.cached = chance.choice((0.0, 0.0, 0.5))
        self.fan = chance.choice((1, 2, 4))
        self.held: list[Run] = []
        self.submitted = 0
        self._announce()

    def _stage(self, number: int) -> Stage:
        chance = self.chance
        policy = RetryPolicy(
            retries=chance.choice((0, 0, 1, 3)),
            delays_s=chance.choice(((0.0,), (0.01,), (0.0, 0.2))),
            jitter_factor=chance.choice((0.0, 0.5)),
            crash_retries=chance.choice((0, 1, 3)),
        )
        scope = self.scopes[number % 3 == 2]
        return Stage(scope, f"s{number}", policy, lane_key=chance.choice(LANES))

    def _announce(self) -> None:
        chance, cluster = self.chance, self.cluster
        sizes = chance.choice(((1, 2), (1, 2, 4), (1, 2, 4), (1, 3, 6), (4, 12), (6, 20)))
        for _ in range(chance.choice((1, 2, 4))):
            for action in (self._submit, self._use):
                cluster.submissions += 1
                cluster.after(chance.random() * 0.2, action, sizes)
        if chance.random() < 0.25:
            cluster.after(chance.random() * 0.2, cluster.cancel, self.scopes[0])
        if chance.random() < 0.1:
            cluster.after(chance.random() * 0.3, self._refuse)

    def _submit(self, sizes: Sequence[int]) -> None:
        chance, cluster = self.chance, self.cluster
        cluster.submissions -= 1
        for _ in range(chance.choice(sizes)):
            near = self.held[-chance.choice((2, 20)) :]
            deps = chance.sample(near, min(len(near), chance.randint(0, self.fan)))
            if deps and chance.random() < 0.1:
                deps.append(deps[0])  # the same input, once allowed to fail and once not
            allowed = frozenset(s for s in range(len(deps)) if chance.random() < 0.2)
            taken = chance.randint(0, len(deps)) if chance.random() < 0.2 else None
            stage = chance.choice(self.stages)
            run = Run(stage, self.submitted, (), tuple(deps), cluster.now, allowed, taken)
            self.submitted += 1
            if chance.random() < self.cached:
                run.cache = CacheNote()
            cluster.submit(run)
            self.held.append(run)

    def _use(self, sizes: Sequence[int]) -> None:
        chance, cluster = self.chance, self.cluster
        cluster.submissions -= 1
        for run in chance.sample(self.held, min(len(self.held), 3)):
            what = chance.random()
            if what < 0.4:
                self.held.remove(run)
                cluster.let_go(run)
            elif what < 0.45:
                cluster.driver.cancel_run(run, cluster.now)
            elif run.state in SUCCESSFUL:
                cluster.driver.value_needed(run)

    def _refuse(self) -> None:
        self.cluster.driver.refuse(ConnectionError("gone"), self.cluster.now)


def play(seed: int, story: list[str] | None = None) -> FaultyCluster:
    """Play the story of a seed to its end.

    Raises
    ------
    Violation
        When an invariant does not hold, or the driver itself fails.
    """
    flow = _Flow(seed, story)
    try:
        flow.cluster.run()
    except Exception as error:
        raise Violation(seed, error) from error
    return flow.cluster


def first_violation(seeds: Iterable[int]) -> Violation | None:
    """What the first seed shows that breaks an invariant; None when all hold."""
    for seed in seeds:
        try:
            play(seed)
        except Violation as violation:
            return violation
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what is asked for; 1 when an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.unit.fault_stories", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="print the story of this seed")
    which.add_argument("--seeds", type=int, nargs=2, metavar=("FROM", "TO"), help="play these")
    options = parser.parse_args(arguments)
    if options.seeds:
        broken = [found for n in range(*options.seeds) if (found := first_violation([n]))]
        print(*broken, f"{len(broken)} broken", sep="\n")
        return int(bool(broken))
    story: list[str] = []
    try:
        cluster = play(options.seed, story)
    except Violation as violation:
        print(*story, violation, sep="\n")
        return 1
    print(*story, sep="\n")
    for run in cluster.runs:
        print(run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
