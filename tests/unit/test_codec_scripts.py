"""Classes of a script: its next run gets its own classes back, others a copy of them."""

from __future__ import annotations

import subprocess
import sys

from daskflow.caching.store import ResultStore
from tests.unit.result_stores import key

PROGRAM = """
import dataclasses, enum, hashlib, sys, typing
from daskflow.caching.store import ResultStore

@dataclasses.dataclass
class Config:
    rate: float

class Kind(enum.Enum):
    A = 1

class Pair(typing.NamedTuple):
    a: int

store = ResultStore(sys.argv[1])
key = hashlib.sha256(repr("script").encode()).hexdigest()
if found := store.lookup([key]):
    config, kind, (pair,) = store.load(found[key])
    assert type(config) is Config and kind is Kind.A and type(pair) is Pair, config
    print("own classes")
else:
    value = [Config(0.5), Kind.A, (Pair(1),)]
    about = dict(content_digest="ab" * 32, task="t", parts={}, created_unix=0.0)
    print(store.publish(key, value, **about).codec)
"""


def test_a_script_gets_instances_of_its_own_classes_back_in_its_next_run(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)

    def run():
        command = [sys.executable, str(script), str(tmp_path / "store")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert run() == "tree+pickle"
    assert run() == "own classes"
    # in this process there is no such class: a copy of it comes with the result
    store = ResultStore(str(tmp_path / "store"))
    config, kind, (pair,) = store.load(store.lookup([key("script")])[key("script")])
    assert (config.rate, kind.value, pair.a) == (0.5, 1, 1)
    assert type(config).__module__ == "__main__"
