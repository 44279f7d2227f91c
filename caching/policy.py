"""Cache policies: what a cache key is made of.

A policy is a value: policies add with ``+``, and ``policy - "name"`` leaves one argument out of
the key.  The key itself is made in `keys`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from daskflow.errors import UsageError

__all__ = [
    "DEFAULT",
    "FLOW_PARAMETERS",
    "INPUTS",
    "NO_CACHE",
    "RUN_ID",
    "STRICT",
    "TASK_SOURCE",
    "CachePolicy",
]

_ORDER = ("INPUTS", "TASK_SOURCE", "RUN_ID", "FLOW_PARAMETERS")


@dataclass(frozen=True, slots=True, repr=False)
class CachePolicy:
    """What a cache key is made of; use the constants of this module and add them with ``+``.

    ``policy - "name"`` leaves the argument `name` out of the key, for example a client or a path
    of scratch space; ``policy - ("a", "b")`` leaves out several.

    Attributes
    ----------
    components : frozenset of str
        ``"INPUTS"``, ``"TASK_SOURCE"``, ``"RUN_ID"``, ``"FLOW_PARAMETERS"``.  Empty: no caching.
    excluded : frozenset of str
        Arguments that do not count.
    strict : bool
        A task run that cannot be cached, for an input or a result without content, fails instead
        of running uncached. `STRICT` is a policy of its own to add: ``DEFAULT + STRICT``.
    """

    components: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    strict: bool = False

    def __post_init__(self) -> None:
        unknown = sorted(map(str, set(self.components) - set(_ORDER)))
        if unknown:
            raise UsageError(
                f"a cache policy has no component {unknown[0]!r}; have {', '.join(_ORDER)}"
            )
        object.__setattr__(self, "components", frozenset(self.components))
        object.__setattr__(self, "excluded", frozenset(self.excluded))

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if not isinstance(other, CachePolicy):
            raise UsageError(
                f"cannot add {other!r} to the cache policy {self!r}; add a policy, for example "
                "INPUTS + TASK_SOURCE"
            )
        return CachePolicy(
            self.components | other.components,
            self.excluded | other.excluded,
            self.strict or other.strict,
        )

    def __radd__(self, other: object) -> CachePolicy:
        raise UsageError(f"cannot add the cache policy {self!r} to {other!r}; both are policies")

    def __sub__(self, name: str | tuple[str, ...] | list[str] | set[str]) -> CachePolicy:
        names = [name] if isinstance(name, str) else name
        if not isinstance(names, tuple | list | set | frozenset) or not all(
            isinstance(each, str) and each.isidentifier() for each in names
        ):
            raise UsageError(
                f"cannot take {name!r} away from the cache policy {self!r}; only arguments can be "
                'left out, by name: INPUTS - "client"'
            )
        if "INPUTS" not in self.components:
            raise UsageError(
                f"cannot leave {name!r} out of the cache policy {self!r}: it does not look at the "
                "inputs; DEFAULT and INPUTS do"
            )
        return CachePolicy(self.components, self.excluded | frozenset(names), self.strict)

    def __contains__(self, other: object) -> bool:
        """Say whether every component of `other` is one of this policy: ``INPUTS in DEFAULT``."""
        if not isinstance(other, CachePolicy):
            raise UsageError(f"a cache policy contains policies, not {other!r}")
        return other.components <= self.components and self.strict >= other.strict

    @property
    def caches(self) -> bool:
        """Whether results are cached at all."""
        return bool(self.components)

    def __repr__(self) -> str:
        named = [name for name in _ORDER if name in self.components]
        words = " + ".join([*named, "STRICT"] if self.strict else named) or "NO_CACHE"
        if not self.excluded:
            return words
        left_out = " - ".join(repr(name) for name in sorted(self.excluded))
        return f"({words}) - {left_out}" if "+" in words else f"{words} - {left_out}"


INPUTS: Final = CachePolicy(frozenset({"INPUTS"}))
TASK_SOURCE: Final = CachePolicy(frozenset({"TASK_SOURCE"}))
RUN_ID: Final = CachePolicy(frozenset({"RUN_ID"}))
FLOW_PARAMETERS: Final = CachePolicy(frozenset({"FLOW_PARAMETERS"}))
NO_CACHE: Final = CachePolicy()
STRICT: Final = CachePolicy(strict=True)
DEFAULT: Final = INPUTS + TASK_SOURCE
