"""TLS between the flow process and its cluster: certificates that are given, and ones of our own.

Keys stay in Dask's `Security` objects and in their files: no message, repr or pickle holds them.
What cannot work is found out by one look at the scheduler's port, for Dask's own error does not
tell which side lacks what.
"""

from __future__ import annotations

import importlib.util
import select
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from distributed import Security

from daskflow.errors import UsageError

__all__ = ["check_certificates", "cluster_security", "mismatch"]

_PATIENCE_S = 1.0
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}


def cluster_security(chosen: Any) -> Security:
    """The certificates of a cluster of our own.

    Parameters
    ----------
    chosen : bool, distributed.Security or None
        True makes a key and a certificate that live in memory for as long as the cluster; None
        is what Dask's configuration says.
    """
    if chosen is True:
        if importlib.util.find_spec("cryptography") is None:
            raise UsageError(
                "security=True makes certificates with the package cryptography, which is not "
                "installed; install daskflow[tls], or give distributed.Security(tls_ca_file=…, …)"
            )
        made: Security = Security.temporary()
        return made
    security: Security = chosen if isinstance(chosen, Security) else Security()
    return security


def check_certificates(address: str, kwargs: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Return with what to speak TLS to a scheduler; None for a plain one.

    Raises
    ------
    UsageError
        When a scheduler that speaks TLS is to be reached without certificates, or when those
        cannot be read.
    """
    security = kwargs.get("security") or Security()  # the latter: from Dask's configuration
    if isinstance(security, dict):
        security = Security(**security)
    if not address.startswith("tls://") or not isinstance(security, Security):
        return None
    try:
        context: ssl.SSLContext | None = security.get_connection_args("client").get("ssl_context")
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(
            f"The certificates for the scheduler at {address} cannot be read ({error}); correct "
            f"the paths of {security!r}"
        ) from error
    if context is None:
        raise UsageError(
            f"The scheduler at {address} speaks TLS and there are no certificates for it; pass "
            'client_kwargs={"security": distributed.Security(tls_ca_file=…, tls_client_cert=…, '
            "tls_client_key=…)} or set them in Dask's configuration (distributed.comm.tls)"
        )
    return context


def mismatch(address: str, context: ssl.SSLContext | None) -> str | None:
    """Why the two sides cannot talk, if one look tells; None also where nobody listens (yet)."""
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls") or parts.hostname is None or parts.port is None:
        return None
    where = parts.hostname, parts.port
    try:
        return _plainly(*where) if context is None else _encrypted(*where, context)
    except OSError:  # the client tries for longer, and tells
        return None


def _plainly(host: str, port: int) -> str | None:
    with socket.create_connection((host, port), _PATIENCE_S) as connection:
        if select.select([connection], [], [], _PATIENCE_S)[0]:
            return None  # a plain scheduler speaks first
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # looks only whether it is TLS at all
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port), _PATIENCE_S) as connection:
        with anyone.wrap_socket(connection):
            return (
                "it speaks TLS, and the address is a plain one: write tls:// and give certificates"
            )


def _encrypted(host: str, port: int, context: ssl.SSLContext) -> str | None:
    try:
        with socket.create_connection((host, port), _PATIENCE_S) as connection:
            with context.wrap_socket(connection, server_hostname=host) as encrypted:
                encrypted.recv(1)  # here TLS 1.3 tells what the other side thinks of ours
    except ssl.SSLCertVerificationError as error:
        return f"its TLS certificate was not accepted: {error.verify_message}"
    except ssl.SSLError as error:
        if error.reason in _NO_TLS:
            return "it does not speak TLS: write tcp://, or start it with certificates"
        if "ALERT" in (error.reason or ""):
            return f"it did not accept our TLS certificate: {_spoken(error)}"
    return None


def _spoken(error: ssl.SSLError) -> str:
    return (error.reason or "").partition("ALERT_")[2].replace("_", " ").lower()
