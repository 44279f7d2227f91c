"""The secret that a result store is sealed with: read from the environment of each process.

It is in no setting that travels, in no pickle and in no store.
"""

from __future__ import annotations

import os

from daskflow.errors import UsageError
from daskflow.results.storage_options import without_credentials

__all__ = ["SECRET_VARIABLE", "secret_here"]

SECRET_VARIABLE = "DASKFLOW_RESULTS__SECRET"


def secret_here(url: str, sealed: bool) -> bytes | None:
    """Return the secret of this process for a store that is sealed with one, else None.

    Raises
    ------
    UsageError
        When it is sealed, and no secret is set here.
    """
    if not sealed:
        return None
    secret = os.environ.get(SECRET_VARIABLE, "").encode()
    if not secret:
        raise UsageError(
            f"the result store {without_credentials(url)!r} is sealed with a secret, and "
            f"{SECRET_VARIABLE} is not set in this process; set it on every worker"
        )
    return secret
