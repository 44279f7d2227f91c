"""Store URLs: what they name, and what is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from daskflow.errors import UsageError
from daskflow.runner.store import open_store, open_writer
from daskflow.runner.store.address import sqlite_path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        pytest.param("sqlite:////var/lib/runs.db", "/var/lib/runs.db", id="absolute"),
        pytest.param("sqlite:///sub/runs.db", "{cwd}/sub/runs.db", id="relative"),
        pytest.param("sqlite:///~/runs.db", "{home}/runs.db", id="home"),
        pytest.param("sqlite:////a b/?#%41.db", "/a b/?#%41.db", id="taken literally"),
    ],
)
def test_a_url_names_an_absolute_path(url, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert sqlite_path(url) == Path(path.format(cwd=tmp_path, home="/home/ada"))


@pytest.mark.parametrize("opened", [open_store, open_writer])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param("", "names no database", id="empty"),
        pytest.param("runs.db", "names no database", id="bare path"),
        pytest.param("sqlite://", "names no database", id="no path"),
        pytest.param("sqlite:///", "names no database", id="empty path"),
        pytest.param("sqlite:///:memory:", "names no database", id="memory"),
        pytest.param("sqlite:////var/lib/", "names no database", id="a folder"),
        pytest.param("sqlite:///a\0b", "names no database", id="nul"),
        pytest.param("postgresql://host/db", "'postgresql'", id="another database"),
        pytest.param("sqlite:///~nobody-of-that-name/x.db", "home folder", id="unknown home"),
        pytest.param(None, "not None", id="not a string"),
    ],
)
def test_a_malformed_url_is_a_usage_error(opened, url, says):
    with pytest.raises(UsageError, match=says):
        opened(url)
