"""What driver and workers say to each other, as plain tuples inside pickled bytes.

An `Order` travels to the worker as the one argument of a Dask task; a `Report` comes back on the
driver's event topic, while the parcel runs and when it ends.  Dask sees bytes only.  No import of
Dask here, and nothing that a worker should not load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.runner.context import FlowInfo, LogLine, TaskInfo

if TYPE_CHECKING:
    from daskflow.caching.plans import CachePlan

__all__ = [
    "BOUND_ERROR",
    "BOUND_INPUT",
    "BOUND_INPUT_BYTES",
    "BOUND_LIVE",
    "BOUND_LOCAL",
    "BOUND_NOTHING",
    "BOUND_PICKLED",
    "BOUND_PLAIN",
    "BOUND_STORED",
    "BUSY",
    "ENDED_BADLY",
    "ENDED_PROCESS",
    "ENDED_TIMED_OUT",
    "ENDED_WELL",
    "INLINE_LIMIT",
    "PLAIN_TYPES",
    "RECYCLED",
    "WITH_NANNY",
    "Code",
    "Commit",
    "Item",
    "Order",
    "Report",
    "Told",
]

# Types that are immutable and pickle inside the order itself, without bytes of their own.
PLAIN_TYPES = frozenset({int, float, bool, str, bytes, complex, type(None)})

# Results up to this many bytes ride with the outcome; larger ones stay on their worker as a key.
INLINE_LIMIT = 32_768

# How an argument that was a future is bound: (tag, value)
BOUND_PLAIN = 0  # the value itself, of a plain type
BOUND_PICKLED = 1  # bytes
BOUND_INPUT = 2  # position among the Dask inputs of the parcel
BOUND_LOCAL = 3  # number of a run earlier in this parcel
BOUND_ERROR = 4  # pickled exception of an input that was allowed to fail
BOUND_LIVE = 5  # the object itself; workers in the flow process only
BOUND_NOTHING = 6  # waited for, not handed over
BOUND_INPUT_BYTES = 7  # position among the Dask inputs, which holds bytes to unpickle
BOUND_STORED = 8  # a `StoredRef`: loaded from its result store by whoever takes it

# What a message on the driver's topic is about that is no report: a slot kept by a body that was
# given up, and a worker process that is about to end for one.
BUSY = "busy"
RECYCLED = "recycled"

# Flight folder of an order: the one that a worker shares with its nanny, if it has one.
WITH_NANNY = ""

_NO_ASKS: Mapping[int, Any] = {}

ENDED_WELL = 0
ENDED_BADLY = 1
ENDED_PROCESS = 2  # the body raised SystemExit or KeyboardInterrupt
ENDED_TIMED_OUT = 3  # it took longer than its task allows; the body may go on

Item = tuple[int, int, int, int, str | None, Any, tuple[tuple[int, Any], ...], bool]
"""number, attempt, position of its code, index, name, payload, bindings, result kept for later."""

Told = tuple[int, int, float, float, float | None, float | None, int, Any, int | None]
"""number, how it ended, started_at, run_s, cpu_s, encode_s, binding tag, value, bytes."""


class Commit(NamedTuple):
    """What the cache made of a run whose outcome is told in the same report, or was before."""

    number: int
    hit: bool
    key: str | None
    digest: str | None  # of the result's content
    saved_s: float | None  # what a hit took when it was made
    why: str | None  # not cached, or not looked up


class Code(NamedTuple):
    """One task's function, as a parcel carries it."""

    digest: str
    blob: bytes | None  # None where the executor holds the function already (same process)
    is_async: bool
    task: TaskInfo
    flow: FlowInfo
    function: Callable[..., Any] | None = None  # for the flow process itself; never sent
    timeout_s: float | None = None  # of one attempt
    cache: CachePlan | None = None  # None: its runs are not cached
    hard: bool = False  # when time is over, the body's process is killed


class Order(NamedTuple):
    """A parcel, as the worker gets it."""

    parcel_id: int
    topic: str
    client_id: str
    box_s: float | None  # time box; None for no limit
    codes: list[Code]
    items: list[Item]
    flight_folder: str | None
    asks: Mapping[int, Any] = _NO_ASKS  # by number: an `KeyAsk`, for runs that are cached
    only: str | None = None  # folder of the one worker that may execute it


class Report(NamedTuple):
    """What a worker tells of one parcel; several may come, the last one says `final`."""

    parcel_id: int
    worker: str
    pid: int
    told: list[Told]
    running: list[tuple[int, float]]
    logs: list[LogLine]
    handed_back: list[int]
    final: bool
    peak_memory: int | None
    waits: bool = False  # its thread has given its slot back, to wait for runs that it submitted
    commits: Sequence[Commit] = ()
    gone: Sequence[tuple[int, int]] = ()  # run and slot of inputs that their store lost
