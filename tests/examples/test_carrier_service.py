"""examples/carrier_service.py: it has to make a retry necessary, and only one."""

from __future__ import annotations

import runpy
from http.client import HTTPConnection
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
carrier_service = runpy.run_path(str(EXAMPLES / "carrier_service.py"))["carrier_service"]


def ask(address: tuple[str, int], code: str) -> tuple[int, str]:
    """Ask once, without the retry that the flow has."""
    connection = HTTPConnection(*address, timeout=10)
    try:
        connection.request("GET", f"/{code}")
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_each_carrier_is_refused_once_and_known_after_that(tmp_path: Path) -> None:
    airlines = tmp_path / "airlines.csv"
    airlines.write_text("carrier,name\nUA,United Air Lines Inc.\nB6,JetBlue Airways\n")
    with carrier_service(airlines) as service:
        assert service.address[0] == "127.0.0.1"
        refused = (503, "looking it up, ask again")
        assert ask(service.address, "UA") == refused
        assert ask(service.address, "UA") == (200, "United Air Lines Inc.")
        assert ask(service.address, "B6") == refused
        assert ask(service.address, "UA") == (200, "United Air Lines Inc.")
        assert ask(service.address, "XX") == (404, "no carrier 'XX'")
        assert service.refused == 2
