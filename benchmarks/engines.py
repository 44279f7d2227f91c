"""Who runs a workload: plain Dask, and daskflow with and without its record, on one cluster.

`Engine.perform` calls its argument at a moment when the engine is ready to take work: for daskflow
that is inside the body of a new flow, whose start and end are therefore not timed.  All engines of
a run share one `LocalCluster`, so none has better workers than another.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from distributed import Client, LocalCluster

from benchmarks.bodies import TOPIC, say_to_dask, say_to_record
from benchmarks.workloads import SLOTS, Surface

__all__ = ["DaskflowEngine", "Engine", "RawDask", "local_cluster", "overridden", "settings"]

T = TypeVar("T")

_POLL_S = 0.005
_LINES_TIMEOUT_S = 120.0


class Engine(Protocol):
    """Something that runs workloads."""

    @property
    def name(self) -> str:
        """The name in tables and results."""

    def perform(self, work: Callable[[Surface], T]) -> T:
        """Call ``work`` once the engine takes submissions, and return what it returns."""


@contextmanager
def local_cluster(scratch: Path) -> Iterator[Client]:
    """Start the cluster that all engines share and yield the control's client to it.

    Two worker processes with one thread each, as on the smallest machine that daskflow is made for.
    """
    with (
        LocalCluster(
            n_workers=SLOTS,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=str(scratch),
            silence_logs=logging.CRITICAL,  # some tasks fail on purpose
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(SLOTS, timeout=60)
        yield client


class RawDask:
    """The control: ``client.submit`` or ``client.map``, then ``client.gather``."""

    name = "dask"
    say = staticmethod(say_to_dask)

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lines: list[object] = []  # appended to by the client's loop
        self._seen = 0

    def perform(self, work: Callable[[Surface], T]) -> T:
        """Call ``work`` with the client."""
        self._client.subscribe_topic(TOPIC, self._lines.append)
        try:
            return work(self)
        finally:
            self._client.unsubscribe_topic(TOPIC)

    def submitter(self, function: Callable[..., Any], *, retries: int = 0) -> Callable[..., Any]:
        """Return ``client.submit`` of the function; impure, or equal calls would run once."""
        return functools.partial(self._client.submit, function, pure=False, retries=retries)

    def mapper(
        self, function: Callable[..., Any], *, retries: int = 0
    ) -> Callable[[Iterable[Any]], Sequence[Any]]:
        """Return ``client.map`` of the function."""
        return functools.partial(self._client.map, function, pure=False, retries=retries)

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Return ``client.gather``."""
        return list(self._client.gather(list(futures)))

    def result(self, future: Any) -> Any:
        """Return ``future.result()``."""
        return future.result()

    def lines(self, expected: int) -> int:
        """Wait for lines on the topic."""
        _wait_until(lambda: len(self._lines) - self._seen >= expected)
        new, self._seen = len(self._lines) - self._seen, len(self._lines)
        return new


class DaskflowEngine:
    """The subject: one flow per call, on the cluster object that the control uses.

    Parameters
    ----------
    cluster
        Passed to the flow as its ``task_runner``.
    home
        Folder of the run store.
    record
        Whether runs are recorded, as they are by default.
    name
        Default: ``daskflow``, with a note when nothing is recorded.
    more
        Further settings, as environment variables.
    """

    def __init__(
        self,
        cluster: Any,
        home: Path,
        *,
        record: bool = True,
        name: str | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name or ("daskflow" if record else "daskflow, record off")
        self._cluster = cluster
        self._environment = {**settings(home, record=record), **(more or {})}

    def perform(self, work: Callable[[Surface], T]) -> T:
        """Call ``work`` in the body of a flow."""
        from daskflow import flow  # the harness and its control also run without the subject

        answers: list[T] = []  # not the flow's return value: what is returned may be persisted

        @flow(name="benchmark", task_runner=self._cluster)
        def benchmark() -> None:
            answers.append(work(_FlowSurface(self._environment["DASKFLOW_STORE__URL"])))

        with overridden(self._environment):
            benchmark()
        return answers[0]


class _FlowSurface:
    say = staticmethod(say_to_record)

    def __init__(self, store_url: str) -> None:
        from daskflow import task  # as above

        self._task = functools.cache(task)
        self._store_url = store_url
        self._last_line = -1

    def _made(self, function: Callable[..., Any], retries: int) -> Any:
        made = self._task(function)
        return made.with_options(retries=retries) if retries else made

    def submitter(self, function: Callable[..., Any], *, retries: int = 0) -> Callable[..., Any]:
        submit: Callable[..., Any] = self._made(function, retries).submit
        return submit

    def mapper(
        self, function: Callable[..., Any], *, retries: int = 0
    ) -> Callable[[Iterable[Any]], Sequence[Any]]:
        map_: Callable[[Iterable[Any]], Sequence[Any]] = self._made(function, retries).map
        return map_

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        return [future.result() for future in futures]

    def result(self, future: Any) -> Any:
        return future.result()

    def lines(self, expected: int) -> int:
        """Wait until the lines are in the record."""
        from daskflow import runtime  # as above
        from daskflow.runner.store import open_store

        run_id = runtime.flow_run.id or ""
        last = self._last_line + expected
        with open_store(self._store_url) as store:
            _wait_until(lambda: store.logs(run_id, after=last - 1, limit=1))
            new = store.logs(run_id, after=self._last_line)
        self._last_line += len(new)  # they are numbered from 0
        return len(new)


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _LINES_TIMEOUT_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def settings(home: Path, *, record: bool = True) -> dict[str, str]:
    """Return the settings of a benchmark, as environment variables.

    Whatever the person at the keyboard has set, their run store is not written to.
    """
    return {
        "DASKFLOW_HOME": str(home),
        "DASKFLOW_STORE__URL": f"sqlite:///{home / 'runs.db'}",
        "DASKFLOW_STORE__RECORD": str(record).lower(),
        "DASKFLOW_LOGGING__CONSOLE": "false",
    }


@contextmanager
def overridden(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while, and have daskflow read its settings again."""
    from daskflow.config import reset_settings  # pydantic: only where daskflow runs

    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    reset_settings()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        reset_settings()
