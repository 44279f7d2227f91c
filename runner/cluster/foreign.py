"""Clusters that are not ours: connect, check that both sides fit, and leave no trace.

daskflow always opens a client of its own, also when it is handed a client or a cluster object:
event handlers, keys and the end of the user's client stay the user's.  On the scheduler it
leaves one plugin and one event topic while it is connected, nothing afterwards.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import difflib
import inspect
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed import Client
from tornado.ioloop import IOLoop

from daskflow.errors import ClusterError, UsageError
from daskflow.runner.cluster import plugin as plugin_module
from daskflow.runner.cluster.deaths import DeathNotes
from daskflow.runner.cluster.draining import Leaving
from daskflow.runner.cluster.plugin import LossBudget, forget_client
from daskflow.runner.cluster.tls import check_certificates, mismatch

if TYPE_CHECKING:
    from daskflow.runner.cluster.session import Session

__all__ = [
    "CONNECT_TIMEOUT_S",
    "address_of",
    "check_versions",
    "connect",
    "leave",
    "register_loss_budget",
    "register_worker_plugins",
]

_BATCH_S = 0.001
CONNECT_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 30.0
_REGISTERED_S = 1.0
_MUST_MATCH = ("dask", "distributed")

_logger = logging.getLogger(__name__)


def connect(
    target: Any,
    loop: IOLoop,
    client_kwargs: Mapping[str, Any],
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Client:
    """Open a client of our own to an address, a cluster object or another client's cluster.

    Raises
    ------
    ClusterError
        With the address and what to look at, when nobody answers within the timeout.
    """
    kwargs = {"timeout": timeout_s, **client_kwargs}
    address, security = target, None
    if isinstance(target, Client):
        address, security = address_of(target), target.security
    elif not isinstance(target, str):
        address, security = target.scheduler_address, getattr(target, "security", None)
    if security is not None:
        kwargs.setdefault("security", security)
    _check_kwargs(kwargs)
    if target is address:
        context = check_certificates(address, kwargs)
        if (why := mismatch(address, context)) is not None:
            raise ClusterError(_unreachable(address, why))
    try:
        return _hastened(Client(address, loop=loop, set_as_default=False, **kwargs))
    except TypeError as error:
        raise UsageError(f"client_kwargs do not fit distributed.Client: {error}") from error
    except Exception as error:
        raise ClusterError(_unreachable(address, error)) from error


def _unreachable(address: str, why: object) -> str:
    return (
        f"The Dask scheduler at {address} could not be reached ({why}); check that it runs (dask "
        "scheduler), that this machine reaches its host and port, and that both sides use TLS or "
        "neither does"
    )


def _hastened(client: Client) -> Client:
    """Have the client send soon, and keep nothing of what it has sent.

    Dask lets each message wait until 10 ms after the one before.  That is made for a message per
    task; parcels are few, and somebody may wait for each of them.
    """
    batches: Any = client.scheduler_comm
    batches.recent_message_log = deque(maxlen=1)  # parcels, and Dask keeps the last thousand
    if hasattr(batches, "interval"):  # a version of Dask that has none does not wait
        batches.interval = min(batches.interval, _BATCH_S)
    return client


def _check_kwargs(kwargs: Mapping[str, Any]) -> None:
    known = [name for name in inspect.signature(Client.__init__).parameters if name != "self"]
    for name in kwargs:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
            raise UsageError(f"client_kwargs has {name!r}, unknown to distributed.Client; {hint}")


def check_versions(client: Client) -> frozenset[str]:
    """Return the workers, by address, that can run what this process sends them.

    Raises
    ------
    ClusterError
        For scheduler or workers that do not fit; names them, the package and both versions.
    """
    try:
        found = client.sync(
            client._get_versions, packages=["daskflow"], callback_timeout=_ANSWER_TIMEOUT_S
        )
    except Exception as error:
        raise ClusterError(f"{address_of(client)} does not tell its versions: {error}") from error
    ours = found["client"]
    problems = _differences("the scheduler", found["scheduler"], ours, needs_daskflow=False)
    for address, theirs in sorted(found["workers"].items()):
        problems += _differences(f"worker {address}", theirs, ours, needs_daskflow=True)
    if problems:
        raise ClusterError(
            "The cluster does not fit this process, so no task was sent: "
            + "; ".join(problems[:5])
            + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            + ". Install the same versions on both sides"
        )
    return frozenset(address for address, theirs in found["workers"].items() if theirs is not None)


def register_loss_budget(client: Client, topic: str) -> bool:
    """Register the `LossBudget` of this client; False where the scheduler takes no plugins."""
    try:
        with _travels_by_value():
            client.register_plugin(LossBudget(client.id, topic))
    except Exception as error:
        _logger.debug("%s takes no scheduler plugin: %r", address_of(client), error)
        return False
    return True


def register_worker_plugins(session: Session) -> None:
    """Have nannies tell how their workers end, and workers finish what they execute.

    Waits for an answer, or nothing would be told of workers that die at once; but not for long:
    Dask gives it when every nanny that is starting has started, which may be never.
    """
    client = session.client
    notes = DeathNotes(client.id, session.topic)
    leaving = Leaving(client.id, session.topic, notes)

    async def register() -> None:
        both: Any = client.register_plugin(notes), client.register_plugin(leaving)
        await asyncio.gather(*both)  # coroutines on its loop

    def registered(future: concurrent.futures.Future[None]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            session.tells_deaths = False
            _logger.debug("%s takes no plugins for workers: %r", address_of(client), error)

    async def unregister() -> None:
        await asyncio.gather(
            client._unregister_worker_plugin(leaving.name),
            client._unregister_worker_plugin(notes.name, nanny=True),
            return_exceptions=True,
        )

    def leave_workers() -> None:
        future.cancel()
        if client.status == "running":  # else the scheduler is gone, and the workers with it
            client.sync(unregister, callback_timeout=_ANSWER_TIMEOUT_S)

    loop: Any = client.loop
    session.tells_deaths = True
    future = asyncio.run_coroutine_threadsafe(register(), loop.asyncio_loop)
    future.add_done_callback(registered)
    session.at_close(leave_workers)
    concurrent.futures.wait([future], timeout=_REGISTERED_S)


def leave(client: Client, topic: str, *, registered: bool) -> None:
    """Take back plugin, topic and subscriptions; the keys go when the client is closed."""
    if client.status != "running":  # the scheduler is gone; asking it would wait for half a minute
        return
    with suppress(Exception), _travels_by_value():  # run_on_scheduler may be forbidden
        client.run_on_scheduler(forget_client, client=client.id, topic=topic)
    if registered:
        with suppress(Exception):  # the scheduler may be gone
            client.unregister_scheduler_plugin(LossBudget(client.id, topic).name)


def _differences(
    who: str, theirs: Mapping[str, Any] | None, ours: Mapping[str, Any], *, needs_daskflow: bool
) -> list[str]:
    if not isinstance(theirs, Mapping):
        return []  # it left while it was asked
    problems = []
    python, own_python = theirs["host"]["python"], ours["host"]["python"]
    if python.split(".")[:2] != own_python.split(".")[:2]:
        problems.append(f"{who} runs Python {_short(python)}, this process {_short(own_python)}")
    for package in (*_MUST_MATCH, *(["daskflow"] if needs_daskflow else [])):
        version, own = theirs["packages"].get(package), ours["packages"].get(package)
        if version != own:
            has = f"has {package} {version}" if version else f"lacks {package}"
            problems.append(f"{who} {has}, this process has {own}")
    return problems


def _short(python: str) -> str:
    return ".".join(python.split(".")[:3])


def address_of(client: Client) -> str:
    """Return the address of the scheduler that `client` is connected to."""
    return str(getattr(client.scheduler, "address", "the scheduler"))


@contextmanager
def _travels_by_value() -> Iterator[None]:
    cloudpickle.register_pickle_by_value(plugin_module)
    try:
        yield
    finally:
        with suppress(ValueError):  # another session was quicker
            cloudpickle.unregister_pickle_by_value(plugin_module)
