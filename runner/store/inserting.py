"""A batch becomes rows of SQLite, inside a transaction that the caller holds.

Values that SQLite cannot take (lone surrogates, integers over 64 bits, numpy scalars) are mended
row by row, and a row that still does not fit is dropped with a log line: one odd value must not
keep thousands of good rows out of the record, now and at every later attempt.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from daskflow.runner.store.batch import APPENDED, UPSERTED, Batch, FlowRunChanges, Kind, Row
from daskflow.runner.store.statements import load_statements, repeated

__all__ = ["insert"]

_log = logging.getLogger(__name__)

_CHUNK_ROWS = (512, 64, 8, 1)
_PARENTS = 8  # place of TaskRunRow.parents
_WIDTHS: dict[Kind, int] = {"tasks": 6, "task_runs": 20, "transitions": 7, "logs": 8, "events": 6}
_REFUSED = (
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    OverflowError,
    UnicodeError,
)
_INTEGERS = range(-(2**63), 2**63)


def insert(connection: sqlite3.Connection, batch: Batch) -> None:
    """Write `batch` in the open transaction of `connection`."""
    sql = load_statements("sqlite", "write")
    for flow_run_id, changes in batch.flow_runs.items():
        connection.execute(sql["flow_run_reserve"], (flow_run_id,))
        (key,) = connection.execute(sql["flow_run_key"], (flow_run_id,)).fetchone()
        if changes.row is not None:
            _insert_rows(connection, sql["flow_run"], [changes.row])
        for kind in UPSERTED:
            rows = _to_columns(kind, changes)
            _insert_all(connection, sql[kind], key, rows, _WIDTHS[kind])
        for kind in APPENDED:
            if changes.appended[kind]:
                (last,) = connection.execute(sql[f"{kind}_last"], (key,)).fetchone()
                rows = _in_order(_to_columns(kind, changes), last, _WIDTHS[kind])
                _insert_all(connection, sql[kind], key, rows, _WIDTHS[kind])


def _to_columns(kind: Kind, changes: FlowRunChanges) -> list[Row]:
    """Return the rows of `kind` with their collections turned into JSON text."""
    if kind in changes.upserted:
        rows = list(changes.upserted[kind].values())
        return [_with_parents_as_text(row) for row in rows] if kind == "task_runs" else rows
    if kind == "events":
        return [(*row[:4], _to_json(row[4])) for row in changes.appended[kind]]
    return changes.appended[kind]


def _with_parents_as_text(row: Row) -> Row:
    parents = row[_PARENTS]
    if parents is None or isinstance(parents, str):
        return row
    text = f"[{', '.join(map(str, parents))}]"
    return (*row[:_PARENTS], text, *row[_PARENTS + 1 :])


def _in_order(rows: Iterable[Row], last: int, width: int) -> list[Row]:
    """Put each row's place in the record before it; what readers add at the end is cut off."""
    return [(place, *row[: width - 1]) for place, row in enumerate(rows, last + 1)]


def _insert_all(
    connection: sqlite3.Connection, statement: str, key: int, rows: list[Row], width: int
) -> None:
    most = (connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) - 1) // width
    start = 0
    for size in _CHUNK_ROWS:
        while size <= most and len(rows) - start >= size:
            chunk = rows[start : start + size]
            start += size
            flat = [key, *chain.from_iterable(chunk)]
            try:
                if len(flat) != 1 + size * width:
                    raise sqlite3.ProgrammingError("a row has too few or too many values")
                connection.execute(repeated(statement, size), flat)
            except _REFUSED:
                _insert_rows(connection, statement, [(key, *row) for row in chunk])


def _insert_rows(connection: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> None:
    for row in rows:
        try:
            connection.execute(statement, tuple(_mended(value) for value in row))
        except _REFUSED as error:
            _log.warning("a row of the run record was dropped (%s): %.500r", error, row)


def _mended(value: Any) -> Any:
    """Return `value` as SQLite takes it, as close to what was meant as can be."""
    if value is None or isinstance(value, float | bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    for kind, method in _NUMBERS:
        if hasattr(value, method):
            number = kind(value)
            return number if isinstance(number, float) or number in _INTEGERS else str(number)
    return _to_json(value)


_NUMBERS: tuple[tuple[Callable[[Any], int | float], str], ...] = (
    (int, "__index__"),
    (float, "__float__"),
)


def _to_json(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, default=repr)
    except (TypeError, ValueError):  # keys that are no text, a value that holds itself
        return json.dumps({"unreadable": repr(value)})
