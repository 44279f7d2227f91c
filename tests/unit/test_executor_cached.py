"""Cached runs in a parcel: what a worker looks up when they were lost before they were told."""

from __future__ import annotations

import pytest

from daskflow import INPUTS
from daskflow.caching.addresses import StoreAddress, open_store
from daskflow.caching.keys import CacheKey
from daskflow.caching.plans import CachePlan
from daskflow.caching.store import ResultStore
from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.executor.cached import KeyAsk
from daskflow.runner.cluster.executor.capture import remove_capture
from daskflow.runner.cluster.executor.parcel import execute
from tests.unit.parcels import FakeChannel, code_of, item, order_of
from tests.unit.result_stores import key, new


@pytest.fixture
def plan(tmp_path):
    address = StoreAddress(str(tmp_path / "results"))
    return CachePlan("body", INPUTS, None, None, "flow-run", None, None, False, False, address)


def executed(plan, ask, numbers):
    channel = FakeChannel()
    code = code_of(lambda n: f"made {n}")._replace(cache=plan)
    order = order_of(code, [item(n, n) for n in numbers])
    asks = {n: KeyAsk(CacheKey(key(n), {}), **ask) for n in numbers}
    try:
        execute(ActiveParcel(order._replace(asks=asks), channel), ())
    finally:
        remove_capture()
    commits = {c.number: c for report in channel.reports for c in report.commits}
    return {n: commits[n].hit for n in numbers}, channel


def test_what_another_worker_stored_and_did_not_tell_is_found_though_packs_were_listed_before(plan):
    hits, _ = executed(plan, {}, [1, 2, 3])  # this process has listed the packs by now
    assert not any(hits.values())
    lost = [new(n, f"stored {n}") for n in (4, 5, 6)]
    ResultStore(plan.store.url).publish_many(lost)  # by a process that dies before it tells
    assert open_store(plan.store, "flow-run").lookup([key(6)]) == {}
    hits, channel = executed(plan, {"again": True}, [4, 5, 6])
    assert hits == {4: True, 5: True, 6: True}
    found = [told[7].load() for told in channel.told]
    assert found == ["stored 4", "stored 5", "stored 6"]


def test_the_packs_are_listed_anew_once_for_a_parcel(plan, monkeypatch):
    listed = []
    store = open_store(plan.store, "flow-run")
    monkeypatch.setattr(store, "forget", lambda: listed.append(1))
    executed(plan, {"again": True}, [1, 2, 3])
    assert listed == [1]
    executed(plan, {}, [1, 2, 3])
    assert listed == [1]
