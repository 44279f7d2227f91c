"""The writer thread: batches, keeps the order, and outlives a defect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event

import pytest

from daskflow.runner.store.batch import Change
from daskflow.runner.store.outlet import BATCH_ROWS
from daskflow.runner.store.recorder import Recorder
from tests.store.made import RUN, log


class Outlet:
    """Remembers its batches; fails where `fail` says so."""

    def __init__(self) -> None:
        self.batches: list[list[Change]] = []
        self.fail: Callable[[], None] = lambda: None
        self.finished = False

    def put(self, changes: list[Change]) -> bool:
        self.fail()
        if changes:
            self.batches.append(changes)
        return True

    def finish(self) -> bool:
        self.finished = True
        return True

    def messages(self) -> list[str]:
        return [row[5] for batch in self.batches for _, _, rows in batch for row in rows]


@pytest.fixture
def outlet() -> Outlet:
    return Outlet()


@pytest.fixture
def recorder(outlet: Outlet) -> Iterator[Recorder]:
    recorder = Recorder(outlet, "recorder-under-test")
    yield recorder
    recorder.stop(10.0)


def put(recorder: Recorder, *messages: str) -> None:
    recorder.put(("logs", RUN, [log(message) for message in messages]))


def test_calls_keep_their_order(recorder, outlet):
    sent = [str(number) for number in range(300)]
    for message in sent:
        put(recorder, message)
    assert recorder.flush(10.0)
    assert outlet.messages() == sent


def test_the_thread_lingers_for_what_follows_and_a_flush_hurries_it(recorder, outlet):
    lingering = Event()

    class Hurry(Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            lingering.set()
            return super().wait(100.0)

    recorder._hurry = Hurry()
    put(recorder, "first")
    assert lingering.wait(10.0)
    put(recorder, "second")
    assert recorder.flush(10.0)
    assert [len(batch) for batch in outlet.batches] == [2]


def test_a_batch_ends_where_it_is_large_enough(recorder, outlet):
    for _ in range(3):
        put(recorder, *["x"] * BATCH_ROWS)
    assert recorder.flush(10.0)
    assert [len(batch) for batch in outlet.batches] == [1, 1, 1]


def test_what_nobody_waits_for_is_written_too(recorder, outlet, eventually):
    put(recorder, "x")
    eventually(lambda: outlet.messages() == ["x"])


def test_a_defect_costs_its_batch_and_not_the_thread(recorder, outlet, caplog):
    def fail() -> None:
        raise RuntimeError("a defect")

    outlet.fail = fail
    put(recorder, "lost")
    assert not recorder.flush(10.0)
    assert "1 changes of the run record were lost" in caplog.text
    outlet.fail = lambda: None
    put(recorder, "kept")
    assert recorder.flush(10.0)
    assert outlet.messages() == ["kept"]


def test_a_flush_gives_up_after_its_timeout(recorder, outlet):
    busy, released = Event(), Event()

    def block() -> None:
        busy.set()
        released.wait(10.0)

    outlet.fail = block
    put(recorder, "x")
    assert busy.wait(10.0)
    assert not recorder.flush(0.01)
    released.set()
    assert recorder.flush(10.0)


def test_a_stopped_recorder_has_closed_its_outlet_and_flushes_nothing(recorder, outlet):
    put(recorder, "x")
    assert recorder.stop(10.0)
    assert outlet.finished
    assert outlet.messages() == ["x"]
    assert not recorder.flush(10.0)
