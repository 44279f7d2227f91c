"""One Chromium for each module that opens pages; skipped when absent, an error in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.browser.chromium import Chromium, find_chromium


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        missing = "no Chromium found; on Debian: apt-get install chromium"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(missing)
        pytest.skip(missing)
    with Chromium(program, tmp_path_factory.mktemp("chromium") / "profile") as browser:
        yield browser
