"""The page of `python -m benchmarks report --html` in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cpu import CpuSeconds
from benchmarks.journal import Recorded, describe_setting
from benchmarks.measurement import Measurement
from benchmarks.page import write_page
from tests.browser.chromium import Chromium

pytestmark = pytest.mark.browser
CPU = CpuSeconds(0.1, 0.02, 0.2, 0.0)
MEASURED = [
    Measurement(case, 10_000, 10_000, who, 0, wall_s, CPU, 0.5, figures)
    for case, who, wall_s, figures in (
        ("W1.submit", "dask", 20.0, {}),
        ("W1.submit", "daskflow", 0.2, {}),
        ("W1.map", "dask", 22.0, {}),
        ("W1.map", "daskflow", 0.2, {}),
        ("W1.map", "dask.delayed", 23.0, {}),
        ("W5.10ms", "serial", 4.0, {}),
        ("W5.10ms", "daskflow", 2.1, {}),
        ("parcels", "target 50 ms", 0.2, {"parcel_runs": 300.0}),
    )
]


@pytest.mark.parametrize("width", [1280, 400])
def test_pictures_are_drawn_without_a_request_and_fit_the_window(
    chromium: Chromium, tmp_path: Path, width: int
) -> None:
    run = Recorded(describe_setting(quick=False, rounds=1), tuple(MEASURED))
    path = write_page([run], tmp_path / "page.html")
    page = chromium.open(path.as_uri(), width=width)
    page.wait_for("document.querySelectorAll('.bk-Figure').length === 5")
    page.next_frame()
    assert page.complaints() == []
    assert page.requests() == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
