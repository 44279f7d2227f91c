"""What task code on workers may ask about its flow run: its attempt and its parameters.

They go along with the code of every task, so only small parameters do; pickling stops as soon as
they are found to be larger.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import cloudpickle

__all__ = ["PARAMETER_BYTES", "pickled_parameters"]

PARAMETER_BYTES = 65_536


class _TooLarge(Exception):
    """Signal: there is more than may travel."""


class _Bounded(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > PARAMETER_BYTES:
            raise _TooLarge
        return super().write(data)


def pickled_parameters(parameters: Mapping[str, Any]) -> bytes | str:
    """The parameters as they travel, or why they do not."""
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
