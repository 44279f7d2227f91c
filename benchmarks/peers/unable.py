"""What a peer raises when it has no way of doing a workload."""

from __future__ import annotations

__all__ = ["Unable"]


class Unable(Exception):
    """This engine cannot express this work, for example a task that waits for another."""
