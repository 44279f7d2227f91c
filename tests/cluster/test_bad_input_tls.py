"""TLS: a scheduler reached in the right way and the wrong ones, and certificates of our own."""

from __future__ import annotations

import logging
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from distributed import Security, get_worker

from daskflow import DaskTaskRunner, flow, task
from daskflow.errors import ClusterError, UsageError
from daskflow.runner.cluster.tls import cluster_security

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")

SCHEDULER = """
import asyncio, sys
from distributed import Scheduler, Security, Worker

async def main():
    security = Security(
        tls_ca_file="ca.pem", tls_scheduler_cert=sys.argv[1], tls_scheduler_key="host.key",
        tls_worker_cert=sys.argv[1], tls_worker_key="host.key", require_encryption=True,
    )
    where = {"protocol": "tls", "host": "127.0.0.1", "port": 0, "dashboard": False}
    async with Scheduler(security=security, dashboard_address="127.0.0.1:0", **where) as scheduler:
        print(scheduler.address, flush=True)
        if sys.argv[1] == "host.pem":
            worker = await Worker(scheduler.address, security=security, dashboard=False, nthreads=1)
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
    for name, days, ca in (("host", 2, "ca"), ("expired", -1, "ca"), ("stranger", 2, "other")):
        signed = f"-CA {ca}.pem -CAkey {ca}.key -CAcreateserial -out {name}.pem -days {days}"
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


@pytest.fixture(scope="module")
def good(keys: Path) -> Iterator[str]:
    yield from listening(keys, "host.pem")


@pytest.fixture
def expired(keys: Path) -> Iterator[str]:
    yield from listening(keys, "expired.pem")


def security(keys: Path, authority: str, certificate: str = "host.pem") -> Security:
    return Security(
        tls_ca_file=str(keys / authority),
        tls_client_cert=str(keys / certificate),
        tls_client_key=str(keys / "host.key"),
        require_encryption=True,
    )


def refusal(address: str, **client_kwargs: object) -> str:
    runner = DaskTaskRunner(address=address, client_kwargs=client_kwargs)

    @flow(task_runner=runner)
    def reaches():
        return one.submit(1).result()

    began = time.monotonic()
    with pytest.raises((ClusterError, UsageError)) as caught:
        reaches()
    assert time.monotonic() - began < 8  # the time that a client may take to connect is ten
    assert "PRIVATE" not in str(caught.value)
    return str(caught.value)


def test_a_plain_address_of_a_scheduler_with_tls_says_that_both_sides_must_agree(good):
    plain = good.replace("tls://", "tcp://")
    text = refusal(plain)
    assert text.startswith(f"The Dask scheduler at {plain} could not be reached (it speaks TLS, ")
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


def test_a_tls_address_of_a_plain_scheduler_says_so(external_address, keys):
    encrypted = external_address.replace("tcp://", "tls://")
    text = refusal(encrypted, security=security(keys, "ca.pem"))
    assert f"at {encrypted} could not be reached (it does not speak TLS: write tcp://" in text


def test_a_certificate_that_the_scheduler_does_not_accept_is_told(good, keys):
    text = refusal(good, security=security(keys, "ca.pem", "stranger.pem"))
    assert "could not be reached (it did not accept our TLS certificate: " in text


@pytest.mark.parametrize("given", ["client_kwargs", "configuration"])
def test_certificates_that_fit_are_used(good, keys, given):
    kwargs = {"security": security(keys, "ca.pem")} if given == "client_kwargs" else {}
    configured = {
        "distributed.comm.tls.ca-file": str(keys / "ca.pem"),
        "distributed.comm.tls.client.cert": str(keys / "host.pem"),
        "distributed.comm.tls.client.key": str(keys / "host.key"),
    }

    @flow(task_runner=DaskTaskRunner(address=good, client_kwargs=kwargs))
    def reaches():
        return one.submit(7).result()

    with dask.config.set({} if kwargs else configured):
        assert reaches() == 7


# ---- certificates of our own


@task
def addresses():
    worker = get_worker()
    return worker.address, worker.scheduler.address


def test_a_cluster_of_our_own_talks_tls_and_its_key_is_nowhere_to_be_found(home, caplog):
    runner = DaskTaskRunner(cluster_kwargs={"n_workers": 1, "security": True})

    @flow(task_runner=runner)
    def encrypted():
        return addresses.submit().result()

    with caplog.at_level(logging.DEBUG):
        assert all(address.startswith("tls://127.0.0.1:") for address in encrypted())
    assert pickle.loads(pickle.dumps(runner)) == runner
    kept = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert kept
    assert not [each for each in kept if b"PRIVATE KEY" in each]
    assert "PRIVATE KEY" not in caplog.text + repr(runner) + repr(runner.as_local())


def test_keys_in_memory_are_not_pickled_with_a_task_runner():
    runner = DaskTaskRunner(cluster_kwargs={"security": Security.temporary()})
    with pytest.raises(UsageError, match="hold TLS keys in memory is not pickled"):
        pickle.dumps(runner)
    assert "PRIVATE KEY" not in repr(runner) + repr(runner.as_local())


def test_certificates_that_cannot_be_made_say_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"is not installed; install daskflow\[tls\]"):
        cluster_security(True)
    with pytest.raises(UsageError, match="security=str must be True"):
        DaskTaskRunner(cluster_kwargs={"security": "yes"})
