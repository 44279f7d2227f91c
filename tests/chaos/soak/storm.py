"""The flow that the soak hurts: thousands of task runs of every kind, and a journal of them.

Each execution of a body leaves lines in a file outside of daskflow, appended by one write, which a
SIGKILL cannot take back: what the record claims is checked against them.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from daskflow import INPUTS, NO_CACHE, as_completed, flow, get_client, runtime, task, unmapped

JOURNAL = "journal.txt"
CALLED = 1_050_000  # numbers from here on belong to flows that tasks call
BIG = 300_000  # bytes; values of this size stay on their worker
faulthandler.register(signal.SIGUSR1)  # the soak asks a flow that hangs where it is


def note(folder: str, event: str, name: str, n: int) -> None:
    """Append one line to the journal."""
    run = runtime.task_run
    line = f"{time.time():.6f} {event} {name} {n} {os.getpid()} {run.id} {run.attempt}\n"
    file = os.open(Path(folder) / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def lasting(n: int) -> float:
    """Seconds that a body takes: mostly next to nothing, now and then long enough to be hit."""
    return (0.0, 0.001, 0.003)[n % 3] if n % 40 else 0.4


def executed(folder: str, name: str, n: int, seconds: float | None = None) -> None:
    note(folder, "start", name, n)
    time.sleep(lasting(n) if seconds is None else seconds)
    note(folder, "end", name, n)


@task(persist_result=True, cache_policy=NO_CACHE)
def kept(n: int, folder: str) -> str:
    executed(folder, "kept", n)
    return f"{n}:{uuid.uuid4().hex}"


@task(cache_policy=INPUTS - "folder")
def cached(n: int, epoch: int, folder: str) -> int:
    executed(folder, "cached", n)
    return 3 * n


@task
def loose(n: int, folder: str, value: int = 0) -> int:
    executed(folder, "loose", n, 0.0 if n % 50 else 0.2)
    return value + 1


@task(retries=4, retry_delay_seconds=0.05)
def flaky(n: int, folder: str) -> int:
    note(folder, "start", "flaky", n)
    if n % 7 == 6:
        note(folder, "raise", "flaky", n)
        raise ValueError(f"{n} always fails")
    if Random(f"{n}-{runtime.task_run.attempt}").random() < 0.3:
        note(folder, "raise", "flaky", n)
        raise KeyError(n)
    note(folder, "end", "flaky", n)
    return n


@task
async def waits(n: int, folder: str) -> int:
    note(folder, "start", "waits", n)
    await asyncio.sleep(0.05 + n % 10 / 50)
    note(folder, "end", "waits", n)
    return n


@task(crash_retries=0)
def once(n: int, folder: str) -> int:
    executed(folder, "once", n, 0.1)
    return n


def poisonous(n: int, folder: str) -> None:
    note(folder, "start", f"poison{n}", n)
    (lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL))[n % 2]()


POISON = [task(name=f"poison{n}", crash_retries=n)(poisonous) for n in range(3)]


@task
def big(n: int, folder: str) -> bytes:
    executed(folder, "big", n, 0.01)
    return bytes(BIG + n)


@task
def size_of(value: bytes, n: int, folder: str) -> int:
    executed(folder, "size_of", n, 0.02)
    return len(value)


@task
def parent(n: int, folder: str) -> int:
    note(folder, "start", "parent", n)
    total = sum(loose.map([100_000 + 10 * n + i for i in range(5)], unmapped(folder)).result())
    note(folder, "end", "parent", n)
    return total


@flow
def below(n: int, folder: str, count: int) -> int:
    numbers = [n + i for i in range(count)]
    return len(kept.map(numbers, unmapped(folder)).result())


@task
def calls_flow(n: int, folder: str) -> int:
    note(folder, "start", "calls_flow", n)
    found = below(CALLED + 1_000 * n, folder, 20)
    note(folder, "end", "calls_flow", n)
    return found


def outcome(future: Any) -> Any:
    """What became of a run: its value, or the name of the error's type."""
    value = future.result(raise_on_failure=False)
    return type(value).__name__ if isinstance(value, BaseException) else value


Stage = Callable[[], Any]


def stages(folder: str, size: int, epoch: int, poison: bool) -> dict[str, Callable[[], Stage]]:
    """What is submitted, by name; each returns what waits for its ends."""
    here = unmapped(folder)

    def of(futures: Any) -> Stage:
        return lambda: [outcome(future) for future in futures]

    def chains() -> Stage:
        ends = []
        for chain in range(size // 20):
            last = loose.submit(200_000 + 10 * chain, folder)
            for link in range(1, 6):
                last = loose.submit(200_000 + 10 * chain + link, folder, last)
            ends.append(last)
        return of(ends)

    def bigs() -> Stage:
        made = big.map(range(size // 25), here)
        return of(size_of.map(made, range(size // 25), here))

    found: dict[str, Callable[[], Stage]] = {
        "kept": lambda: of(kept.map(range(size), here)),
        "cached": lambda: of(cached.map([n % 60 for n in range(size // 2)], unmapped(epoch), here)),
        "loose": lambda: of(loose.map(range(size), here)),
        "flaky": lambda: of(flaky.map(range(size // 10), here)),
        "waits": lambda: of(waits.map(range(size // 5), here)),
        "once": lambda: of(once.map(range(12), here)),
        "chains": chains,
        "bigs": bigs,
        "parents": lambda: of(parent.map(range(size // 50), here)),
        "calls_flow": lambda: of(calls_flow.map(range(2), here)),
    }
    if poison:
        found["poison"] = lambda: of([each.submit(n, folder) for n, each in enumerate(POISON)])
    return found


def streamed(folder: str, size: int) -> int:
    """Consume a stream of runs and return the sum of their values."""

    def numbers() -> Iterator[int]:
        yield from range(300_000, 300_000 + size)

    ended = as_completed(loose.map(numbers(), unmapped(folder), max_in_flight=200))
    return sum(1 for future in ended if outcome(future) == 1)


@flow
def storm(folder: str, seed: int, size: int, epoch: int, poison: bool, cluster: bool) -> None:
    if cluster:
        place = Path(folder) / "address"
        place.with_suffix(".new").write_text(get_client().scheduler.address)
        place.with_suffix(".new").rename(place)
    order = Random(seed)
    submitted = list(stages(folder, size, epoch, poison).items())
    order.shuffle(submitted)
    waiting = [(name, submit()) for name, submit in submitted]
    answer: dict[str, Any] = {"streamed": streamed(folder, size)}
    answer["below"] = [below(1_000_000 + 1_000 * n, folder, 50) for n in range(2)]
    order.shuffle(waiting)
    for name, ends in waiting:
        answer[name] = ends()
    written = Path(folder) / "answer.new"
    written.write_text(json.dumps(answer))
    written.rename(Path(folder) / "answer.json")
