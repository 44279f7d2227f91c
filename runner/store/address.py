"""Store URLs: which database, and where.

`sqlite:///relative/path.db`, `sqlite:////absolute/path.db` and `sqlite:///~/path.db`, the
notation that SQLAlchemy made common.  A relative path is fixed against the working directory at
the time of the call, so a later `chdir` does not move the store.
"""

from __future__ import annotations

from pathlib import Path

from daskflow.errors import UsageError

__all__ = ["sqlite_path"]

_PREFIX = "sqlite:///"


def sqlite_path(url: str) -> Path:
    """Return the absolute path of the database that `url` names.

    Raises `UsageError` for anything that is not a SQLite URL with a path.
    """
    if not isinstance(url, str):
        raise UsageError(f"a store URL is a string, not {url!r}; write 'sqlite:///path/runs.db'")
    scheme, separator, _ = url.partition("://")
    if separator and scheme != "sqlite":
        raise UsageError(
            f"no run store speaks {scheme!r} (in {url!r}); write 'sqlite:///path/runs.db'"
        )
    text = url.removeprefix(_PREFIX)
    if text == url or not text or text == ":memory:" or "\0" in text or text.endswith("/"):
        raise UsageError(
            f"{url!r} names no database file; write 'sqlite:///relative.db' or "
            "'sqlite:////absolute/path/runs.db'"
        )
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{url!r} names a home folder that is not known: {error}") from None
