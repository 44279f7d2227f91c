"""Orders out of parcels: which code, which arguments, and where each input's value comes from.

A small value rides along as bytes, one from earlier in the same parcel is taken on the worker, a
large one is an input of the Dask task, which moves it from worker to worker.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from distributed import Future
from distributed import TimeoutError as DaskTimeoutError

from daskflow.runner.arguments import Literal
from daskflow.runner.cluster.executor.errors import KeyLost, error_bytes
from daskflow.runner.cluster.protocol import (
    BOUND_ERROR,
    BOUND_INPUT,
    BOUND_INPUT_BYTES,
    BOUND_LIVE,
    BOUND_LOCAL,
    BOUND_NOTHING,
    BOUND_STORED,
    Code,
    Item,
    Order,
)
from daskflow.runner.cluster.session import Session
from daskflow.runner.core.graph import Parcel, Remote, Run
from daskflow.runner.core.states import SUCCESSFUL
from daskflow.runner.stored import StoredValue

__all__ = ["KeyLost", "OrderMaker", "RemoteValue", "is_lost"]

_ALIVE = ("finished", "pending")


class RemoteValue(Remote):
    """A large result that stays on the cluster for as long as this object lives."""

    __slots__ = ("future",)

    def __init__(self, future: Any) -> None:
        self.future = future

    @classmethod
    def of_key(cls, key: str, client: Any) -> RemoteValue:
        """The value under a key that its worker has registered for `client`."""
        state: Any = "memory"  # what Dask calls it, though its annotation says otherwise
        return cls(Future(key, client, state=state))

    def load(self, timeout: float | None) -> Any:
        """Fetch the value.

        Raises
        ------
        KeyLost
            When the worker that held it is gone.
        TimeoutError
        """
        try:
            return self.future.client.gather(self.future, asynchronous=False)
        except DaskTimeoutError:
            raise
        except Exception as error:  # CancelledError, KeyError, KilledWorker: the version decides
            raise KeyLost(self.future.key) from error


def is_lost(run: Run) -> bool:
    """Whether the value of `run` lived on the cluster and does no more."""
    value = run.value
    return isinstance(value, RemoteValue) and value.future.status not in _ALIVE


class OrderMaker:
    """Makes orders for one session's cluster."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client = session.client
        self._topic = session.topic

    def order(self, parcel: Parcel, inputs: list[Any]) -> Order:
        """The order for `parcel`; the Dask futures that it needs are added to `inputs`."""
        codes: list[Code] = []
        places: dict[int, int] = {}
        places_of_inputs: dict[str, int] = {}
        linked = len(parcel.runs) > 1 and any(run.deps for run in parcel.runs)
        numbers = {run.number for run in parcel.runs} if linked else ()
        items: list[Item] = []
        kept = self._kept(parcel) if linked else ()
        asks: dict[int, Any] = {}
        for run in parcel.runs:
            code = run.stage.code
            place = places.get(id(code))
            if place is None:
                place = places[id(code)] = len(codes)
                assert isinstance(code, Code)
                codes.append(code._replace(function=None))
            if run.cache is not None:
                cache: Any = run.cache
                asks[run.number] = cache.ask(run.redo)
            bindings: tuple[tuple[int, Any], ...] = ()
            if run.deps:
                bindings = tuple(
                    self._binding(dep, numbers, inputs, places_of_inputs)
                    if slot < run.taken
                    else (BOUND_NOTHING, None)
                    for slot, dep in enumerate(run.deps)
                )
            items.append(
                (
                    run.number,
                    run.attempt + 1,
                    place,
                    run.index,
                    run.name,
                    run.payload,
                    bindings,
                    run.number in kept,
                )
            )
        return Order(
            parcel.id,
            self._topic,
            self._client.id,
            parcel.box_s,
            codes,
            items,
            self._session.flight_folder,
            asks,
        )

    def _kept(self, parcel: Parcel) -> set[int]:
        """Numbers of the runs whose results a later run of the same parcel takes."""
        inside = set(parcel.runs)
        return {dep.number for run in parcel.runs for dep in run.deps[: run.taken] if dep in inside}

    def _binding(
        self,
        dep: Run,
        numbers: Container[int],
        inputs: list[Any],
        places: dict[str, int],
    ) -> tuple[int, Any]:
        if dep.number in numbers and dep.parcel is not None:
            return BOUND_LOCAL, dep.number
        value = dep.value
        if isinstance(value, Literal):
            return BOUND_INPUT_BYTES, self._input(self._sent(value), inputs, places)
        if isinstance(value, RemoteValue):
            return BOUND_INPUT, self._input(value.future, inputs, places)
        if isinstance(value, StoredValue):
            return BOUND_STORED, value.ref
        if dep.state not in SUCCESSFUL or dep.error is not None:  # allowed to fail
            error = dep.error
            assert error is not None
            return (
                (BOUND_LIVE, error)
                if self._session.in_process
                else (
                    BOUND_ERROR,
                    error_bytes(error, dep.task_run_id),
                )
            )
        tag, data = value
        return tag, data

    def _input(self, future: Any, inputs: list[Any], places: dict[str, int]) -> int:
        place = places.get(future.key)
        if place is None:
            place = places[future.key] = len(inputs)
            inputs.append(future)
        return place

    def _sent(self, literal: Literal) -> Any:
        """The Dask future of a large argument, sent now if it is not on the cluster."""
        future = literal.future
        if future is None or future.status not in _ALIVE:
            literal.future = future = self._client.scatter(literal.blob, hash=False)
        return future
