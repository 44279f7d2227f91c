"""What failures of a storage mean, and how they are told: with what to do, and without secrets."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from daskflow.results.storage_options import HIDDEN

__all__ = ["is_silence", "reason_of", "says_nothing_of_the_server", "status_of"]

_HINTS = {
    errno.ENOSPC: "the storage is full; free some space, or run `daskflow cache gc`",
    errno.EDQUOT: "the quota is used up; free some space, or run `daskflow cache gc`",
    errno.EFBIG: "a file may not be that large here; raise the limit",
    errno.EROFS: "the storage is read-only; name another one",
    errno.EACCES: "this user may not do that here; change the permissions or name another storage",
    errno.EPERM: "this user may not do that here; change the permissions or name another storage",
}
# of botocore, aiohttp and urllib3, which this room does not import: no connection, or no reply
_SILENT = frozenset({"HTTPClientError", "ClientConnectionError", "ServerTimeoutError", "HTTPError"})


def is_silence(error: BaseException) -> bool:
    """Say whether there was no answer at all: no connection, or nothing came in time."""
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    return any(kind.__name__ in _SILENT for kind in type(error).__mro__)


def says_nothing_of_the_server(error: BaseException) -> bool:
    """Say whether a failure is about one request, and the storage answers as it should."""
    if isinstance(error, (FileNotFoundError, FileExistsError, PermissionError)):
        return True
    return isinstance(error, OSError) and error.errno in _HINTS


def status_of(error: OSError) -> int | None:
    """Return the HTTP status behind an error of an object store's driver."""
    response = getattr(error.__cause__, "response", None) or {}
    if status := response.get("ResponseMetadata", {}).get("HTTPStatusCode"):
        return int(status)
    return 409 if error.errno == errno.EBUSY else None


def reason_of(error: Exception, url: str, shown_url: str, secrets: Iterable[str]) -> str:
    """Return what a driver says, and what to do, without what may not be shown."""
    code = error.errno if isinstance(error, OSError) else None
    hint = _HINTS.get(code or 0, "check that it exists and can be reached")
    silent = isinstance(error, TimeoutError) and not str(error)
    text = "no answer in time" if silent else str(error).replace(url, shown_url)
    # whatever a driver quotes, user names and passwords in URLs do not pass
    text = re.sub(r"(\w+://)[^/\s'\"@]*@", r"\1", text)
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return f"{type(error).__name__}: {text}; {hint}"
