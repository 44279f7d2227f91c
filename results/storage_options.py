"""Where results are kept, and the options of its fsspec file system: values that show no secret.

Light: no fsspec here.  A text that is ``${NAME}`` as a whole stands for an environment variable of
the process that opens the storage, so what it holds is in no pickle; other values travel to the
workers with the tasks.  No repr shows a text, but those that are known to be harmless.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daskflow.errors import UsageError

__all__ = ["ResultStorage", "StorageOptions", "without_credentials"]

HIDDEN = "**********"
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}\Z")
_HARMLESS = frozenset({"endpoint_url", "region_name", "region", "project", "default_acl"})
_SHORT = 4  # texts below this many characters are no secrets, and would hide half a message
_SWITCHES = {"true": True, "false": False}
_PLAIN = (bool, int, float, str, type(None))


def without_credentials(url: str) -> str:
    """Return a URL that may be shown: without user name, password, query and fragment."""
    if "://" not in url:
        return url
    scheme, _, rest = url.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    before, found, after = rest.rpartition("@")
    # a password may hold a slash, and a path an @
    if found and (":" in before or "/" not in before):
        rest = after
    return f"{scheme.lower()}://{rest}"


class StorageOptions:
    """Options of a file system, such as ``{"anon": True}``: plain values, hashable, never shown.

    Parameters
    ----------
    given : mapping of str to object, optional
        Numbers, texts, booleans, None, and lists and dicts of them. A text ``${NAME}`` is read
        from the environment where the storage is opened.

    Raises
    ------
    UsageError
        For anything else; the message names the option and not its value.
    """

    __slots__ = ("_given", "_text")

    def __init__(self, given: Mapping[str, Any] | StorageOptions | None = None) -> None:
        if isinstance(given, StorageOptions):
            given = given._given
        if given is not None and not isinstance(given, Mapping):
            raise UsageError(
                "storage options are a dict of names and values, such as "
                f'{{"anon": True}}, not a {type(given).__name__}'
            )
        self._given: dict[str, Any] = _plain(dict(given or {}), "")
        self._text = json.dumps(self._given, sort_keys=True)

    @classmethod
    def checked(cls, given: Any) -> StorageOptions:
        """Return options made of `given`, for a settings model: `ValueError` for what is none.

        Variables of the environment are texts: a whole table comes as JSON, and the texts ``true``
        and ``false`` are switches.
        """
        try:
            return cls(_switched(json.loads(given) if isinstance(given, str) else given))
        except UsageError as error:
            raise ValueError(str(error)) from None

    def __bool__(self) -> bool:
        return bool(self._given)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorageOptions) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return repr(_masked(self._given))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._given,)

    def resolved(self) -> dict[str, Any]:
        """Return what the file system takes, with the variables of this process.

        Raises
        ------
        UsageError
            When one of them is not set.
        """
        return _filled(copy.deepcopy(self._given), "")  # type: ignore[no-any-return]

    def secrets(self) -> list[str]:
        """Return the texts that no message may quote, the longest first."""
        return sorted(set(_secrets(self._given)), key=len, reverse=True)


@dataclass(frozen=True, slots=True, repr=False)
class ResultStorage:
    """Where results are kept: what `result_storage=` takes besides a URL.

    Parameters
    ----------
    url : str
        A folder or any URL that fsspec knows.
    options : mapping or StorageOptions, optional
        Of the fsspec file system: credentials, `endpoint_url`, `anon`. None: those of the
        settings, if they are for the same protocol.

    Raises
    ------
    UsageError
        For a URL that is no text, and for options that are no plain values.
    """

    url: str
    options: StorageOptions | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.url, str) or not self.url.strip():
            raise UsageError(
                f'a result storage needs a folder or a URL, such as "s3://bucket/results", '
                f"not {self.url!r}"
            )
        if self.options is not None:
            object.__setattr__(self, "options", StorageOptions(self.options))

    @property
    def protocol(self) -> str:
        """The part of the URL before ``://``; ``file`` for a folder."""
        scheme, found, _ = self.url.partition("://")
        return scheme.lower() if found else "file"

    def __repr__(self) -> str:
        return f"ResultStorage({without_credentials(self.url)!r}, {self.options!r})"


def _switched(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _switched(item) for name, item in value.items()}
    return _SWITCHES.get(value.lower(), value) if isinstance(value, str) else value


def _plain(value: Any, path: str) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise UsageError(f"storage options have names that are texts, not {name!r}")
        return {
            name: _plain(item, f"{path}.{name}" if path else name) for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, path) for item in value]
    raise UsageError(
        f"storage option {path!r} is a {type(value).__name__}; options are texts, numbers, "
        "booleans, and lists and dicts of them"
    )


def _masked(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _masked(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, name) for item in value]
    if not isinstance(value, str) or _VARIABLE.match(value):
        return value
    return without_credentials(value) if name in _HARMLESS else HIDDEN


def _filled(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, f"{path}.{key}" if path else key) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, path) for item in value]
    found = _VARIABLE.match(value) if isinstance(value, str) else None
    if found is None:
        return value
    if (text := os.environ.get(found[1])) is None:
        raise UsageError(
            f"storage option {path!r} is read from the environment, and {found[1]} is not set in "
            "this process; set it here and on every worker"
        )
    return text


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _secrets(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item, name)
    elif isinstance(value, str) and name not in _HARMLESS:
        found = _VARIABLE.match(value)
        text = os.environ.get(found[1], "") if found else value
        if len(text) >= _SHORT:
            yield text
