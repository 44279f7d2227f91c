"""Processes that publish to a result store and die, race or run out of space while they do.

Run as a script: ``publishing.py kill|race|merge-race|full ROOT`` prints what came of it as JSON.
Children are forked, which costs milliseconds; an audit hook sees every file that is opened for
writing, linked, renamed or removed below the root, and kills the process right before the chosen
one.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable

import numpy as np

from daskflow.caching.pack_rewriting import merge_packs
from daskflow.caching.store import ResultStore
from daskflow.errors import StoreError
from tests.unit.result_stores import NOW, key, new, publish
from tests.unit.sameness import same

LARGE = np.arange(20_000.0)
CHANGES = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.utime"}

Values = dict[int, tuple[object, ...]]
# what a process does, and the values that a reader may see after it died
ACTS: dict[str, tuple[Callable[[ResultStore], object], Values]] = {
    "small": (lambda s: publish(s, 1, "v"), {1: (None, "v")}),
    "large": (lambda s: publish(s, 1, LARGE), {1: (None, LARGE)}),
    "pack": (
        lambda s: s.publish_many([new(1, "v"), new(2, "w")]),
        {1: (None, "v"), 2: (None, "w")},
    ),
    "same-blob": (
        lambda s: (publish(s, 3, LARGE), publish(s, 1, LARGE)),
        {1: (None, LARGE), 3: (None, LARGE)},
    ),
    "refresh": (lambda s: publish(s, 7, "new", replace=True), {7: ("old", "new")}),
    "refresh-packed": (lambda s: publish(s, 8, "new", replace=True), {8: ("old", None, "new")}),
    "remove": (lambda s: s.remove([key(8)]), {8: ("old", None), 9: ("kept",)}),
    "merge": (lambda s: s.gc(grace_s=0.0), {8: ("old",), **dict.fromkeys(range(20, 30), ("p",))}),
    "gc": (lambda s: s.gc(max_size_bytes=0, grace_s=0, now=NOW + 9e9), {7: ("old", None)}),
}


def fork(body: Callable[[], object]) -> int:
    """Run a body in a child that never returns; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return pid


def die_before(step: int, root: str) -> None:
    """Kill this process right before its change number `step` below the root."""
    left = step

    def count() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in CHANGES and root in str(arguments[0]):
            mode = arguments[1] if event == "open" else "w"
            if not isinstance(mode, str) or set(mode) & set("wxa+"):
                count()

    os.fsync = lambda _: count()
    sys.addaudithook(hook)


def kill_at_each_step(root: str) -> None:
    for name, (act, allowed) in ACTS.items():
        for step in range(100):
            url = f"{root}/{name}-{step}"
            prepared = ResultStore(url)
            publish(prepared, 7, "old")
            prepared.publish_many([new(8, "old"), new(9, "kept")])
            if name == "merge":
                for one in range(20, 30, 2):
                    prepared.publish_many([new(one, "p"), new(one + 1, "p")])

            def body(act=act, step=step, url=url) -> None:
                die_before(step, root)
                act(ResultStore(url))

            _, status = os.waitpid(fork(body), 0)
            wrong = check(url, allowed)
            died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            said = {"act": name, "step": step, "died": died, "code": status, "wrong": wrong}
            print(json.dumps(said), flush=True)
            if not died:
                break


def check(url: str, allowed: dict[int, tuple[object, ...]]) -> list[str]:
    """Read what is there, publish it again, and say what was not as it may be."""
    wrong = []
    store = ResultStore(url)
    found = store.lookup([key(name) for name in allowed])
    for name, values in allowed.items():
        value = store.load(found[key(name)]) if key(name) in found else None
        if not any(same(value, each) for each in values):
            wrong.append(f"{name} reads as {value!r}")
        last = "again" if values[-1] is None else values[-1]
        publish(store, name, last, replace=True)
        again = ResultStore(url)
        value = again.load(again.lookup([key(name)])[key(name)])
        if not same(value, last):
            wrong.append(f"{name} published again reads as {value!r}")
    report = store.verify()
    if report.damaged or report.missing or store.storage.list("quarantine"):
        wrong.append(f"verify: {report}")
    store.gc(grace_s=0.0, now=NOW + 9e9)
    wrong += [info.path for info in store.storage.list("") if info.path.endswith(".tmp")]
    return wrong


def race(root: str, writers: int = 32, keys: int = 6) -> None:
    """Let processes publish equal keys at once; each says which records it was given."""
    gate, opened = os.pipe()
    pids = []
    for writer in range(writers):

        def body(writer=writer) -> None:
            os.close(opened)
            os.read(gate, 1)  # returns when the parent closes its end
            store = ResultStore(root)
            order = np.random.default_rng(writer).permutation(keys).tolist()
            for name in order:
                value = LARGE + name if name % 2 else f"value {name}"
                entry = publish(store, name, value, created_unix=NOW + writer)
                if not same(store.load(entry), value):
                    raise AssertionError(f"writer {writer} read a wrong value for {name}")
                line = json.dumps([name, entry.created_unix]) + "\n"
                os.write(1, line.encode())

        pids.append(fork(body))
    os.close(opened)
    codes = [os.waitpid(pid, 0)[1] for pid in pids]
    print(json.dumps({"codes": codes}), flush=True)


def merge_race(root: str, rounds: int = 8) -> None:
    """Merge, refresh, publish and read at once; nobody may ever see what was replaced."""
    store = ResultStore(root)
    for pack in range(6):
        store.publish_many([new((pack, n), f"old {pack} {n}") for n in range(5)])

    def merges() -> None:
        for _ in range(rounds):
            store = ResultStore(root)  # without grace: readers and writers are in the middle
            merge_packs(store.storage, store.packs, time.time() + 9, store.sealer.holds)

    def refreshes(who: str) -> None:
        for turn in range(rounds):
            names = [(who, turn, n) for n in range(3)]
            ResultStore(root).publish_many([new(name, "old") for name in names])
            publish(ResultStore(root), names[0], "new", replace=True)
            ResultStore(root).remove([key(names[1])])
            found = ResultStore(root).lookup([key(name) for name in names])
            read = {name: store.load(entry) for name in names if (entry := found.get(key(name)))}
            if read.get(names[0]) != "new" or names[1] in read:
                raise AssertionError(f"{who} in turn {turn} reads {read}")

    def reads() -> None:
        for _ in range(rounds):
            for pack in range(6):
                reader = ResultStore(root)
                found = reader.lookup([key((pack, n)) for n in range(5)])
                for n in range(5):
                    entry = found.get(key((pack, n)))
                    if entry is None or reader.load(entry) != f"old {pack} {n}":
                        raise AssertionError(f"{(pack, n)} reads as {entry}")

    acts = (merges, merges, lambda: refreshes("a"), lambda: refreshes("b"), reads)
    pids = [fork(act) for act in acts]
    codes = [os.waitpid(pid, 0)[1] for pid in pids]
    last = ResultStore(root)
    last.gc(grace_s=-1.0)
    names = [("a", turn, n) for turn in range(rounds) for n in range(3)]
    found = last.lookup([key(name) for name in names])
    values = {name: last.load(entry) for name in names if (entry := found.get(key(name)))}
    right = values == {(w, t, n): "old" if n else "new" for w, t, n in names if n != 1}
    left = [i.path for i in last.storage.list("") if i.path.endswith((".candidate", ".tmp"))]
    packs = len(last.storage.list("packs"))
    print(json.dumps({"codes": codes, "right": right, "left": left, "packs": packs}))


def full(root: str) -> None:
    """Publish where no file may grow beyond 64 KB, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
    store = ResultStore(root)
    publish(store, 1, "small")
    try:
        publish(store, 2, np.random.default_rng(0).random(100_000))
    except StoreError as error:
        print(json.dumps({"error": str(error)}))
    left = [info.path for info in store.storage.list("") if info.path.endswith(".tmp")]
    found = ResultStore(root).lookup([key(1), key(2)])
    print(json.dumps({"left": left, "found": [e.key == key(1) for e in found.values()]}))


if __name__ == "__main__":
    # no power is cut here, and syncing would take most of the time
    os.fsync = lambda _: None
    acts = {"kill": kill_at_each_step, "race": race, "merge-race": merge_race, "full": full}
    acts[sys.argv[1]](sys.argv[2])
