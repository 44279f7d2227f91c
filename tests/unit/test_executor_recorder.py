"""The flight recorder: what was executing is known after kill -9, and only that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import timeit
from pathlib import Path

import pytest

from daskflow.runner.cluster.executor import parcel, recorder
from daskflow.runner.cluster.executor.recorder import (
    Executing,
    FlightRecorder,
    LastLine,
    flight_file,
    read_flight,
    read_last_words,
)
from daskflow.runner.context import LogLine
from tests.unit.parcels import code_of, executed, item

WORKER = "tcp://127.0.0.1:4711"

WRITER = """
import sys, threading
from daskflow.runner.cluster.executor.recorder import FlightRecorder
recorder = FlightRecorder(sys.argv[1])
first, second, third, over = (recorder.entry(n) for n in (10, 11, 12, 13))
first.start(100, 1.5)
first.start(101, 2.5)
thread = threading.Thread(target=second.start, args=(200, 3.5))
thread.start()
thread.join()
third.start_all(4.5)
over.start(300, 5.5)
over.stop()
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


def entries(folder: str) -> set[Executing]:
    found = read_flight(flight_file(folder, WORKER))
    assert found is not None
    return set(found)


def test_what_was_executing_survives_kill_9(folder: str) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, flight_file(folder, WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    assert entries(folder) == {
        Executing(10, 101, 2.5),
        Executing(11, 200, 3.5),
        Executing(12, None, 4.5),
    }


def test_a_worker_that_never_wrote_is_told_from_an_idle_one(folder: str) -> None:
    assert read_flight(flight_file(folder, WORKER)) is None
    FlightRecorder(flight_file(folder, WORKER)).entry(1).stop()
    assert read_flight(flight_file(folder, WORKER)) == []


def test_more_parcels_than_places_do_not_share_one(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = FlightRecorder(flight_file(folder, WORKER))
    count = 2 * recorder._PLACES + 1
    open_ = [writing.entry(number) for number in range(count)]
    for number, entry in enumerate(open_):
        entry.start(number, 1.0)
    assert entries(folder) == {Executing(number, number, 1.0) for number in range(count)}
    for entry in open_[1:]:
        entry.stop()
    assert entries(folder) == {Executing(0, 0, 1.0)}


def test_places_are_used_again(folder: str) -> None:
    path = flight_file(folder, WORKER)
    writing = FlightRecorder(path)
    size = os.path.getsize(path)
    for number in range(3 * recorder._PLACES):
        entry = writing.entry(number)
        entry.start(number, 1.0)
        entry.stop()
    assert os.path.getsize(path) == size
    assert read_flight(flight_file(folder, WORKER)) == []


def test_threads_get_different_places(folder: str) -> None:
    writing = FlightRecorder(flight_file(folder, WORKER))
    ready = threading.Barrier(16)

    def work(number: int) -> None:
        entry = writing.entry(number)
        ready.wait(10)
        for at in range(200):
            entry.start(number, float(at))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert entries(folder) == {Executing(number, number, 199.0) for number in range(16)}


def test_a_half_written_file_is_read_as_far_as_it_goes(folder: str) -> None:
    path = flight_file(folder, WORKER)
    FlightRecorder(path).entry(5).start(50, 1.0)
    os.truncate(path, recorder._HEAD_BYTES + 24 + 7)
    assert entries(folder) == {Executing(5, 50, 1.0)}


def test_a_full_disk_is_an_error_and_not_a_signal(folder: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left"):
        FlightRecorder("/dev/full")


def test_a_recorder_is_idle_when_no_parcel_has_a_place(folder: str) -> None:
    writing = FlightRecorder(flight_file(folder, WORKER))
    entry = writing.entry(1)
    assert not writing.is_idle()
    entry.stop()
    assert writing.is_idle()


@pytest.mark.parametrize("worker", ["tcp://[::1]:80", "ucx://a/../b", "tls://host:1"])
def test_every_address_is_a_plain_file_name(folder: str, worker: str) -> None:
    assert os.path.dirname(flight_file(folder, worker)) == folder


def test_a_parcel_notes_what_it_executes(folder: str) -> None:
    def look(number: int) -> list[Executing] | None:
        return read_flight(flight_file(folder, "tcp://127.0.0.1:1"))

    channel = executed(code_of(look), [item(4, 4), item(5, 5)], flight_folder=folder)
    for number in (4, 5):
        ((parcel_id, executing, _),) = channel.result(number)
        assert (parcel_id, executing) == (7, number)
    assert read_flight(flight_file(folder, channel.worker)) == []


def test_flows_one_after_the_other_have_files_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()

        def look(folder: str = str(folder)) -> int:
            return len(read_flight(flight_file(folder, "tcp://127.0.0.1:1")) or ())

        assert executed(code_of(look), [item(1)], flight_folder=str(folder)).result(1) == 1
    mine = [path for path in parcel._recorders if path.startswith(str(tmp_path))]
    assert [Path(path).parent.name for path in mine] == ["two"]


def test_the_last_lines_and_the_most_memory_are_kept(folder: str) -> None:
    path = flight_file(folder, WORKER)
    assert read_last_words(path) is None
    writing = FlightRecorder(path)
    for number in range(40):
        writing.line(LogLine(number, 1, float(number), 20, "print", f"line {number} é" + "x" * 900))
    held = bytearray(b"x") * 20_000_000
    writing.look_at_memory()
    most = read_last_words(path)
    del held
    writing.look_at_memory()
    words = read_last_words(path)
    assert words is not None
    assert most is not None
    assert words.pid == os.getpid()
    assert words.peak_memory == most.peak_memory
    assert words.peak_memory is not None
    assert words.peak_memory > 20_000_000
    assert [line.number for line in words.lines] == list(range(24, 40))
    assert words.lines[-1][:2] == (39.0, 39)
    assert words.lines[-1].text.startswith("line 39 éxxx")
    assert isinstance(words.lines[0], LastLine)


def test_noting_a_run_costs_less_than_a_microsecond(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start = FlightRecorder(flight_file(folder, WORKER)).entry(1).start
    spent = min(timeit.repeat(lambda: start(7, 1.5), number=20_000, repeat=7)) / 20_000
    with capsys.disabled():
        print(f" [flight recorder: {1e9 * spent:.0f} ns a task run] ", end="")
    assert spent < 1e-6
