"""From what a person types to a flow run: id, unique prefix of an id, name, or `@last`.

`@last` is the newest run that a person started: a subflow is never meant by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

from daskflow.errors import NotFoundError
from daskflow.runner.store.rows import FlowRunRow

__all__ = ["find_flow_run"]

_SHOWN = 5
_SEARCHED = 2000
_ID_LENGTH = 32

Find = Callable[..., list[tuple[Any, ...]]]


def find_flow_run(ref: str, find: Find) -> FlowRunRow:
    """Return the one flow run that `ref` names; `find(statement, **parameters)` asks the store.

    An exact id wins over a name, a name over a prefix of an id.
    """
    if ref == "@last":
        runs = find("last_flow_run")
        if not runs:
            raise NotFoundError("no flow run is recorded yet, so there is no '@last'")
        return FlowRunRow._make(runs[0])
    if _is_text(ref):
        asked = ref.lower()
        by_prefix = find("flow_runs_by_prefix", prefix=asked, limit=_SHOWN + 1) if asked else []
        if len(asked) == _ID_LENGTH and by_prefix:
            return FlowRunRow._make(by_prefix[0])
        for rows in (find("flow_runs_by_name", name=ref, limit=_SHOWN + 1), by_prefix):
            if len(rows) > 1:
                raise NotFoundError(_ambiguous(ref, map(FlowRunRow._make, rows)))
            if rows:
                return FlowRunRow._make(rows[0])
    raise NotFoundError(_unknown(ref, find("flow_run_names", limit=_SEARCHED)))


def _is_text(ref: str) -> bool:
    try:
        ref.encode("utf-8")
    except UnicodeEncodeError:  # a shell argument in another encoding
        return False
    return True


def _ambiguous(ref: str, runs: Iterable[FlowRunRow]) -> str:
    names = [f"{run.flow_run_id} ({run.name})" for run in runs]
    more = ", and more" if len(names) > _SHOWN else ""
    return f"{ref!r} names several flow runs, use an id: {', '.join(names[:_SHOWN])}{more}"


def _unknown(ref: str, known: list[tuple[Any, ...]]) -> str:
    if not known:
        return f"no flow run is called {ref!r}; none is recorded yet"
    by_word = {name: name for _, name in known if name}
    by_word |= {flow_run_id[: max(len(ref), 8)]: flow_run_id for flow_run_id, _ in known}
    near = [by_word[word] for word in get_close_matches(ref, by_word, n=3, cutoff=0.6)]
    hint = f"nearest: {', '.join(near)}" if near else f"the newest is {known[0][1]!r}"
    return f"no flow run is called {ref!r}; {hint}"
