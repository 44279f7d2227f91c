"""SQLite passes the conformance kit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.conformance import StoreConformance


class TestSqlite(StoreConformance):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/store/runs.db"
