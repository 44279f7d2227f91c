"""What the tests of the result store share: keys, and results with all that a row holds."""

from __future__ import annotations

import hashlib
from typing import Any

from daskflow.caching.store import NewResult

__all__ = ["NOW", "key", "new", "publish"]

NOW = 1_790_000_000.25


def key(name: object) -> str:
    return hashlib.sha256(repr(name).encode()).hexdigest()


def new(name: object, value: Any, **more: Any) -> NewResult:
    about = {"content_digest": key(("content", repr(value))), "task": "clean", "created_unix": NOW}
    about |= {"parts": {"arg:x": key(name), "code": key("code")}, "duration_s": 0.5}
    return NewResult(key(name), value, **(about | more))  # type: ignore[arg-type]


def publish(store: Any, name: object, value: Any, **more: Any) -> Any:
    result = new(name, value, **more)._asdict()
    return store.publish(result.pop("key"), result.pop("value"), **result)
