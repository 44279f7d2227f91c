"""What the soak does to a flow: drawn from the seed and the flow's number, nothing else.

So one flow of a soak can be done again by itself.  What exactly a fault hits depends on the moment
all the same: processes are not simulated here (for that there is `tests/unit/test_simulated_*`).
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

__all__ = ["Fault", "FlowPlan", "plan_flow"]

# kind of fault → how often, on clusters that flows start, on foreign ones, on threads
WEIGHTS = {
    "kill_worker": (6, 6, 0),
    "kill_all_workers": (1, 1, 0),
    "freeze": (3, 3, 0),
    "freeze_long": (0, 1, 0),
    "retire": (1, 2, 0),
    "kill_scheduler": (0, 2, 0),
    "kill_flow": (2, 2, 3),
    "interrupt": (1, 1, 1),
    "terminate": (1, 1, 1),
    "lock_store": (2, 2, 2),
}
PLACES = ("own", "foreign", "threads")
MOST = {"kill_scheduler": 1, "kill_flow": 2, "interrupt": 1, "terminate": 1, "retire": 1}
MOST |= {"kill_all_workers": 1, "freeze_long": 1}


class Fault(NamedTuple):
    """One fault, so many seconds after the flow has begun to execute."""

    at_s: float
    kind: str
    for_s: float  # how long it lasts, where it lasts
    draw: int  # which worker, which entry


class FlowPlan(NamedTuple):
    """One flow and what happens to it."""

    number: int
    seed: int
    place: str  # "own", "foreign" or "threads"
    workers: int
    size: int
    poison: bool
    damage: int  # entries of the cache that are hurt before each start of its process
    faults: tuple[Fault, ...]


def plan_flow(seed: int, number: int, most_size: int = 1000) -> FlowPlan:
    """Return the plan of the soak's flow `number`."""
    draw = Random(f"{seed}-{number}")
    place = draw.choices(PLACES, (5, 5, 1))[0]
    which = PLACES.index(place)
    weights = {kind: each[which] for kind, each in WEIGHTS.items() if each[which]}
    faults, at_s, had = [], 0.0, dict.fromkeys(WEIGHTS, 0)
    for _ in range(draw.randint(2, 9)):
        at_s += draw.expovariate(1 / 1.2)
        kind = draw.choices(list(weights), list(weights.values()))[0]
        had[kind] += 1
        if had[kind] > MOST.get(kind, 99):
            continue
        for_s = 12.0 if kind == "freeze_long" else draw.uniform(0.2, 3.0)
        faults.append(Fault(round(at_s, 3), kind, round(for_s, 3), draw.randrange(1000)))
    return FlowPlan(
        number,
        draw.randrange(10**6),
        place,
        draw.randint(2, 3),
        draw.randint(most_size // 3, most_size),
        poison=place != "threads" and draw.random() < 0.7,
        damage=draw.choice((0, 0, 1, 5)),
        faults=tuple(faults),
    )
