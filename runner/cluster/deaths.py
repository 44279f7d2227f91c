"""What is told of a worker process that died: by the nanny that sees it go, to the driver.

Only a nanny knows how its worker ended, and on other machines it alone can read what the flight
recorder left.  Nannies of our own clusters tell it themselves; those of others get a plugin, which
goes with the client.  Without a nanny nobody tells: the loss is told by the scheduler alone.
"""

from __future__ import annotations

import glob
import os
import pickle
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import psutil
from dask.utils import format_bytes
from distributed import NannyPlugin
from distributed.core import Status

from daskflow.runner.cluster.executor.recorder import (
    Executing,
    LastLine,
    flight_file,
    read_flight,
    read_last_words,
)
from daskflow.runner.cluster.plugin import DEATHS_NAME
from daskflow.runner.core.graph import Parcel

__all__ = [
    "DEATH",
    "Death",
    "DeathNotes",
    "Deaths",
    "about_death",
    "add_notes",
    "describe_death",
    "executing_on",
    "last_lines",
    "tell_death",
    "watch_memory",
]

DEATH = "death"  # what a message on the client's topic is about
_ALIVE = (Status.init, Status.starting, Status.running)
_GRACE_S = 1.5  # how long a note may be late
_NEAR_LIMIT = 0.8  # of the memory limit: then the kernel may have killed the process for it
_SHOWN_LINES = 3
_REMEMBERED = 1_000


_told: set[str] = set()  # recorders of workers whose end the nannies of this process have told


class Death(NamedTuple):
    """How a worker process ended, and what it left behind."""

    worker: str
    exit_code: int | None  # negative: the signal
    memory_limit: int | None = None
    over_limit: int | None = None  # bytes that it used when its nanny ended it for that
    pid: int | None = None
    peak_memory: int | None = None
    executing: list[Executing] | None = None  # None: nothing was ever written
    lines: list[LastLine] = []  # noqa: RUF012  (never changed)


def tell_death(nanny: Any, exit_code: int, folder: str, topic: str, prefix: str = "") -> None:
    """Tell the driver how the worker process of a nanny has ended, unless it was to end.

    Parameters
    ----------
    nanny : distributed.Nanny
    exit_code : int
    folder, prefix : str
        Where the flight recorder of the worker wrote.
    topic : str
        The driver listens to it.
    """
    if nanny.status not in _ALIVE:
        return
    with suppress(Exception):  # whatever is wrong with the note, the worker is started again
        worker = nanny.worker_address  # of the one before, if this one had not started yet
        paths = [flight_file(folder, worker, prefix)] if worker else []
        if not worker or paths[0] in _told:
            paths = _orphans(folder, prefix)
        for path in paths:
            name = os.path.basename(path).removeprefix(prefix)
            death = _death_of(nanny, name, exit_code, path)
            nanny.log_event(topic, (DEATH, pickle.dumps(tuple(death), 5)))
            _told.add(path)


def _orphans(folder: str, prefix: str) -> list[str]:
    """Recorders of processes that are gone and whose end was not told.

    A worker may die of its first task before its nanny has heard of its address.  One of another
    nanny, which has not waited for it yet, is a zombie, and so not gone.
    """
    paths = set(glob.glob(os.path.join(glob.escape(folder), glob.escape(prefix) + "*")))
    written = [(path, read_last_words(path)) for path in paths - _told if os.path.isfile(path)]
    return [path for path, words in written if words and not psutil.pid_exists(words.pid)]


def _death_of(nanny: Any, worker: str, exit_code: int | None, path: str) -> Death:
    """What there is to tell of the worker process of `nanny` that has just ended.

    Parameters
    ----------
    nanny : distributed.Nanny
    worker : str
        Its address.
    exit_code : int or None
    path : str
        The file of its flight recorder.
    """
    words, manager = read_last_words(path), getattr(nanny, "memory_manager", None)
    over = getattr(nanny, "daskflow_over_limit", None)
    over_limit = over[1] if words is not None and over and over[0] == words.pid else None
    peak = max(words.peak_memory or 0 if words else 0, over_limit or 0) or None
    return Death(
        worker,
        exit_code,
        getattr(manager, "memory_limit", None),
        over_limit,
        words.pid if words else None,
        peak,
        read_flight(path),
        words.lines if words else [],
    )


def describe_death(death: Death) -> str:
    """One line: which worker, how it ended, and the most memory it used."""
    text = f"worker {death.worker} {_ending(death)}"
    if death.over_limit is None and death.peak_memory:
        text += f"; peak memory {format_bytes(death.peak_memory)}"
        if death.memory_limit:
            text += f" of {format_bytes(death.memory_limit)}"
    return text


def _ending(death: Death) -> str:
    code, limit, peak = death.exit_code, death.memory_limit, death.peak_memory
    if death.over_limit is not None and limit:
        return (
            f"was ended by its nanny for its memory: {format_bytes(peak or death.over_limit)} at "
            f"its peak, the limit is {format_bytes(limit)} (memory_limit)"
        )
    if code is None:
        return "died"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    text = f"was killed by {name}"
    if name == "SIGKILL" and peak and limit and peak > _NEAR_LIMIT * limit:
        text += ", as the kernel does when memory runs out"
    return text


def last_lines(death: Death, number: int) -> list[str]:
    """The last log lines of one of the task runs that were executing."""
    return [line.text for line in death.lines if line.number == number][-_SHOWN_LINES:]


def executing_on(
    worker: str | None, death: Death | None, folder: str | None
) -> list[Executing] | None:
    """What a worker that is gone was executing; None when that cannot be known.

    Parameters
    ----------
    worker : str or None
        Its address.
    death : Death or None
        What its nanny told.
    folder : str or None
        Where workers write their flight recorders; `WITH_NANNY` if nannies alone can read them.
    """
    if death is not None and folder is not None:  # one that wrote nothing has executed nothing
        return death.executing or []
    if not folder or worker is None:
        return None
    return read_flight(flight_file(folder, worker)) or []


def about_death(death: Death, parcels: Mapping[int, Parcel]) -> dict[str, Any]:
    """What the record tells of a death.

    Parameters
    ----------
    death : Death
    parcels : mapping
        Those in flight, by number.
    """
    labels = []
    for entry in death.executing or ():
        if (parcel := parcels.get(entry.parcel_id)) is not None:
            several = entry.number is None
            labels += [r.label for n, r in parcel.open.items() if several or n == entry.number]
    told = {
        "cause": describe_death(death),
        "executing": labels,
        "exit_code": death.exit_code,
        "peak_memory": death.peak_memory,
        "memory_limit": death.memory_limit,
        "last_lines": [line.text for line in death.lines],
    }
    return {name: value for name, value in told.items() if value not in (None, [])}


class DeathNotes(NannyPlugin):
    """Have nannies that are not ours tell how their workers end.

    Parameters
    ----------
    client : str
        Id of the client that asks.
    topic : str
        Its event topic.
    """

    restart = False

    def __init__(self, client: str, topic: str) -> None:
        self.topic = topic
        self.name = DEATHS_NAME + client

    def setup(self, nanny: Any) -> None:
        """Listen to what the nanny is told of its worker; in place of an earlier copy of this."""
        notes = vars(nanny).setdefault("daskflow_notes", {})
        if (earlier := notes.get(self.name)) is not None:
            earlier.stop(nanny)
        notes[self.name] = self
        self._nanny, self._original = nanny, nanny._on_worker_exit
        self._listening = True
        nanny._on_worker_exit = self._on_worker_exit
        watch_memory(nanny)

    def teardown(self, nanny: Any) -> None:
        """Leave the nanny, and its folder, as they were."""
        self.stop(nanny)
        vars(nanny).get("daskflow_notes", {}).pop(self.name, None)
        for path in glob.glob(os.path.join(glob.escape(nanny.local_directory), self.topic + "*")):
            with suppress(OSError):
                os.unlink(path)

    def stop(self, nanny: Any) -> None:
        """Listen no more."""
        self._listening = False  # another one may stand before it
        if getattr(nanny, "_on_worker_exit", None) == self._on_worker_exit:
            nanny._on_worker_exit = self._original

    async def _on_worker_exit(self, exit_code: int) -> None:
        nanny = self._nanny
        if self._listening:
            tell_death(nanny, exit_code, nanny.local_directory, self.topic, self.topic)
        await self._original(exit_code)


async def add_notes(dask_worker: Any, notes: DeathNotes) -> None:
    """Add the plugin to a nanny (Dask calls it so) that has not got it."""
    if notes.name not in dask_worker.plugins:
        await dask_worker.plugin_add(plugin=notes, name=notes.name)


def watch_memory(nanny: Any) -> None:
    """Remember how much memory a worker used when its nanny ended it for that."""
    log_event = nanny.log_event

    def listening(topic: Any, message: Any) -> Any:
        if topic == "worker-restart-memory" and isinstance(message, Mapping):
            nanny.daskflow_over_limit = message.get("pid"), message.get("rss")
        return log_event(topic, message)

    if not getattr(log_event, "daskflow", False):
        listening.daskflow = True  # type: ignore[attr-defined]
        nanny.log_event = listening


def _name(worker: str) -> str:
    return os.path.basename(flight_file("", worker))


class Deaths:
    """What the driver knows of the workers that it has lost.

    Whether a lost worker had a nanny is not known: its note is waited for, once in vain.

    Parameters
    ----------
    told : callable
        Whether nannies may tell how their workers end.
    """

    def __init__(
        self, told: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._told = told
        self._clock = clock
        self._notes: dict[str, Death] = {}
        self._waiting: dict[str, float] = {}  # since when a note is waited for
        self._in_vain = False
        self.leaving: set[str] = set()  # workers that have said that they go

    def note(self, blob: bytes) -> None:
        """A nanny has told of a death."""
        death = Death(*pickle.loads(blob))
        self._notes[_name(death.worker)] = death
        self._in_vain = False
        while len(self._notes) > _REMEMBERED:
            del self._notes[next(iter(self._notes))]

    def of(self, worker: str | None) -> Death | None:
        """What was told of the end of `worker`."""
        death = self._notes.get(_name(worker or ""))
        return None if death is None or worker is None else death._replace(worker=worker)

    def may_come(self, worker: str | None) -> bool:
        """Whether to wait for more to be told of `worker`, which is lost."""
        if worker is None or _name(worker) in self._notes or self._in_vain or not self._told():
            return False
        if self._clock() - self._waiting.setdefault(worker, self._clock()) < _GRACE_S:
            return True
        self._in_vain = not self._notes
        return False
