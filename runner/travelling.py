"""Parameters of a flow run in a process other than that of its function.

They go along with the code of every task, so only small parameters do; pickling stops as soon as
they are found to be larger.  Those of a flow that a task on a worker calls go to the flow process
in the same form.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import cloudpickle

from daskflow.errors import UsageError

__all__ = ["PARAMETER_BYTES", "TravelledParameters", "pickled_parameters"]

PARAMETER_BYTES = 65_536


class _TooLarge(Exception):
    """Signal: there is more than may travel."""


class _Bounded(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > PARAMETER_BYTES:
            raise _TooLarge
        return super().write(data)


class TravelledParameters(Mapping[str, Any]):
    """Parameters that have travelled, unpickled when they are first looked at.

    Parameters
    ----------
    sent : bytes or str
        As `pickled_parameters` makes it.

    Raises
    ------
    UsageError
        When one looks at parameters that did not travel.
    """

    def __init__(self, sent: bytes | str) -> None:
        self.sent = sent
        self._loaded: dict[str, Any] | None = None

    def _all(self) -> dict[str, Any]:
        if self._loaded is None:
            if isinstance(self.sent, str):
                raise UsageError(f"{self.sent}; pass what the task needs as an argument")
            self._loaded = pickle.loads(self.sent) if self.sent else {}
        return self._loaded

    def __getitem__(self, name: str) -> Any:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return self.sent if isinstance(self.sent, str) else repr(self._all())


def pickled_parameters(parameters: Mapping[str, Any]) -> bytes | str:
    """The parameters as they travel, or why they do not."""
    if isinstance(parameters, TravelledParameters):
        return parameters.sent
    if not parameters:
        return b""
    target = _Bounded()
    try:
        cloudpickle.Pickler(target, 5).dump(dict(parameters))
    except _TooLarge:
        return (
            f"the parameters of this flow run are larger than the {PARAMETER_BYTES:,} bytes that "
            "go along with every task"
        )
    except Exception as error:  # whatever pickling user values raises
        return f"the parameters of this flow run do not pickle ({type(error).__name__}: {error})"
    return target.getvalue()
