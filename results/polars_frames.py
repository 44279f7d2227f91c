"""polars DataFrames and Series as native Parquet columns.

Columns go through Arrow; the exact dtypes (Enum, Categorical, Int128, nested ones) are kept as an
empty polars IPC file in the metadata, and the frame is cast back to them.  Types that Arrow or
Parquet do not bring back go as a polars IPC stream in binary rows; Python objects are refused.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import polars as pl

from daskflow.results.arrow_tables import native
from daskflow.results.encoded import EncodedValue, Unencodable
from daskflow.results.parts import parts_from_table, parts_table

__all__ = ["PolarsCodec"]


class PolarsCodec:
    """`polars.DataFrame` and `polars.Series`."""

    exact = "values, nulls and NaN, dtypes with categories and time zones, names, column order"

    def encode(self, value: Any) -> EncodedValue:
        """Encode a frame or series; raise `Unencodable` for columns of Python objects."""
        frame = value.to_frame() if isinstance(value, pl.Series) else value
        if any(dtype == pl.Object for dtype in frame.dtypes):
            raise Unencodable("a polars column of Python objects has no column type")
        meta: dict[str, Any] = {"kind": "frame" if frame is value else "series"}
        text = "\n".join(f"{name}: {dtype}" for name, dtype in frame.schema.items())
        if _plain(frame):
            meta["empty"] = base64.b64encode(_ipc(frame.clear())).decode()
            return EncodedValue("polars", meta, table=frame.to_arrow(), schema=text)
        rows = parts_table([_ipc(frame)])
        return EncodedValue("polars", meta | {"ipc": True}, table=rows, schema=text)

    def decode(self, stored: EncodedValue) -> Any:
        """Return a frame or series of its own."""
        if stored.meta.get("ipc"):
            frame = pl.read_ipc_stream(io.BytesIO(parts_from_table(stored.table)[0]))
        else:
            dtypes = pl.read_ipc_stream(io.BytesIO(base64.b64decode(stored.meta["empty"]))).schema
            made = pl.from_arrow(stored.table)
            assert isinstance(made, pl.DataFrame)
            frame = made.cast(pl.Schema(dtypes))
        return frame if stored.meta["kind"] == "frame" else frame.to_series()


def _ipc(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_ipc_stream(sink)
    return sink.getvalue()


# dtypes that Arrow and Parquet bring back as they are
_FLAT = {
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
    *(pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time),
    *(pl.Datetime, pl.Duration),
}


def _plain(frame: pl.DataFrame) -> bool:
    known = all(dtype.base_type() in _FLAT for dtype in frame.dtypes)
    return known and native(frame.clear().to_arrow().schema, frame.height)
