"""Cache keys that explain themselves: a key, the parts that it was made of, and what changed.

Pure: digests come in, a key comes out.  A key is `None` when nothing may be cached.
"""

from __future__ import annotations

import hashlib
import marshal
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from daskflow.caching.code import CodeDigest
from daskflow.caching.policy import CachePolicy
from daskflow.errors import UsageError

__all__ = [
    "CacheKey",
    "Change",
    "explain",
    "input_parts",
    "make_key",
    "run_identity",
    "run_key",
]

_FORMAT, _USUAL_FORMAT = "daskflow key 1", "daskflow key 2"
_KINDS = ("task", "custom", "input", "code", "parameter", "run")
_WORDS = {"input": "argument", "parameter": "flow parameter", "code": "code"}


class CacheKey(NamedTuple):
    """A key, and what it was made of.

    Attributes
    ----------
    key : str
        64 hexadecimal digits.
    parts : mapping of str to str
        ``"input x"``, ``"code clean.py:strip"``, ``"parameter day"``, ``"run"``, ``"custom"`` and
        ``"task"``, each with its digest or, for the last three, its text.
    """

    key: str
    parts: Mapping[str, str]


class Change(NamedTuple):
    """One difference between the parts of two keys.

    Attributes
    ----------
    kind : str
        ``"input"``, ``"code"``, ``"parameter"``, ``"run"``, ``"custom"`` or ``"task"``.
    name : str
        The argument, piece of code or parameter; empty for the last three kinds.
    how : str
        ``"changed"``, ``"added"`` or ``"removed"``.
    """

    kind: str
    name: str
    how: str

    def __str__(self) -> str:
        word = _WORDS.get(self.kind, self.kind)
        return f"{word} {self.name} {self.how}" if self.name else f"{word} {self.how}"


def make_key(
    task_name: str,
    policy: CachePolicy,
    *,
    code: CodeDigest | None = None,
    inputs: Mapping[str, str] | None = None,
    flow_run_id: str | None = None,
    flow_parameters: Mapping[str, str] | None = None,
    custom: str | None = None,
    algorithm: str = "sha256",
) -> CacheKey | None:
    """Return the cache key of one task run, or None when its result may not be cached.

    Parameters
    ----------
    task_name : str
        The task's name; tasks of different names never share a result under a policy, but a
        `custom` key is shared by whoever gives it.
    policy : CachePolicy
        What counts.
    code : CodeDigest, optional
        The task's code, for ``TASK_SOURCE``.  None: it has none that could be hashed.
    inputs : mapping of str to str, optional
        Digest per bound argument, for ``INPUTS``.  None: they could not be hashed.
    flow_run_id : str, optional
        For ``RUN_ID``.
    flow_parameters : mapping of str to str, optional
        Digest per parameter of the flow, for ``FLOW_PARAMETERS``.
    custom : str, optional
        What the task's ``cache_key_fn`` returned.  It takes the place of `policy`.  (A function
        that returned None asked for no caching: then there is no key to make.)
    algorithm : {"sha256", "blake3"}, default "sha256"
        Of the digests.  Keys of two algorithms never meet, whatever they are made of.

    Returns
    -------
    CacheKey or None
        None when `policy` is ``NO_CACHE`` and there is no `custom` key, and when something that
        the policy asks for is missing: then nothing is cached, rather than something wrong found.
    """
    if custom is not None:
        return _keyed({"custom": custom}, custom, algorithm)
    components = policy.components
    if not components:
        return None
    if code is not None and inputs is not None and components == _USUAL:
        return _usual_key(task_name, code, inputs, policy.excluded, algorithm)
    parts = {"task": task_name}
    made: list[object] = [_format(_FORMAT, algorithm), task_name]
    if "INPUTS" in components:
        if inputs is None:
            return None
        made.append(_put_digests(parts, "input ", inputs, policy.excluded))
    if "TASK_SOURCE" in components:
        if code is None:
            return None
        made.append(("code", code.digest))
        parts.update(_prefixed.get(code.digest) or _code_parts(code))
    if "RUN_ID" in components:
        if flow_run_id is None:
            return None
        made.append(("run", flow_run_id))
        parts["run"] = flow_run_id
    if "FLOW_PARAMETERS" in components:
        if flow_parameters is None:
            return None
        made.append(_put_digests(parts, "parameter ", flow_parameters, frozenset()))
    return CacheKey(_hex(made), parts)


def input_parts(task_name: str, inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the parts that a key of `task_name` with these input digests has at least."""
    return {"task": task_name, **{f"input {name}": digest for name, digest in inputs.items()}}


def run_identity(task_name: str, parts: Mapping[str, str]) -> str:
    """Return what a task run is known by when its flow run is resumed, but for its equals.

    Parameters
    ----------
    task_name : str
    parts : mapping of str to str
        `CacheKey.parts`, of which inputs or a custom key count: neither code, nor the flow's
        parameters, nor its run.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    kept = sorted(p for p in parts.items() if p[0].startswith("input ") or p[0] == "custom")
    return _hex(["daskflow run 1", task_name, kept])


def run_key(flow_run_id: str, place: str, parts: Mapping[str, str]) -> CacheKey:
    """Return the key of a result that persists and is found by its own run only.

    Parameters
    ----------
    flow_run_id : str
    place : str
        Tells the run from its equals in the flow run.
    parts : mapping of str to str
        From `input_parts`.
    """
    run = {"run": flow_run_id, "place": place}
    task_name = parts.get("task", "")
    made: list[object] = [_FORMAT, "run", flow_run_id, run_identity(task_name, parts), place]
    return CacheKey(_hex(made), {**parts, **run})


class _Template(NamedTuple):
    """What the keys of one task have in common: what is hashed before the inputs, and parts."""

    excluded: frozenset[str]
    values: Callable[[Mapping[str, str]], Sequence[str]]
    labels: list[str]
    opening: bytes
    parts: dict[str, str]


class _Parts(Mapping[str, str]):
    """The parts of a key, put together when somebody looks: most keys are only looked up."""

    __slots__ = ("_made", "_template", "_values")
    _made: dict[str, str]

    def __init__(self, template: _Template, values: list[str]) -> None:
        self._template, self._values = template, values

    def _dict(self) -> dict[str, str]:
        try:
            return self._made
        except AttributeError:  # nobody has looked yet
            known = self._template
            self._made = known.parts | dict(zip(known.labels, self._values, strict=True))
        return self._made

    def __getitem__(self, name: str) -> str:
        return self._dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict())

    def __len__(self) -> int:
        return len(self._dict())

    def __repr__(self) -> str:
        return repr(self._dict())

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[dict[str, str]]]:
        return dict, (self._dict(),)


_USUAL = frozenset({"INPUTS", "TASK_SOURCE"})
_templates: dict[tuple[str, str, tuple[str, ...], str], _Template] = {}
_MOST_TEMPLATES = 1024
_new = tuple.__new__  # a NamedTuple's own constructor takes three times as long


def _usual_key(
    task_name: str,
    code: CodeDigest,
    inputs: Mapping[str, str],
    excluded: frozenset[str],
    algorithm: str,
) -> CacheKey:
    """Return the key of what most tasks ask for, with what is constant kept."""
    given = tuple(inputs)
    known = _templates.get((task_name, code.digest, given, algorithm))
    if known is None or known.excluded != excluded:
        if len(_templates) >= _MOST_TEMPLATES:
            _templates.clear()
        known = _template(task_name, code, given, excluded, algorithm)
        _templates[task_name, code.digest, given, algorithm] = known
    values = list(known.values(inputs))
    made = known.opening + ",".join(values).encode()  # no comma is a hexadecimal digit
    return _new(CacheKey, (hashlib.sha256(made).hexdigest(), _Parts(known, values)))


def _template(
    task_name: str,
    code: CodeDigest,
    names: tuple[str, ...],
    excluded: frozenset[str],
    algorithm: str,
) -> _Template:
    counted, labels, written = _part_names(names, "input ", excluded)
    named = _format(_USUAL_FORMAT, algorithm)
    constant = marshal.dumps([named, task_name, written, code.digest], 2)
    opening = hashlib.sha256(constant).digest()
    parts = {"task": task_name, **dict.fromkeys(labels, ""), **_code_parts(code)}
    return _Template(excluded, _getter(counted), labels, opening, parts)


def _getter(names: list[str]) -> Callable[[Mapping[str, str]], Sequence[str]]:
    if len(names) < 2:  # for one name `itemgetter` gives no tuple
        return lambda digests: [digests[name] for name in names]
    return operator.itemgetter(*names)


def _put_digests(
    parts: dict[str, str], prefix: str, digests: Mapping[str, str], excluded: frozenset[str]
) -> tuple[bytes, list[str]]:
    names, labels, written = _part_names(tuple(digests), prefix, excluded)
    values = [digests[name] for name in names]
    parts.update(zip(labels, values, strict=True))
    return written, values


@lru_cache(1024)
def _part_names(
    names: tuple[str, ...], prefix: str, excluded: frozenset[str]
) -> tuple[list[str], list[str], bytes]:
    """Return the names that count, sorted, their parts' names, and both as bytes to hash."""
    counted = sorted(name for name in names if name not in excluded)
    labels = [prefix + name for name in counted]
    return counted, labels, marshal.dumps([prefix, *labels], 2)


def _keyed(parts: dict[str, str], custom: str, algorithm: str) -> CacheKey:
    if not isinstance(custom, str):
        raise UsageError(f"cache_key_fn returned {custom!r}; return a string, or None not to cache")
    return CacheKey(_hex([_format(_FORMAT, algorithm), None, custom]), parts)


def _format(name: str, algorithm: str) -> str:
    """Return what a key's bytes begin with."""
    return name if algorithm == "sha256" else f"{name} {algorithm}"


def _hex(made: list[object]) -> str:
    # As marshal writes it no text can pass for two; nothing but lists, tuples and strings is here.
    return hashlib.sha256(marshal.dumps(made, 2)).hexdigest()


_prefixed: dict[str, Mapping[str, str]] = {}
_MOST_PREFIXED = 1024


def _code_parts(code: CodeDigest) -> Mapping[str, str]:
    if len(_prefixed) >= _MOST_PREFIXED:
        _prefixed.clear()
    found = {f"code {name}": digest for name, digest in code.parts.items()}
    _prefixed[code.digest] = found
    return found


def explain(old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    """Return what differs between the parts of two keys of one task, the likeliest cause first.

    Parameters
    ----------
    old, new : mapping of str to str
        `CacheKey.parts` of an earlier run and of this one.

    Returns
    -------
    list of Change
        Empty when the parts are equal, so the keys are.
    """
    changes = []
    for part in sorted({*old, *new}):
        before, after = old.get(part), new.get(part)
        if before != after:
            how = "added" if before is None else "removed" if after is None else "changed"
            kind, _, name = part.partition(" ")
            changes.append(Change(kind, name, how))
    return sorted(changes, key=lambda change: (_rank(change.kind), change.name))


def _rank(kind: str) -> int:
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
