"""A process that hashes what it is sent: ``python -m tests.unit.hashing_child``, by its streams."""

from __future__ import annotations

import pickle
import sys

from daskflow.caching.hashing import content_digest


def main() -> None:
    while True:
        try:
            value = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        print(content_digest(value), flush=True)


if __name__ == "__main__":
    main()
