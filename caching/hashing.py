"""Content hash: equal digests mean equal types and equal values, in every process.

What counts as equal: NaN by its bits, -0.0 is not 0.0, the order of a dict does not count (that
of an OrderedDict does), neither does the layout of an array or the chunks of a table.  Nothing is
consumed or changed.  The stream that is hashed is described in `hash_writer`; the handlers of
types stand in the other `hash_*` modules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from daskflow.caching.hash_buffers import raw_hash
from daskflow.caching.hash_objects import hooks, new_writer
from daskflow.caching.hash_writer import NoContent, dumps, handlers
from daskflow.errors import Uncacheable, UsageError

__all__ = ["FORMAT", "content_digest", "register_hash"]

FORMAT = 1
_OPENING = b"daskflow content %d\0" % FORMAT
T = TypeVar("T")

# Digests of atoms seen before: hashing costs five times that.  By exact type, because 1 == True;
# within each of these types equal values are the same.
_recent: dict[type, dict[Any, str]] = {kind: {} for kind in (str, int, bool, bytes, type(None))}
_recent_floats: dict[bytes, str] = {}
_MOST_RECENT, _RECENT_BYTES = 4096, 64
_TEXTS = frozenset({str, bytes})


def content_digest(
    value: Any, *, algorithm: str = "sha256", name: str = "value", threads: int | None = None
) -> str:
    """Return the digest of a value's type and content.

    Parameters
    ----------
    value : any
        What to hash.  It is neither consumed nor changed.
    algorithm : {"sha256", "blake3"}, default "sha256"
        ``"blake3"`` needs the extra of that name.
    name : str, default "value"
        What error messages call the value, for example the name of the argument.
    threads : int, optional
        Threads that hash buffers of more than 4 MiB; one per core by default.  The digest does
        not depend on it.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    Uncacheable
        When the value, or a part of it, has no content that could be hashed (a lock, a client, a
        generator); the message names the part, for example ``cfg.session._lock``.
    UsageError
        When there is no such algorithm, or its package is not installed.
    """
    kind = type(value)
    known = _recent.get(kind)
    if known is not None and algorithm == "sha256":
        if (kind is str or kind is bytes) and len(value) > _RECENT_BYTES:
            return _digest(value, "sha256", name, threads)  # to find it would be to hash it
        found = known.get(value)
        return _atom(value, known, value) if found is None else found
    if kind is float and algorithm == "sha256":
        # not by equality: -0.0 is not 0.0, and NaN is by its bits
        written = dumps(value, 2)
        return _recent_floats.get(written) or _atom(value, _recent_floats, written)
    if known is not None and (kind not in _TEXTS or len(value) <= _RECENT_BYTES):
        # as the writer would have it; what is hashed so fast need not be kept
        return raw_hash(algorithm)(_OPENING + dumps(value, 2)).hex()
    return _digest(value, algorithm, name, threads)


def _atom(value: Any, known: dict[Any, str], key: Any) -> str:
    """Return the digest of an atom that is not `known` yet, and keep it if it is short."""
    written = dumps(value, 2)
    found = hashlib.sha256(_OPENING + written).hexdigest()  # as the writer would have it
    if len(written) <= _RECENT_BYTES:
        if len(known) >= _MOST_RECENT:
            known.clear()
        known[key] = found
    return found


def _digest(value: Any, algorithm: str, name: str, threads: int | None) -> str:
    writer = new_writer(algorithm, threads)
    try:
        writer.put(value)
        return writer.digest(_OPENING).hex()
    except NoContent as lack:
        raise uncacheable(lack, name) from None
    except RecursionError:
        raise Uncacheable(
            f"{name} is nested too deeply to be hashed; flatten it, or leave it out of the key"
        ) from None
    except Uncacheable:
        raise
    except Exception as error:
        # Code of the value's class runs here; whatever it raises, the run goes on uncached.
        raise Uncacheable(
            f"{name} could not be hashed: {type(error).__name__}: {error}; leave it out of the "
            "key, or give its class a method `__daskflow_hash__` that returns what counts"
        ) from error
    finally:
        writer.close()


def uncacheable(lack: NoContent, name: str) -> Uncacheable:
    """Return the error that says which part of the value called `name` has no content."""
    return Uncacheable(
        f"{name}{''.join(lack.steps)} {lack.reason}, which has no content to hash; leave it out "
        "with `cache_policy=DEFAULT - 'name of the argument'`, or give its class a method "
        "`__daskflow_hash__` that returns what counts"
    )


def register_hash(kind: type[T]) -> Callable[[Callable[[T], object]], Callable[[T], object]]:
    """Say what counts as the content of a type (and its subclasses) that is not yours.

    For your own classes a method ``__daskflow_hash__(self)`` does the same.

    Parameters
    ----------
    kind : type
        The type.

    Returns
    -------
    callable
        A decorator for a function that takes a value of the type and returns what is hashed
        instead, for example a tuple.

    Raises
    ------
    UsageError
        When `kind` is no type, or what is decorated cannot be called.
    """
    if not isinstance(kind, type):
        raise UsageError(f"register_hash takes a type, not {kind!r}")

    def register(content: Callable[[T], object]) -> Callable[[T], object]:
        if not callable(content):
            raise UsageError(f"the content of {kind.__qualname__} is a function, not {content!r}")
        hooks[kind] = content
        # Handlers of subclasses may have been found already.
        for known in [k for k in handlers if issubclass(k, kind)]:
            del handlers[known]
        return content

    return register
