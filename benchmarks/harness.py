"""Rounds: each contender in turn, the same work, checked and timed alike.

What is timed, of an engine that is warm: from just before the first submit until the last result
is in this process.  Not in the time, for any contender: start of the cluster and of the flow, a
warm-up of the same shape, and the check of the values.  CPU seconds run on until the process tree
is idle, so that releasing keys and writing the record is charged to who caused it.

Contenders take turns within a round and each round begins with another one; a ratio compares two
contenders of one round.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.cpu import Meter
from benchmarks.measurement import Measurement, Timing
from benchmarks.stats import turn_order
from benchmarks.workloads import Surface, Workload

if TYPE_CHECKING:
    from benchmarks.engines import Engine  # loads Dask, which the environments of peers lack

__all__ = ["Case", "WrongValue", "engine_case", "engine_timing", "run_case"]


class WrongValue(Exception):
    """A contender returned something else than the work must give."""


@dataclass(frozen=True)
class Case:
    """One line of the table: contenders that do the same work.

    Parameters
    ----------
    name, title
        For budgets and for people.
    size, runs
        The workload's size and how many task runs it takes.
    contenders
        What to call, by name; the first is the control that ratios refer to, the second the
        subject of budgets.
    most_rounds
        For what takes minutes: no more rounds than these.
    """

    name: str
    title: str
    size: int
    runs: int
    contenders: Mapping[str, Callable[[], Timing]]
    most_rounds: int | None = None


def engine_case(
    workload: Workload, engines: Sequence[Engine], meter: Meter, *, quick: bool
) -> Case:
    """Return the case in which these engines run a workload."""
    size = workload.quick_size if quick else workload.size

    def contender(engine: Engine) -> Callable[[], Timing]:
        return lambda: engine_timing(workload, size, engine, meter)

    return Case(
        workload.name,
        workload.title,
        size,
        workload.runs(size),
        {engine.name: contender(engine) for engine in engines},
    )


def engine_timing(workload: Workload, size: int, engine: Engine, meter: Meter) -> Timing:
    """Have an engine run a workload once, warm, checked and timed."""
    return engine.perform(lambda surface: _timed(workload, size, surface, meter, engine.name))


def run_case(case: Case, rounds: int, *, progress: Callable[[str], None]) -> list[Measurement]:
    """Run every contender once a round and return all measurements.

    Raises `WrongValue` as soon as a contender gives another value than expected.
    """
    measured: list[Measurement] = []
    rounds = min(rounds, case.most_rounds or rounds)
    for round_number in range(rounds):
        for name in turn_order(list(case.contenders), round_number):
            progress(f"{case.name} n={case.size:,} · round {round_number + 1}/{rounds} · {name}")
            wall_s, cpu, runs, figures = case.contenders[name]()
            measured.append(
                Measurement(
                    case.name,
                    case.size,
                    runs or case.runs,
                    name,
                    round_number,
                    wall_s,
                    cpu,
                    os.getloadavg()[0],
                    figures,
                )
            )
    return measured


def _timed(workload: Workload, size: int, surface: Surface, meter: Meter, who: str) -> Timing:
    _run(workload, workload.warm_size, surface, who)
    gc.collect()  # the debris of one contender is not collected at another's cost
    idle = meter.settled()
    began = time.perf_counter()
    value = workload.shape(surface, size)
    ended = time.perf_counter()
    cpu = meter.spent_since(idle, results_at=ended)
    _check(workload, size, value, who)
    return Timing(ended - began, cpu)


def _run(workload: Workload, size: int, surface: Surface, who: str) -> None:
    _check(workload, size, workload.shape(surface, size), who)


def _check(workload: Workload, size: int, value: object, who: str) -> None:
    expected = workload.expected(size)
    if value != expected:
        raise WrongValue(
            f"{who} gave {_short(value)} for {workload.name} of size {size}, "
            f"expected {_short(expected)}"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
