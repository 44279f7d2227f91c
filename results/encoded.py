"""What a codec makes of a value, and the promise that every codec keeps.

`EncodedValue` is small JSON text (`payload`) or a table of native or binary columns (`table`),
with the codec's name and whatever JSON it needs to decode (`meta`).  Codecs know nothing of files,
keys or stores; `daskflow.results.files` makes bytes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Codec", "EncodedValue", "Unencodable", "is_pickled"]


class Unencodable(Exception):
    """A codec cannot hold this value exactly; encoders catch it and fall back to the next one."""


class EncodedValue(NamedTuple):
    """A value in the form in which it is stored.

    Attributes
    ----------
    codec : str
        Name of the codec; ``+pickle`` at its end says that pickle is inside.
    meta : dict
        Plain JSON that decoding needs.
    payload : bytes or None
        JSON text, for codecs that make no table.
    table : pyarrow.Table or None
        Columns, for codecs that do.
    schema : str or None
        Readable schema of a table result, one ``name: type`` a line; None for other values.
    fresh : bool
        The table was read for one decoding, which may keep its memory.
    """

    codec: str
    meta: dict[str, Any]
    payload: bytes | None = None
    table: pa.Table | None = None
    schema: str | None = None
    fresh: bool = False


class Codec(Protocol):
    """Encodes one family of types exactly.

    `exact` says in words what comes back as it went in; tests hold it.
    """

    exact: str

    def encode(self, value: Any) -> EncodedValue:
        """Return the value in stored form; raise `Unencodable` when it would not be exact."""

    def decode(self, stored: EncodedValue) -> Any:
        """Return a fresh value, sharing no memory with earlier ones."""


def is_pickled(codec: str) -> bool:
    """Say whether decoding needs pickle."""
    return "pickle" in codec.split("+")
