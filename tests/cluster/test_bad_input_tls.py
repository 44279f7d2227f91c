"""A scheduler that speaks TLS, reached in the wrong ways: the message says which."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Security

from daskflow import DaskTaskRunner, flow, task
from daskflow.errors import ClusterError, UsageError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")

SCHEDULER = """
import asyncio, sys
from distributed import Scheduler, Security

async def main():
    security = Security(
        tls_ca_file="ca.pem", tls_scheduler_cert=sys.argv[1], tls_scheduler_key="host.key",
        require_encryption=True,
    )
    where = {"protocol": "tls", "host": "127.0.0.1", "port": 0, "dashboard": False}
    async with Scheduler(security=security, dashboard_address="127.0.0.1:0", **where) as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()

asyncio.run(main())
"""


@task
def one(x):
    return x


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two authorities, and a good and an expired certificate of the first."""
    folder = tmp_path_factory.mktemp("keys")

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        made = f"-keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"
        openssl(f"req -x509 -newkey rsa:2048 -nodes {made}")
    openssl("req -newkey rsa:2048 -nodes -keyout host.key -out host.csr -subj /CN=host")
    for name, days in (("host", 2), ("expired", -1)):
        signed = f"-CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days {days}"
        openssl(f"x509 -req -in host.csr {signed}")
    return folder


def listening(folder: Path, certificate: str) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-c", SCHEDULER, certificate],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield next(line.strip() for line in process.stdout if line.startswith("tls://"))
        finally:
            process.kill()


@pytest.fixture
def good(keys: Path) -> Iterator[str]:
    yield from listening(keys, "host.pem")


@pytest.fixture
def expired(keys: Path) -> Iterator[str]:
    yield from listening(keys, "expired.pem")


def security(keys: Path, authority: str) -> Security:
    return Security(
        tls_ca_file=str(keys / authority),
        tls_client_cert=str(keys / "host.pem"),
        tls_client_key=str(keys / "host.key"),
        require_encryption=True,
    )


def refusal(address: str, **client_kwargs: object) -> str:
    runner = DaskTaskRunner(address=address, client_kwargs={"timeout": 2, **client_kwargs})

    @flow(task_runner=runner)
    def reaches():
        return one.submit(1).result()

    with pytest.raises((ClusterError, UsageError)) as caught:
        reaches()
    return str(caught.value)


def test_a_plain_address_of_a_scheduler_with_tls_says_that_both_sides_must_agree(good):
    plain = good.replace("tls://", "tcp://")
    text = refusal(plain)
    assert text.startswith(f"The Dask scheduler at {plain} could not be reached (")
    assert text.endswith("and that both sides use TLS or neither does")


def test_certificates_of_another_authority_are_told(good, keys):
    text = refusal(good, security=security(keys, "other.pem"))
    assert "could not be reached (its TLS certificate was not accepted: " in text
    assert "expired" not in text


def test_an_expired_certificate_is_told(expired, keys):
    text = refusal(expired, security=security(keys, "ca.pem"))
    assert "(its TLS certificate was not accepted: certificate has expired)" in text


def test_certificates_that_are_not_there_are_told_before_anything_connects(keys):
    text = refusal("tls://127.0.0.1:9", security=security(keys, "missing.pem"))
    assert text.startswith("The certificates for the scheduler at tls://127.0.0.1:9 cannot be read")
    assert "missing.pem" in text
