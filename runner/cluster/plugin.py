"""Scheduler plugin for clusters that are not ours: a loss budget for our own keys, and tidying.

Dask runs the task of a killed worker again up to `allowed-failures` times before a client can
react.  daskflow decides itself what runs again, so it marks its keys with the annotation
`LOSS_ANNOTATION` and this plugin charges them beforehand.  Nothing else on the scheduler changes.

The plugin leaves by itself when its client goes, also when the flow process was killed.  It
travels by value: the scheduler needs no daskflow, so this module may import distributed only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed import Scheduler

__all__ = ["LOSS_ANNOTATION", "REPORT_TOPIC", "LossBudget", "forget_client", "forget_topics"]

LOSS_ANNOTATION = "daskflow_lost"
REPORT_TOPIC = "daskflow-"  # with the id of the client; see `Session.topic`
_LATE_S = 2.0


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


def forget_client(dask_scheduler: Scheduler, client: str, topic: str) -> None:
    """Drop a client's own topic and its subscriptions, which Dask itself would keep for ever."""
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
