"""A real S3 server (moto) in a process of its own on 127.0.0.1, which writes down every request.

`S3Server` starts it and makes buckets; `requests` tells what was asked for since the last call.
Run as a script it is the server: it prints its port and logs ``METHOD path?query`` lines.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["S3Server"]


class S3Server:
    """A running server.

    Attributes
    ----------
    endpoint : str
        ``http://127.0.0.1:<port>``.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "requests.log"
        self._log.touch()
        self._delay = self._log.with_suffix(".delay")
        self._seen = 0
        command = [sys.executable, __file__, str(self._log)]
        environment = os.environ | {"MOTO_ACCOUNT_ID": "123456789012"}
        with open(folder / "server.log", "wb") as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        assert self._process.stdout is not None
        self.endpoint = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def new_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"cache-{uuid.uuid4().hex[:12]}"
        made = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        made.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/s3/x")
        urllib.request.urlopen(made).close()
        return name

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let s3fs find this server, as it finds any: by environment variables."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", self.endpoint)

    def requests(self) -> list[str]:
        """Return the requests since the last call, ``GET /bucket/key`` or ``LIST prefix``."""
        lines = self._log.read_text().splitlines()
        new, self._seen = lines[self._seen :], len(lines)
        return new

    def stop(self) -> None:
        """Let it accept connections and answer nothing, as a server that hangs."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        self._process.send_signal(signal.SIGCONT)

    def answer_after(self, seconds: float) -> None:
        """Wait for so long before each answer."""
        self._delay.write_text(str(seconds))

    def close(self) -> None:
        """End the server."""
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def main(log: str) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    application = DomainDispatcherApplication(create_backend_app)
    lines, delay = open(log, "a", buffering=1), Path(log).with_suffix(".delay")

    def logged(environ, start_response):
        verb, query = environ["REQUEST_METHOD"], environ["QUERY_STRING"]
        verb = "LIST" if "list-type=2" in query else verb
        lines.write(f"{verb} {environ['PATH_INFO']}?{query}\n")
        if delay.exists():
            time.sleep(float(delay.read_text() or 0))
        return application(environ, start_response)

    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    server = make_server("127.0.0.1", 0, logged, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
