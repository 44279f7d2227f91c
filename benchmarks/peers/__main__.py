"""``python -m benchmarks.peers PEER CASE SIZE``: one engine runs one workload, in its environment.

The last line on stdout is JSON: ``wall_s``, ``cpu`` by process and the peer's ``version``.  Exit
code 3: the peer has no way of doing this work.
"""

from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import version

from benchmarks.cpu import Meter
from benchmarks.harness import WrongValue, engine_timing
from benchmarks.peers.environments import PEERS
from benchmarks.peers.unable import Unable
from benchmarks.workloads import WORKLOADS


def main(name: str, case: str, size: str) -> int:
    """Run the workload and print what it took."""
    peer = PEERS[name]
    workload = next(workload for workload in WORKLOADS if workload.name == case)
    module = importlib.import_module(f"benchmarks.peers.{peer.module}")
    try:
        with module.started() as engine:
            timing = engine_timing(workload, int(size), engine, Meter())
    except Unable as error:
        print(error, file=sys.stderr)
        return 3
    except WrongValue as error:
        print(error, file=sys.stderr)
        return 1
    line = {
        "wall_s": timing.wall_s, "cpu": timing.cpu._asdict(), "version": version(peer.package)
    }  # fmt: skip
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
