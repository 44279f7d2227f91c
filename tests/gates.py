"""A gate that a task waits at until the test opens it: across processes, without polling.

It is a named pipe: reading blocks until somebody opens it for writing, and the other way round, so
opening the gate also waits until the task has arrived.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Gate"]


class Gate:
    """Where a task waits for the test, and the test for the task."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self.path = str(folder / name)
        os.mkfifo(self.path)

    def wait(self) -> None:
        """In the task: wait until the gate is opened."""
        with open(self.path) as pipe:
            pipe.read()

    def open(self) -> None:
        """In the test: wait until a task has come to the gate, and let it through."""
        with open(self.path, "w"):
            pass
