"""Futures of task runs, and how to hand them and other values to tasks.

A future is a handle: the run itself belongs to the driver.  Dropping the last handle lets the
driver release a large result on the cluster.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from daskflow.runner.cluster.executor.values import bound_value, dumps
from daskflow.runner.collecting import collecting, current_collection
from daskflow.runner.core.graph import Run
from daskflow.runner.core.states import FINAL, SUCCESSFUL
from daskflow.runner.state import State

__all__ = [
    "FutureOwner",
    "Stream",
    "TaskFuture",
    "allow_failure",
    "looked_at",
    "quote",
    "unmapped",
]

R = TypeVar("R")


class FutureOwner(Protocol):
    """What a future asks of whoever runs its task run."""

    def wait_for(self, runs: Sequence[Run], timeout: float | None) -> bool:
        """Block until all of `runs` are final; False when `timeout` seconds were not enough."""

    def value_of(self, run: Run, timeout: float | None) -> Any:
        """The result of a run that has succeeded, fetched from where it is."""

    def watch(self, run: Run, callback: Callable[[Run], object]) -> None:
        """Call `callback` with it once `run` is final; at once if it is."""

    def let_go(self, run: Run) -> None:
        """The future of `run` is gone."""


def _note(future: TaskFuture[Any], *, allowed: bool) -> tuple[Callable[[int], Any], tuple[int]]:
    return bound_value, (current_collection().slot(future._run, allowed=allowed),)


class TaskFuture(Generic[R]):
    """The future of one task run; tasks return it from `submit` and `map`.

    Hand it to another task as an argument, at any depth, to make that task run depend on it.
    """

    __slots__ = ("__weakref__", "_owner", "_run")

    def __init__(self, run: Run, owner: FutureOwner) -> None:
        self._run = run
        self._owner = owner

    @property
    def task_run_id(self) -> str:
        """Id of the task run: the flow run's id, a dash, a number."""
        return self._run.task_run_id

    @property
    def name(self) -> str:
        """Name of the task run, for example ``clean-3``."""
        return self._run.label

    @property
    def state(self) -> State:
        """The state now.  Looking at a final one counts as having noticed how the run ended."""
        run = self._run
        if run.state in FINAL:
            looked_at(run)
        return State(
            run.state,
            run.message,
            error=run.error if run.state not in SUCCESSFUL else None,
            load=lambda: self._owner.value_of(run, None),
        )

    def done(self) -> bool:
        """Whether the run is final."""
        return self._run.state in FINAL

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run is final, for `timeout` seconds at most.

        The state tells whether it is; a run that ended badly is not raised here.
        """
        self._owner.wait_for((self._run,), timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Wait for the run and return what its task returned.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.
        raise_on_failure : bool, default True
            False returns the exception instead of raising it.

        Raises
        ------
        TimeoutError
            When the run is not final after `timeout` seconds; it goes on.
        BaseException
            The task's own exception, with its remote traceback as the cause; `TaskCrashed`,
            `UpstreamFailed` or `TaskCancelled` for a run that no user code ended.
        """
        run = self._run
        if run.state not in FINAL and not self._owner.wait_for((run,), timeout):
            raise TimeoutError(
                f"{run.label} is {run.state} after {timeout} s; it goes on, ask again later"
            )
        if run.state in SUCCESSFUL:
            return self._owner.value_of(run, timeout)  # type: ignore[no-any-return]
        looked_at(run)
        assert run.error is not None
        if raise_on_failure:
            raise run.error
        return run.error  # type: ignore[return-value]

    def add_done_callback(self, callback: Callable[[TaskFuture[R]], object]) -> None:
        """Call `callback` with this future once the run is final; at once if it is.

        It runs in the driver's thread: keep it short, and do not wait in it.
        """
        self._owner.watch(self._run, lambda _: callback(self))

    def __await__(self) -> Generator[Any, None, R]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> R:
        import asyncio  # heavy for scripts without async code

        loop = asyncio.get_running_loop()
        run = self._run
        if run.state not in FINAL:
            ended = asyncio.Event()

            def tell(_: Run) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(ended.set)

            self._owner.watch(run, tell)
            # a plain task may run this loop: its slot is free for what it awaits
            self._owner.wait_for((run,), 0)
            await ended.wait()
        # fetching a large result blocks
        return await asyncio.to_thread(self.result) if run.result_bytes else self.result()

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return _note(self, allowed=False)

    def __del__(self) -> None:
        run = self._run
        if run.held:
            self._owner.let_go(run)

    def __repr__(self) -> str:
        return f"<TaskFuture {self._run.label} {self._run.state}>"


class Stream(ABC):
    """Base of what stands for futures that are not all there yet."""

    __slots__ = ()

    @abstractmethod
    def all(self) -> list[TaskFuture[Any]]:
        """All of them, once they are there."""

    @abstractmethod
    def completed(self, timeout: float | None = None) -> Iterator[TaskFuture[Any]]:
        """Each of them when its run is final."""


def looked_at(run: Run) -> None:
    """Remember that the flow has seen how this run ended, and what made it end so."""
    run.looked_at = True
    if run.cause is not None:
        run.cause.looked_at = True


class allow_failure:  # Prefect's name
    """Let the task run even if this future's run ended badly; it then gets the exception.

    Examples
    --------
    >>> report.submit(allow_failure(part))  # doctest: +SKIP
    """

    __slots__ = ("future",)

    def __init__(self, future: Any) -> None:
        self.future = future.all() if isinstance(future, Stream) else future

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        future = self.future
        if isinstance(future, TaskFuture):
            return _note(future, allowed=True)
        if isinstance(future, (list, tuple)):  # a FutureList: each of them may fail
            return list, ([allow_failure(item) for item in future],)
        return _same, (future,)


def _same(value: Any) -> Any:
    return value


class unmapped:  # Prefect's name
    """Hand this value to every task run of a `map` as it is, though it could be iterated."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _same, (self.value,)  # `submit` hands everything over as it is anyway


class quote:  # Prefect's name
    """Hand this value over without looking for futures inside it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        with collecting(off=True):  # a future inside is an error, not an input
            return pickle.loads, (dumps(self.value),)
