"""What every database behind the run record must do for its writers: threads, processes, kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from daskflow.runner.store import LogRow, RunStore, Writer, open_store, open_writer
from tests.store.made import RUN, flow_run, log, task_run

__all__ = ["WriterConformance"]

OTHER = "a1" * 16

WRITE_MANY = """
import logging, sys, uuid
from daskflow.runner.store import open_writer
from tests.store.made import flow_run, log, task_run
logging.basicConfig(level=logging.DEBUG)
url, n = sys.argv[1], int(sys.argv[2])
run = uuid.uuid4().hex
writer = open_writer(url)
writer.flow_run(flow_run(run, state="Running"))
for number in range(n):
    writer.task_runs(run, [task_run(number)])
    if number % 50 == 49:
        writer.logs(run, [log(f"line {number}")])
        assert writer.flush()
writer.flow_run(flow_run(run))
assert writer.close()
"""

WRITE_UNTIL_KILLED = """
import itertools, sys
from daskflow.runner.store import open_writer
from tests.store.made import flow_run, log, task_run
writer = open_writer(sys.argv[1])
writer.flow_run(flow_run(sys.argv[2], state="Running"))
for number in itertools.count():
    writer.logs(sys.argv[2], [log(f"line {number}")])
    writer.task_runs(sys.argv[2], [task_run(number)])
    if writer.flush():
        print(number, flush=True)
"""


class WriterConformance:
    """The half of the kit that is about writing; a subclass provides `url`."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError("the subclass says where its store is")

    @pytest.fixture
    def writer(self, url: str) -> Iterator[Writer]:
        writer = open_writer(url)
        yield writer
        writer.close()

    @pytest.fixture
    def store(self, url: str) -> Iterator[RunStore]:
        with open_store(url) as store:
            yield store

    def test_logs_are_visible_no_later_than_the_final_row_after_them(self, writer, url):
        done = threading.Event()
        early: list[int] = []

        def watch() -> None:
            with open_store(url) as store:
                while not done.is_set():
                    completed = {row.number for row in store.task_runs(RUN, state="Completed")}
                    told = {row.number for row in store.logs(RUN)}
                    early.extend(completed - told)

        watcher = threading.Thread(target=watch)
        watcher.start()
        for number in range(3000):
            writer.logs(RUN, [log("last words", number=number)])
            writer.task_runs(RUN, [task_run(number)])
            if number % 300 == 0:
                assert writer.flush()
        assert writer.flush()
        done.set()
        watcher.join()
        assert early == []

    def test_writers_of_one_process_share_a_thread_that_ends_with_the_last(self, url):
        before = threading.active_count()
        one, two = open_writer(url), open_writer(url)
        assert threading.active_count() == before + 1
        one.flow_run(flow_run())
        assert one.close()
        two.flow_run(flow_run(OTHER))
        assert two.close()
        assert threading.active_count() == before
        with open_store(url) as store:
            assert len(store.flow_runs()) == 2

    def test_rows_after_close_are_ignored_and_a_second_close_is_harmless(self, url):
        writer = open_writer(url)
        writer.flow_run(flow_run())
        assert writer.close()
        writer.flow_run(flow_run(OTHER))
        assert writer.close()
        assert writer.flush()
        with open_store(url) as store:
            assert [run.flow_run_id for run in store.flow_runs()] == [RUN]

    def test_a_reader_that_was_opened_first_sees_what_comes_later(self, url):
        with open_store(url) as store:
            assert store.flow_runs() == []
            writer = open_writer(url)
            writer.flow_run(flow_run())
            assert writer.close()
            assert store.flow_runs() == [flow_run()]

    def test_an_interpreter_that_ends_without_close_loses_nothing(self, url):
        script = (
            "import sys; from daskflow.runner.store import open_writer\n"
            "from tests.store.made import flow_run, task_run\n"
            "writer = open_writer(sys.argv[1]); writer.flow_run(flow_run())\n"
            "writer.task_runs(flow_run().flow_run_id, [task_run(n) for n in range(5000)])\n"
        )
        subprocess.run([sys.executable, "-c", script, url], check=True, timeout=60)
        with open_store(url) as store:
            assert store.counts(RUN) == {"Completed": 5000}

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_a_forked_child_neither_hangs_nor_writes_for_its_parent(self, writer, store):
        writer.flow_run(flow_run())
        assert writer.flush()
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            signal.alarm(20)  # ends it where flush would wait for a thread that is not there
            writer.flow_run(flow_run(state="Failed"))
            os._exit(7 if writer.flush(60.0) else 0)
        assert os.waitpid(child, 0)[1] == 0
        writer.task_runs(RUN, [task_run(0)])
        assert writer.flush()
        assert [run.state for run in store.flow_runs()] == ["Completed"]
        assert store.counts(RUN) == {"Completed": 1}

    def test_four_processes_write_one_store_without_an_error(self, url):
        command = [sys.executable, "-W", "error", "-c", WRITE_MANY, url, "5000"]
        writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
        said = [process.communicate(timeout=100)[1] for process in writers]
        assert [process.returncode for process in writers] == [0] * 4, said
        assert said == [""] * 4  # no warning, nothing spooled
        with open_store(url) as store:
            runs = store.flow_runs(state="Completed")
            assert len(runs) == 4
            for run in runs:
                assert store.counts(run.flow_run_id) == {"Completed": 5000}
                lines = [row.message for row in store.logs(run.flow_run_id)]
                assert lines == [f"line {number}" for number in range(49, 5000, 50)]

    def test_a_killed_writer_loses_no_flushed_row(self, url, eventually: Callable[..., None]):
        command = [sys.executable, "-c", WRITE_UNTIL_KILLED, url]
        for round_ in range(3):
            run = f"{round_:032x}"
            process = subprocess.Popen([*command, run], stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            for _ in range(20 + 13 * round_):
                process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
            flushed = 20 + 13 * round_ + len(process.stdout.read().split())
            process.wait()
            process.stdout.close()
            with open_store(url) as store:
                kept = [row.number for row in store.task_runs(run)]
                lines: list[LogRow] = store.logs(run)
            assert len(kept) >= flushed
            assert kept == list(range(len(kept)))
            assert [row.message for row in lines] == [f"line {number}" for number in kept]
