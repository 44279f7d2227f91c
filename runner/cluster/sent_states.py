"""States on their way from a worker to the hooks in the flow process."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

from daskflow.errors import UsageError
from daskflow.runner.cluster.executor.errors import load_error, pickle_error
from daskflow.runner.cluster.executor.values import dumps
from daskflow.runner.cluster.protocol import INLINE_LIMIT
from daskflow.runner.state import State

__all__ = ["SentState"]


class SentState(NamedTuple):
    """A state as bytes; a large result stays where it is."""

    name: str
    message: str | None
    error: bytes | None
    result: bytes | str  # a text says why it did not come along

    @classmethod
    def of(cls, state: State, run_id: str) -> SentState:
        """Take a state apart."""
        error = None if state.error is None else pickle_error(state.error, run_id)
        return cls(state.name, state.message, error, _result(state))

    def load(self, run_id: str) -> State:
        """The state again."""
        if self.error is not None:
            return State(self.name, self.message, error=load_error(self.error, run_id))
        return State(self.name, self.message, load=self._load)

    def _load(self) -> Any:
        if isinstance(self.result, str):
            raise UsageError(f"the result is not here: {self.result}")
        return pickle.loads(self.result)


def _result(state: State) -> bytes | str:
    if not state.is_completed():
        return ""
    try:
        blob = dumps(state.result())
    except Exception as error:  # user code
        return f"it could not be sent from its worker ({error})"
    if len(blob) > INLINE_LIMIT:
        return f"it has {len(blob):,} bytes and stays on its worker; submit the task instead"
    return blob
