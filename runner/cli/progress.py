"""What `daskflow run` shows while a flow runs: figures per task, live or as plain lines.

A view is fed whole snapshots by `update`, so a missed one costs nothing.  `PlainView` writes one
line when a stage begins and one when it has ended; the live block is in `live.py`.  Counts are
polled from a thread five times a second (`watch`): the engine does no work for a viewer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, NamedTuple, Protocol

from daskflow.runner.cli.text import one_line

__all__ = ["PlainView", "ProgressView", "StageProgress", "merge_stages", "stage_line", "watch"]

_POLL_S = 0.2
_SETTLE_S = 1.0


class StageProgress(NamedTuple):
    """The runs of one task at one moment."""

    task: str
    total: int  # task runs submitted so far
    done: int  # ended well, `cached` included
    failed: int  # ended badly: failed, timed out, crashed
    cached: int  # of `done`, those that the cache answered
    retries: int
    running: int
    not_run: int = 0  # cancelled, or an input ended badly

    @property
    def ended(self) -> int:
        """How many runs have reached a final state."""
        return self.done + self.failed + self.not_run


class ProgressView(Protocol):
    """Something that shows the stages of the flow runs in this process."""

    def update(self, stages: Sequence[StageProgress]) -> None:
        """Show these figures; they replace what was known of the same tasks."""

    def close(self) -> None:
        """Show what is known for the last time."""


def stage_line(stage: StageProgress) -> str:
    """Return the figures of a stage in words: ``clean: 12/12 · 1 failed · 2 retries``."""
    parts = [f"{stage.ended:,}/{stage.total:,}"]
    if stage.failed:
        parts.append(f"{stage.failed:,} failed")
    if stage.not_run:
        parts.append(f"{stage.not_run:,} not run")
    if stage.cached:
        parts.append(f"{stage.cached:,} cached")
    if stage.retries:
        parts.append(f"{stage.retries:,} {'retry' if stage.retries == 1 else 'retries'}")
    return f"{one_line(stage.task)}: {' · '.join(parts)}"


def merge_stages(stages: Sequence[StageProgress]) -> list[StageProgress]:
    """Return one stage a task name: flow runs that use the same task are added up."""
    merged: dict[str, StageProgress] = {}
    for stage in stages:
        known = merged.get(stage.task)
        merged[stage.task] = (
            stage
            if known is None
            else StageProgress(stage.task, *map(sum, zip(known[1:], stage[1:], strict=True)))
        )
    return list(merged.values())


class PlainView:
    """One line when a stage begins, one when it has ended, for pipes and CI logs.

    A loop that submits and waits, run by run, has its stage complete over and over; so a stage
    has ended once it has stayed complete for a second, or when the flow is over.
    """

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._last: dict[str, StageProgress] = {}
        self._told: dict[str, StageProgress | None] = {}  # None: only that it began
        self._complete_since: dict[str, float] = {}

    def update(self, stages: Sequence[StageProgress]) -> None:
        """Write a line for every stage that began or has ended since the last update."""
        now = self._clock()
        for stage in merge_stages(stages):
            if stage.task not in self._told and stage.ended < stage.total:
                self._told[stage.task] = None
                self._write(f"{one_line(stage.task)}: started")
            if not stage.total:
                continue  # used, but nothing submitted yet
            self._last[stage.task] = stage
            if stage.ended < stage.total:
                self._complete_since.pop(stage.task, None)
            elif now - self._complete_since.setdefault(stage.task, now) >= _SETTLE_S:
                self._tell(stage)

    def close(self) -> None:
        """Write the last figures of every stage that has not been told in full."""
        for stage in self._last.values():
            self._tell(stage)

    def _tell(self, stage: StageProgress) -> None:
        if self._told.get(stage.task) != stage:
            self._told[stage.task] = stage
            self._write(stage_line(stage))

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


def wants_live_view(stream: IO[str]) -> bool:
    """Whether `stream` is a terminal that a person watches, and not a CI log."""
    return stream.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"


@contextmanager
def watch(view: ProgressView) -> Iterator[None]:
    """Feed `view` from the flow runs of this process while the block runs, then close it."""
    # the engine: loaded by the flow anyway, and never for `daskflow run --help`
    from daskflow.runner.progress import snapshot

    over = threading.Event()

    def poll() -> None:
        while not over.wait(_POLL_S):
            view.update([StageProgress(*figures) for figures in snapshot()])

    thread = threading.Thread(target=poll, name="daskflow-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if last := [StageProgress(*figures) for figures in snapshot()]:
            view.update(last)
        view.close()
