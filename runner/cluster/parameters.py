"""Parameters of a flow run for tasks on workers: sent when a task first asks, once per process.

Parameters that do not pickle, and very large ones, are left out; asking for one of them by name
says so.  Nothing travels for tasks that do not ask.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daskflow.errors import UsageError
from daskflow.runner.cluster.answers import ask_driver
from daskflow.runner.cluster.executor.values import dumps

if TYPE_CHECKING:
    from daskflow.runner.cluster.executor.active import ActiveParcel

__all__ = ["SentParameters", "pack_parameters", "parameters_of"]

_LARGEST = 1_048_576  # bytes of one parameter
_REMEMBERED = 64  # flow runs

_known: OrderedDict[str, dict[str, bytes | str]] = OrderedDict()


class SentParameters(dict[str, Any]):
    """Parameters that came along, by name; the others say why they did not."""

    def __init__(self, packed: Mapping[str, bytes | str]) -> None:
        came = {name: blob for name, blob in packed.items() if isinstance(blob, bytes)}
        super().__init__({name: pickle.loads(blob) for name, blob in came.items()})
        self._absent = {name: why for name, why in packed.items() if isinstance(why, str)}

    def __missing__(self, name: str) -> Any:
        if (why := self._absent.get(name)) is None:
            raise KeyError(name)
        raise UsageError(
            f"parameter {name!r} of the flow run is not on this worker: {why}; hand it to the task "
            "as an argument"
        )


def pack_parameters(parameters: Mapping[str, Any]) -> dict[str, bytes | str]:
    """Each parameter as bytes, or why it cannot be sent."""
    return {name: _pack(value) for name, value in list(parameters.items())}


def _pack(value: Any) -> bytes | str:
    try:
        blob = dumps(value)
    except Exception as error:  # user code
        return f"a {type(value).__qualname__} does not pickle ({error})"
    if len(blob) > _LARGEST:
        return f"it has {len(blob):,} bytes, more than the {_LARGEST:,} that are sent unasked"
    return blob


def parameters_of(parcel: ActiveParcel, flow_run_id: str) -> SentParameters:
    """The parameters of a flow run, a fresh copy for each task run."""
    packed = _known.get(flow_run_id)
    if packed is None:
        packed = ask_driver(parcel.channel, "parameters", flow_run_id).value()
        assert packed is not None
        _known[flow_run_id] = packed
        while len(_known) > _REMEMBERED:
            _known.popitem(last=False)
    return SentParameters(packed)
