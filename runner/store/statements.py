"""SQL as files: named statements and numbered migrations, one folder a dialect.

`sql/<dialect>/*.sql` hold statements, each after a line ``-- name: <name>``; names are unique
in a file.  `sql/<dialect>/migrations/NNNN_title.sql` are applied in the order of their numbers;
the highest number is the schema version that this daskflow writes.  No other module holds SQL
beyond pragmas and transaction control.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib.resources import files
from sqlite3 import complete_statement
from typing import NamedTuple

__all__ = ["Migration", "load_migrations", "load_statements", "repeated"]

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class Migration(NamedTuple):
    """One numbered step of the schema."""

    version: int
    title: str
    statements: tuple[str, ...]


@cache
def load_statements(dialect: str, file: str) -> dict[str, str]:
    """Return the statements of ``sql/<dialect>/<file>.sql`` by name."""
    text = (files(__package__) / "sql" / dialect / f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


@cache
def load_migrations(dialect: str) -> tuple[Migration, ...]:
    """Return the migrations of `dialect`, lowest number first."""
    folder = files(__package__) / "sql" / dialect / "migrations"
    found = []
    for entry in folder.iterdir():
        number, _, rest = entry.name.partition("_")
        if entry.name.endswith(".sql"):
            text = entry.read_text(encoding="utf-8")
            found.append(Migration(int(number), rest.removesuffix(".sql"), _split(text)))
    return tuple(sorted(found))


def _split(script: str) -> tuple[str, ...]:
    """Cut a script into statements; a semicolon in a string or comment does not end one."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if line.rstrip().endswith(";") and complete_statement(current):
            statements.append(current.strip())
            current = ""
    return tuple(statements)


@lru_cache(maxsize=256)
def repeated(statement: str, rows: int, nulls: tuple[int, ...] = ()) -> str:
    """Return an INSERT with its last VALUES group repeated, so that one step inserts `rows` rows.

    The interpreter lock is given up once a step, so fewer steps leave more to the main thread:
    measured against `executemany`, 1.1 to 1.9 times the rows a second beside a busy one.  The
    places in `nulls` are written as NULL and take no parameter: the sqlite3 module looks for an
    adapter of every None that it is given, which takes longer than binding ten numbers.
    """
    head, values, group = statement.rpartition("VALUES ")
    if nulls:
        marks = ["?"] * group.count("?")
        for place in nulls:
            marks[place] = "NULL"
        group = f"({', '.join(marks)})"
    return head + values + ", ".join([group] * rows)
