"""A storage that gives no answer is left alone, longer each time, and then tried by one."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.results.breaker import LONGEST_PAUSE_S, PAUSE_S, TOLERATED, Breaker
from daskflow.results.storage_errors import is_silence, says_nothing_of_the_server
from daskflow.results.time_limits import abandoned_after


def test_silence_stops_requests_at_once_and_for_longer_each_time():
    breaker, now, pauses = Breaker(), 100.0, []
    for _ in range(6):
        assert breaker.left_alone_s(now) == 0.0
        breaker.failed(now, silent=True)
        pauses.append(breaker.left_alone_s(now))
        assert breaker.failed_ago_s(now + 5) == 5
        now += pauses[-1]
    assert pauses == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    assert (pauses[0], pauses[-1]) == (PAUSE_S, LONGEST_PAUSE_S)


def test_after_the_pause_one_tries_and_the_others_wait():
    breaker = Breaker()
    breaker.failed(0.0, silent=True)
    assert [breaker.left_alone_s(PAUSE_S) for _ in range(3)] == [0.0, PAUSE_S, PAUSE_S]
    breaker.answered()
    assert breaker.left_alone_s(PAUSE_S) == 0.0
    breaker.failed(PAUSE_S, silent=True)
    assert breaker.left_alone_s(PAUSE_S) == PAUSE_S  # an answer makes the next pause short again


def test_errors_of_the_server_stop_requests_when_several_come_in_a_row():
    breaker = Breaker()
    for _ in range(TOLERATED - 1):
        breaker.failed(0.0, silent=False)
    breaker.answered()
    for _ in range(TOLERATED - 1):
        breaker.failed(0.0, silent=False)
    assert breaker.left_alone_s(0.0) == 0.0
    breaker.failed(0.0, silent=False)
    assert breaker.left_alone_s(0.0) == PAUSE_S


@given(st.lists(st.tuples(st.sampled_from(["silent", "error", "answer"]), st.floats(0, 1e3))))
def test_there_is_always_a_next_try(events):
    breaker, now = Breaker(), 0.0
    for what, later in events:
        now += later
        if what == "answer":
            breaker.answered()
        elif not breaker.left_alone_s(now):
            breaker.failed(now, silent=what == "silent")
    left = breaker.left_alone_s(now)
    assert 0.0 <= left <= LONGEST_PAUSE_S
    assert breaker.left_alone_s(now + left) == 0.0


class HTTPClientError(Exception):
    """Named as that of botocore is."""


class EndpointConnectionError(HTTPClientError):
    """A child of it."""


@pytest.mark.parametrize(
    ("error", "silent", "harmless"),
    [
        (TimeoutError(), True, False),
        (ConnectionRefusedError(111, "refused"), True, False),
        (EndpointConnectionError("could not connect"), True, False),
        (OSError(5, "internal error"), False, False),
        (OSError(28, "full"), False, True),
        (PermissionError(13, "no"), False, True),
        (FileNotFoundError(2, "no bucket"), False, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_a_failure_says_of_the_server(error, silent, harmless):
    assert is_silence(error) is silent
    assert says_nothing_of_the_server(error) is harmless


def test_a_driver_that_hangs_is_left_behind():
    gate = threading.Event()
    try:
        with pytest.raises(TimeoutError, match="no answer within 0 s"):
            abandoned_after(0.01, gate.wait)
    finally:
        gate.set()
    assert abandoned_after(10, lambda: 3) == 3
    with pytest.raises(KeyError):
        abandoned_after(10, lambda: {}["missing"])
