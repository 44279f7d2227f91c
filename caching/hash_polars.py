"""Handlers of polars values, through Arrow; lazy frames and Object columns have no content.

Types are told by their names, so that nothing here needs polars before a value of it turns up.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from daskflow.caching.hash_arrow import put_column
from daskflow.caching.hash_writer import ContentWriter, Handler, NoContent, tag

__all__ = ["handler_of"]


def handler_of(kind: type) -> Handler | None:
    """Return the handler of a polars type or of a subclass of one, else None."""
    return next((_HANDLERS[b.__name__] for b in kind.__mro__ if b.__name__ in _HANDLERS), None)


def _frame(w: ContentWriter, frame: Any) -> None:
    w.out.append(tag("polars.DataFrame"))
    w.put(frame.shape)
    for series in frame.get_columns():
        try:
            _series(w, series)
        except NoContent as lack:
            raise lack.within(f"[{series.name!r}]") from None


def _series(w: ContentWriter, series: Any) -> None:
    polars: Any = import_module("polars")
    if series.dtype == polars.Object:
        raise NoContent("is a polars column of Python objects")
    w.out.append(tag("polars.Series"))
    w.put((series.name, repr(series.dtype)))
    column: Any = series.to_arrow(compat_level=polars.CompatLevel.oldest())
    # Codes of categories depend on what else the process has seen; the words do not.
    plain = _decoded(column.type)
    put_column(w, [column if plain == column.type else column.cast(plain)], plain)


def _decoded(kind: Any) -> Any:
    """Return an Arrow type with words in the place of categories."""
    arrow: Any = import_module("pyarrow")
    types = arrow.types
    if types.is_dictionary(kind):
        return kind.value_type
    if types.is_struct(kind):
        return arrow.struct([field.with_type(_decoded(field.type)) for field in kind])
    if types.is_large_list(kind):
        return arrow.large_list(kind.value_field.with_type(_decoded(kind.value_type)))
    if types.is_fixed_size_list(kind):
        item = kind.value_field.with_type(_decoded(kind.value_type))
        return arrow.list_(item, kind.list_size)
    return kind


def _dtype(w: ContentWriter, dtype: Any) -> None:
    w.out.append(tag("polars.DataType"))
    w.put(repr(dtype))


def _dtype_class(w: ContentWriter, dtype: Any) -> None:
    w.out.append(tag("polars.DataTypeClass"))
    w.put(dtype.__qualname__)


def _lazy(w: ContentWriter, frame: Any) -> None:
    raise NoContent("is a polars.LazyFrame (collect it first)")


_HANDLERS: dict[str, Handler] = {
    "DataFrame": _frame,
    "Series": _series,
    "LazyFrame": _lazy,
    "DataType": _dtype,
    "DataTypeClass": _dtype_class,
}
