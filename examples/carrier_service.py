"""A small service for carrier names on 127.0.0.1, as slow to warm up as real ones are.

The first question for a carrier makes it look the name up, and is answered ``503 Service
Unavailable``; whoever asks again gets the name.  So a step that asks it needs a retry, every time
and for every carrier, and `Service.refused` says how often it had to.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

__all__ = ["Service", "carrier_service"]


@dataclass
class Service:
    """The names it knows, where it listens, and what it has been asked so far."""

    names: Mapping[str, str]
    address: tuple[str, int] = ("127.0.0.1", 0)
    looked_up: set[str] = field(default_factory=set)
    refused: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def answer(self, code: str) -> tuple[HTTPStatus, str]:
        """Return the status and the body for a question about `code`."""
        if code not in self.names:
            return HTTPStatus.NOT_FOUND, f"no carrier {code!r}"
        with self._lock:
            if code not in self.looked_up:
                self.looked_up.add(code)
                self.refused += 1
                return HTTPStatus.SERVICE_UNAVAILABLE, "looking it up, ask again"
        return HTTPStatus.OK, self.names[code]


@contextmanager
def carrier_service(airlines: Path) -> Iterator[Service]:
    """Serve the names in a CSV file (columns carrier, name) on a free port until the block ends."""
    with airlines.open(newline="", encoding="utf-8") as lines:
        service = Service({row["carrier"]: row["name"] for row in csv.DictReader(lines)})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = service.answer(self.path.removeprefix("/"))
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the terminal for the flow: what was asked is in the run's record."""

    with ThreadingHTTPServer(service.address, Handler) as server:
        host, port = server.server_address[:2]
        service.address = (str(host), int(port))
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
