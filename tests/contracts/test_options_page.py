"""docs/guide/options.md names every option and every setting, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daskflow import flow, task
from daskflow.config import settings_with_origins

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "options.md"


def rows(title: str) -> dict[str, str]:
    """Return name and default of each row of the table under a title."""
    section = PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.]+)` \| ([^|]*) \|", section, re.MULTILINE))


@pytest.mark.parametrize("decorator", [task, flow], ids=["@task", "@flow"])
def test_every_option_is_on_the_page(decorator):
    options = decorator(lambda: None).options
    assert list(rows("`@task`" if decorator is task else "`@flow`")) == list(options)


def test_every_setting_is_on_the_page_with_its_default():
    settings = {one.key: one.value for one in settings_with_origins()}
    told = rows("Settings")
    assert set(told) == set(settings)
    for key, value in settings.items():
        if key not in ("home", "store.url", "results.storage"):
            assert f"`{str(value).lower()}`" in told[key].lower(), key
