"""Scheduler plugin for clusters that are not ours: loss budgets of our own keys, drain, tidying.

Dask runs the task of a killed worker again up to `allowed-failures` times before a client can
react.  daskflow decides itself what runs again, so it marks its keys with the annotation
`LOSS_ANNOTATION` and this plugin charges them beforehand.  And a worker that is retired is removed
once it executes none of these keys: Dask would start them again elsewhere, and let both copies run.
Nothing else on the scheduler changes.

The plugin leaves by itself when its client goes, also when the flow process was killed.  It
travels by value: the scheduler needs no daskflow, so this module may import distributed only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.serialize import deserialize

if TYPE_CHECKING:
    from distributed import Scheduler

__all__ = [
    "DEATHS_NAME",
    "LEAVING_NAME",
    "LOSS_ANNOTATION",
    "REPORT_TOPIC",
    "LossBudget",
    "drained",
    "forget_client",
    "forget_topics",
]

LOSS_ANNOTATION = "daskflow_lost"
REPORT_TOPIC = "daskflow-"  # with the id of the client; see `Session.topic`
LEAVING_NAME = "daskflow-leaving-"  # of plugins of workers and nannies, with the client's id
DEATHS_NAME = "daskflow-deaths-"
_LATE_S = 2.0
_DRAIN_LOOK_S = 0.1
_RETIRE = "_track_retire_worker"  # private: moves data away, then removes the worker
_DRAINING_FOR = "daskflow_draining_for"


class LossBudget(SchedulerPlugin):
    """Give each annotated key the number of worker losses that it may survive.

    Sessions of several flow processes may each register one on the same scheduler: they all
    do the same to every key, and each goes with its own client.

    Parameters
    ----------
    client : str
        Id of the client with whom the plugin goes.
    topic : str
        Event topic of that client, forgotten when the client goes.
    """

    def __init__(self, client: str, topic: str) -> None:
        self.client, self.topic = client, topic
        self.name = f"daskflow-loss-budget-{client}"

    async def start(self, scheduler: Scheduler) -> None:
        """Remember where it is."""
        self._scheduler = scheduler
        _drain_for(scheduler, self.client)

    def log_event(self, topic: str, msg: Any) -> None:
        """Keep no report: the client has been sent it, and Dask would keep the last thousand."""
        if topic == self.topic:
            self._scheduler._broker.truncate(topic)
            if (comm := self._scheduler.client_comms.get(self.client)) is not None:
                comm.recent_message_log.clear()

    def update_graph(
        self, scheduler: Scheduler, *, annotations: dict[str, dict[Any, Any]], **_: Any
    ) -> None:
        """Charge new keys with all the losses that they may not have."""
        for key, losses in annotations.get(LOSS_ANNOTATION, {}).items():
            task = scheduler.tasks.get(key)
            if task is not None:
                task.suspicious = scheduler.allowed_failures - losses

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Go with the client."""
        if client == self.client:
            forget_client(scheduler, client, self.topic)
            scheduler.plugins.pop(self.name, None)
            scheduler._ongoing_background_tasks.call_soon(_leave_workers, scheduler, client)


async def _leave_workers(scheduler: Any, client: str) -> None:
    """Take back what a client that was killed has left on workers and nannies."""
    if (name := LEAVING_NAME + client) in scheduler.worker_plugins:
        await scheduler.unregister_worker_plugin(comm=None, name=name)
    if (name := DEATHS_NAME + client) in scheduler.nanny_plugins:
        await scheduler.unregister_nanny_plugin(comm=None, name=name)


def forget_client(dask_scheduler: Scheduler, client: str, topic: str) -> None:
    """Drop a client's own topic and its subscriptions, which Dask itself would keep for ever."""
    _drain_no_more_for(dask_scheduler, client)
    topics = dask_scheduler._broker._topics
    topics.pop(topic, None)
    for other in topics.values():
        other.subscribers.discard(client)
    # a report that was under way opens the topic again
    dask_scheduler.loop.call_later(_LATE_S, forget_topics, dask_scheduler)


def forget_topics(dask_scheduler: Scheduler) -> None:
    """Drop the topics of clients that are gone."""
    topics = dask_scheduler._broker._topics
    for topic in list(topics):
        owner = topic.removeprefix(REPORT_TOPIC)
        if owner != topic and owner not in dask_scheduler.clients:
            del topics[topic]


# -- retiring ----------------------------------------------------------------------------------


def _drain_for(scheduler: Any, client: str) -> None:
    """From now on, remove retired workers when they are drained."""
    users = getattr(scheduler, _DRAINING_FOR, None)
    if users is None and hasattr(scheduler, _RETIRE):  # another version may do without
        users = set()
        setattr(scheduler, _DRAINING_FOR, users)
        retire = getattr(scheduler, _RETIRE)

        async def when_drained(ws: Any, *args: Any, **options: Any) -> Any:
            await drained(scheduler, ws)
            return await retire(ws, *args, **options)

        setattr(scheduler, _RETIRE, when_drained)
    if users is not None:
        users.add(client)


def _drain_no_more_for(scheduler: Any, client: str) -> None:
    users = getattr(scheduler, _DRAINING_FOR, None)
    if users is not None:
        users.discard(client)
        if not users:
            delattr(scheduler, _DRAINING_FOR)
            delattr(scheduler, _RETIRE)  # the class's own shows again


async def drained(scheduler: Any, ws: Any) -> None:
    """Return when a worker, which starts nothing any more, executes none of our keys."""
    while ws.address in scheduler.workers:
        ours = {ts.key for ts in ws.processing if LOSS_ANNOTATION in (ts.annotations or ())}
        if not ours:
            return
        said = await _executing(scheduler, ws.address)
        if said is not None and ours.isdisjoint(said):
            return
        await asyncio.sleep(_DRAIN_LOOK_S)


async def _executing(scheduler: Any, address: str) -> set[Any] | None:
    """Keys that a worker executes; None if it may still start some."""
    message = {"op": "run", "function": cloudpickle.dumps(_look)}
    answers = await scheduler.broadcast(msg=message, workers=[address], on_error="return")
    answer = answers.get(address)
    if not isinstance(answer, dict) or "result" not in answer:
        return None if address in scheduler.workers else set()
    said = _plain(answer["result"])
    return None if said is None else set(said)


def _plain(result: Any) -> Any:
    """What a worker answered: a scheduler leaves it wrapped, as it leaves all that is users'."""
    if hasattr(result, "header"):
        return deserialize(result.header, result.frames)
    return getattr(result, "data", result)


def _look(dask_worker: Any) -> list[Any] | None:
    if dask_worker.status.name != "closing_gracefully":
        return None
    state = dask_worker.state
    return [ts.key for ts in (*state.executing, *state.long_running)]
