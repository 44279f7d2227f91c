"""Leases: who may take one, as a decision, and how its holder hears that it was taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.runner.core.leases import Lease, Seen, Watch, judge


@pytest.mark.parametrize(
    ("gone", "still_s", "verdict"),
    [
        pytest.param(True, 0.0, "free", id="its-process-has-ended"),
        pytest.param(False, 0.0, "held", id="its-process-lives"),
        pytest.param(False, 19.9, "held", id="it-lives-and-is-slow"),
        pytest.param(False, 20.0, "free", id="it-is-stopped-or-cannot-write"),
        pytest.param(None, 0.0, "unsure", id="of-another-host"),
        pytest.param(None, 20.0, "free", id="of-another-host-and-lapsed"),
    ],
)
def test_judge(gone, still_s, verdict):
    assert judge(gone, still_s, lease_s=20.0) == verdict


def test_a_watch_counts_from_the_last_change_that_it_saw():
    watch = Watch()
    looks = [(0, 10.0), (0, 14.0), (1, 15.0), (1, 18.0), (0, 19.0)]
    still = [watch.still_s("run", Seen(1, beat), now) for beat, now in looks]
    assert still == [0.0, 4.0, 0.0, 3.0, 0.0]
    watch.forget("run")
    assert watch.still_s("run", Seen(1, 0), 30.0) == 0.0


def test_a_raised_fence_counts_as_a_sign_of_life():
    watch = Watch()
    watch.still_s("run", Seen(1, 7), 0.0)
    assert watch.still_s("run", Seen(2, 7), 9.0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5)), min_size=1))
def test_a_lease_whose_holder_beats_in_time_is_never_free(steps):
    """Whatever the observer's clock does between looks of less than a lease's length."""
    watch, now, beat = Watch(), 0.0, 0
    for beats, passed in steps:
        beat, now = beat + 1 + beats, now + passed
        assert judge(None, watch.still_s("run", Seen(1, beat), now), 5.1) == "unsure"


def test_a_lease_that_is_lost_tells_everybody_once_and_latecomers_at_once():
    told: list[str] = []
    lease = Lease("5e" * 16)
    lease.when_lost(lambda: told.append("early"))
    lease.lose()
    lease.lose()
    lease.when_lost(lambda: told.append("late"))
    assert told == ["early", "late"]
    assert lease.lost
