"""Code hash: what a function does, with everything of the project that it reaches.

A function is its source in normal form (`code_ast`; its bytecode when there is no source), its
default and closure values, and every global that it uses: functions and classes of the project
deep, constants by content, installed packages by name.  Each piece is a part with a name, so a
difference can be named.  About a millisecond; meant to run once per task definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from daskflow.caching.code_walk import Walk, reduce_parts
from daskflow.caching.hash_objects import new_writer
from daskflow.caching.hash_writer import ContentWriter, NoContent, tag
from daskflow.errors import Uncacheable, UsageError

__all__ = ["CodeDigest", "code_digest", "put_code"]


class CodeDigest(NamedTuple):
    """The digest of a function's code, and of the pieces that it was made of.

    Attributes
    ----------
    digest : str
        64 hexadecimal digits.
    parts : mapping of str to str
        Digest per piece: ``clean.py:strip`` for a function or class, ``settings.py:LIMIT`` for a
        constant, ``flows.py:load[limit]`` for a closure variable, ``flows.py:load(default limit)``
        for a default value, ``package pandas`` for an installed package.
    """

    digest: str
    parts: Mapping[str, str]


def code_digest(
    function: Callable[..., Any], *, algorithm: str = "sha256", package_versions: bool = False
) -> CodeDigest:
    """Return the digest of a function's code.

    Parameters
    ----------
    function : callable
        A function, method, lambda, `functools.partial`, class, or an object that wraps a function
        (``__wrapped__``, or the ``fn`` of a daskflow task).
    algorithm : {"sha256", "blake3"}, default "sha256"
        Hashes the pieces.
    package_versions : bool, default False
        Whether another version of an installed package is another digest.

    Returns
    -------
    CodeDigest
        The same in every process and for every version of Python as long as source is available.

    Raises
    ------
    Uncacheable
        When a value that the code reaches has no content (a lock, a connection); the message
        names it, for example ``flows.py:LOCK``.
    UsageError
        When `function` cannot be called.
    """
    if not callable(function):
        raise UsageError(f"code_digest takes a function, not {function!r}")
    writer = new_writer(algorithm)
    walk = Walk(writer, package_versions=package_versions)
    try:
        root = walk.run(function)
    except NoContent as lack:
        raise Uncacheable(
            f"{''.join(lack.steps)} {lack.reason}, which has no content to hash, and the code "
            "uses it; make it inside the function or pass it as an argument that is left out of "
            "the key, or leave TASK_SOURCE out of the cache policy"
        ) from None
    except RecursionError:
        raise Uncacheable(
            f"what {getattr(function, '__qualname__', function)!r} reaches is nested too deeply to "
            "be hashed; leave TASK_SOURCE out of the cache policy"
        ) from None
    except Exception as error:
        # A module that the function imports may fail, or code of a class whose instance it uses.
        raise Uncacheable(
            f"what {getattr(function, '__qualname__', function)!r} reaches could not be hashed: "
            f"{type(error).__name__}: {error}; leave TASK_SOURCE out of the cache policy"
        ) from error
    finally:
        writer.close()
    return CodeDigest(reduce_parts(root, walk.parts, writer.raw), walk.parts)


def put_code(w: ContentWriter, value: Any) -> None:
    """Write a function or class that is part of a value, by its code."""

    def write(w: ContentWriter, value: Any) -> None:
        walk = Walk(w)
        root = walk.run(value)
        w.out.append(tag("code"))
        w.put(reduce_parts(root, walk.parts, w.raw))

    w.nest(value, write)
