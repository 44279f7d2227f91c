"""`with tags(...)`: flow runs and task runs that start inside carry these tags."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

from daskflow.runner.options import check_tags

__all__ = ["current_tags", "tags", "tags_of_flow_run"]

current_tags: ContextVar[frozenset[str]] = ContextVar("daskflow_tags", default=frozenset())


@contextlib.contextmanager
def tags(*names: str) -> Iterator[set[str]]:
    """Tag every flow run and task run that starts inside the ``with`` block.

    Blocks add up; task runs also have the tags of their task and of their flow run.

    Parameters
    ----------
    *names : str

    Yields
    ------
    set of str
        All tags that apply inside.

    Raises
    ------
    UsageError
        For a tag that is no text.

    Examples
    --------
    >>> with tags("nightly", "eu"):  # doctest: +SKIP
    ...     etl()
    """
    together = current_tags.get().union(check_tags(names))
    token = current_tags.set(together)
    try:
        yield set(together)
    finally:
        current_tags.reset(token)


def tags_of_flow_run(around: Iterable[str]) -> tuple[str, ...]:
    """Tags of a flow run that starts now, inside a flow run with the tags `around`."""
    return tuple(sorted(current_tags.get().union(around)))
