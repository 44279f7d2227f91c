"""Parcels without a cluster: orders made by hand, executed here, reports kept by a fake channel."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cloudpickle

from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.executor.capture import remove_capture
from daskflow.runner.cluster.executor.errors import load_error
from daskflow.runner.cluster.executor.parcel import execute
from daskflow.runner.cluster.executor.values import bind
from daskflow.runner.cluster.protocol import (
    BOUND_INPUT,
    BOUND_LIVE,
    ENDED_WELL,
    Code,
    Item,
    Order,
    Report,
    Told,
)
from daskflow.runner.context import FlowInfo, LogLine, TaskInfo

__all__ = ["FakeChannel", "code_of", "executed", "executing", "item", "live_code", "order_of"]

DEADLINE_S = 20.0


class FakeChannel:
    """Keeps what is sent; another thread can wait for it."""

    worker = "tcp://127.0.0.1:1"
    pid = 1
    flight_folder = None

    def __init__(self, *, live: bool = False) -> None:
        self.live = live
        self.reports: list[Report] = []
        self.values: dict[str, Any] = {}
        self.seceded = threading.Event()
        self.broken: Exception | None = None
        self.no_secede: Exception | None = None
        self._changed = threading.Condition()

    def send(self, report: Report) -> None:
        if self.broken is not None:
            raise self.broken
        if not self.live:
            report = Report(*pickle.loads(pickle.dumps(tuple(report), 5)))
        with self._changed:
            self.reports.append(report)
            self._changed.notify_all()

    def keep(self, key: str, value: Any, size: int) -> None:
        assert key not in self.values
        self.values[key] = value

    def secede(self) -> None:
        if self.no_secede is not None:
            raise self.no_secede
        self.seceded.set()

    def wait_until(self, condition: Callable[[FakeChannel], object]) -> None:
        """Block until the reports so far satisfy `condition`."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), DEADLINE_S), self.reports

    @property
    def told(self) -> list[Told]:
        return [told for report in self.reports for told in report.told]

    @property
    def numbers(self) -> list[int]:
        """Runs that were told, in that order."""
        return [told[0] for told in self.told]

    @property
    def handed_back(self) -> list[int]:
        return [number for report in self.reports for number in report.handed_back]

    @property
    def running(self) -> list[int]:
        return [number for report in self.reports for number, _ in report.running]

    @property
    def logs(self) -> list[LogLine]:
        return [line for report in self.reports for line in report.logs]

    @property
    def messages(self) -> list[str]:
        return [line.message for line in self.logs]

    def result(self, number: int) -> Any:
        """What a run returned; raises what it raised."""
        (told,) = [each for each in self.told if each[0] == number]
        tag, value = told[6], told[7]
        if told[1] != ENDED_WELL:
            raise value if tag == BOUND_LIVE else load_error(value, f"run-{number}")
        if tag == BOUND_INPUT:
            return self.values[value]
        return bind([(tag, value)], (), {})[0]


def code_of(
    function: Callable[..., Any] | bytes,
    name: str = "body",
    *,
    is_async: bool = False,
    log_prints: bool = False,
    log_level: int = 20,
) -> Code:
    """The code of a task; bytes are its function's pickle as it is."""
    blob = function if isinstance(function, bytes) else cloudpickle.dumps(function)
    info = FlowInfo("flow", "a-flow-run", "a-flow", log_level=log_level)
    digest = f"{name}-{hash(blob)}"
    return Code(digest, blob, is_async, TaskInfo(name, log_prints=log_prints), info)


def live_code(function: Callable[..., Any], *, is_async: bool = False) -> Code:
    """The code of a task whose function is handed over as it is."""
    return code_of(b"", is_async=is_async)._replace(blob=None, function=function)


def item(
    number: int,
    *args: Any,
    place: int = 0,
    bindings: Sequence[tuple[int, Any]] = (),
    kept: bool = False,
    payload: bytes | None = None,
) -> Item:
    """One task run of an order."""
    return (number, 1, place, number, None, payload or (args, {}), tuple(bindings), kept)


def order_of(
    codes: Code | Sequence[Code],
    items: Sequence[Item],
    *,
    box_s: float | None = None,
    flight_folder: str | None = None,
) -> Order:
    """An order of these runs."""
    codes = [codes] if isinstance(codes, Code) else list(codes)
    return Order(7, "daskflow-topic", "client", box_s, codes, list(items), flight_folder)


def executed(
    codes: Code | Sequence[Code],
    items: Sequence[Item],
    *,
    inputs: Sequence[Any] = (),
    channel: FakeChannel | None = None,
    box_s: float | None = None,
    flight_folder: str | None = None,
) -> FakeChannel:
    """Execute a parcel in this thread and return its channel."""
    channel = channel or FakeChannel()
    order = order_of(codes, items, box_s=box_s, flight_folder=flight_folder)
    try:
        execute(ActiveParcel(order, channel), inputs)
    finally:
        remove_capture()
    return channel


@contextmanager
def executing(
    codes: Code | Sequence[Code], items: Sequence[Item], *, box_s: float | None = None
) -> Iterator[FakeChannel]:
    """Execute a parcel in another thread; on leaving, wait until it has ended."""
    channel = FakeChannel()
    parcel = ActiveParcel(order_of(codes, items, box_s=box_s), channel)
    thread = threading.Thread(target=execute, args=(parcel, ()), daemon=True)
    thread.start()
    try:
        yield channel
    finally:
        thread.join(DEADLINE_S)
        remove_capture()
        assert not thread.is_alive()
