"""A flow that is killed and resumed; each execution of a body leaves a file of its own."""

from __future__ import annotations

import uuid
from pathlib import Path

from daskflow import NO_CACHE, flow, task


def ran(folder: str, name: str, n: int) -> None:
    (Path(folder) / f"{name}-{n}-{uuid.uuid4().hex}").touch()


@task(persist_result=True)
def double(n: int, folder: str) -> int:
    ran(folder, "double", n)
    return 2 * n


@task(persist_result=True, cache_policy=NO_CACHE)
def draw(n: int, folder: str) -> str:
    """Equal calls have results of their own."""
    ran(folder, "draw", n)
    return uuid.uuid4().hex


@task
def loose(n: int, folder: str) -> int:
    ran(folder, "loose", n)
    return n + 1


@task(persist_result=True)
def total(parts: list[int], folder: str) -> int:
    ran(folder, "total", len(parts))
    return sum(parts)


@flow
def below(folder: str, count: int) -> int:
    parts = double.map(range(100, 100 + count), folder)
    return total.submit(parts, folder).result()


@flow
def whole(folder: str, count: int) -> dict[str, object]:
    doubled = double.map(range(count), folder)
    drawn = [draw.submit(7, folder) for _ in range(3)]
    one_more = loose.map(doubled, folder)
    under = below(folder, 2)
    summed = total(one_more.result(), folder)
    return {"sum": summed, "below": under, "drawn": len({each.result() for each in drawn})}
