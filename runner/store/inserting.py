"""A batch becomes rows of SQLite, inside a transaction that the caller holds.

Values that SQLite cannot take (lone surrogates, integers over 64 bits, numpy scalars) are mended
row by row, and a row that still does not fit is dropped with a log line: one odd value must not
keep thousands of good rows out of the record, now and at every later attempt.  What is written
under a lease that somebody else has taken since is refused.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from daskflow.runner.core.leases import Lease
from daskflow.runner.store.batch import Batch, Kind, Row
from daskflow.runner.store.statements import load_statements, repeated

__all__ = ["insert"]

_log = logging.getLogger(__name__)

_CHUNK_ROWS = (512, 64, 8, 1)
_PARENTS = 8  # place of TaskRunRow.parents
_PAYLOAD = 4  # place of EventRow.payload
_REFUSED = (
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    OverflowError,
    ValueError,  # a lone surrogate; rows that are not equally long
)
_number = itemgetter(0)
_INTEGERS = range(-(2**63), 2**63)


def insert(connection: sqlite3.Connection, batch: Batch) -> None:
    """Write `batch` in the open transaction of `connection`."""
    sql = load_statements("sqlite", "write")
    for (flow_run_id, lease), changes in batch.flow_runs.items():
        if lease is not None and _is_passed(connection, lease):
            continue
        connection.execute(sql["flow_run_reserve"], (flow_run_id,))
        (key,) = connection.execute(sql["flow_run_key"], (flow_run_id,)).fetchone()
        if changes.row is not None:
            _insert_rows(connection, sql["flow_run"], [(*changes.row[1:], changes.row[0])])
        for kind, replacing in changes.upserted.items():
            # in the order of their key: SQLite appends to a page much quicker than it splits one
            ordered = sorted(replacing.values(), key=_number)
            if kind == "task_runs":
                ordered = _task_runs(ordered)
            _insert_all(connection, sql[kind], key, ordered)
        for kind, added in changes.appended.items():
            if added:
                (last,) = connection.execute(sql[f"{kind}_last"], (key,)).fetchone()
                _insert_all(connection, sql[kind], key, _ADDED[kind](enumerate(added, last + 1)))


def _is_passed(connection: sqlite3.Connection, lease: Lease) -> bool:
    """Return whether a higher fence than that of `lease` was given out; its holder is told."""
    found = connection.execute(
        load_statements("sqlite", "leases")["fence"], (lease.flow_run_id,)
    ).fetchone()
    if found is None or found[0] <= lease.fence:
        return False
    if not lease.lost:
        _log.warning(
            "flow run %s was taken over by another process: what this one has to tell of it is "
            "left out of the run record",
            lease.flow_run_id,
        )
        lease.lose()
    return True


def _task_runs(rows: Iterable[Row]) -> list[Row]:
    return [
        row
        if row[_PARENTS] is None
        else (*row[:_PARENTS], _numbers(row[_PARENTS]), *row[_PARENTS + 1 :])
        for row in rows
    ]


def _numbers(parents: Iterable[int]) -> str:
    return f"[{', '.join(map(str, parents))}]"


def _transitions(rows: Iterable[tuple[int, Row]]) -> list[Row]:
    return [(place, *row) for place, row in rows]


def _logs(rows: Iterable[tuple[int, Row]]) -> list[Row]:
    return [(place, *row[:7]) for place, row in rows]  # the place is the store's to give


def _events(rows: Iterable[tuple[int, Row]]) -> list[Row]:
    return [(place, *row[:_PAYLOAD], _to_json(row[_PAYLOAD])) for place, row in rows]


_ADDED: dict[Kind, Callable[[Iterable[tuple[int, Row]]], list[Row]]] = {
    "transitions": _transitions,
    "logs": _logs,
    "events": _events,
}


def _insert_all(connection: sqlite3.Connection, statement: str, key: int, rows: list[Row]) -> None:
    """Insert rows of the flow run `key`, which is the first column of each."""
    width = statement.rpartition("VALUES ")[2].count("?")
    most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width
    start = 0
    for size in _CHUNK_ROWS:
        while size <= most and len(rows) - start >= size:
            chunk = rows[start : start + size]
            start += size
            try:
                _insert_chunk(connection, statement, key, chunk)
            except _REFUSED:
                _insert_rows(connection, statement, [(key, *row) for row in chunk])


def _insert_chunk(
    connection: sqlite3.Connection, statement: str, key: int, chunk: Sequence[Row]
) -> None:
    """Insert rows in one step; a column that is the same in all of them is handed over once."""
    rows = len(chunk)
    nulls: list[int] = []
    shared: list[int] = [0]
    values: list[Any] = [key]
    filled: list[Row] = []
    for place, column in enumerate(zip(*chunk, strict=True), 1):
        first = column[0]
        if first != column[-1] or column.count(first) != rows:
            filled.append(column)
        elif first is None:
            nulls.append(place)
        else:
            shared.append(place)
            values.append(first)
    own: list[Any] = [None] * (rows * len(filled))
    for place, filling in enumerate(filled):
        own[place :: len(filled)] = filling
    values += own
    connection.execute(repeated(statement, rows, tuple(nulls), tuple(shared)), values)


def _insert_rows(connection: sqlite3.Connection, statement: str, rows: Iterable[Row]) -> None:
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
