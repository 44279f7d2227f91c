"""core.retries: budgets and delays, for any policy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.errors import UsageError
from daskflow.runner.core.retries import RetryPolicy, crash_backoff, retry_delay, validate_delays

delays = st.floats(0, 1e6, allow_nan=False)
policies = st.builds(
    RetryPolicy,
    retries=st.integers(0, 20),
    delays_s=st.lists(delays, min_size=1, max_size=8).map(tuple),
    jitter_factor=st.floats(0, 10),
    crash_retries=st.integers(0, 10),
)
chances = st.floats(0, 1, exclude_max=True)


@given(policies, chances)
def test_there_are_as_many_retries_as_the_policy_says(policy, chance):
    given_up = [retry_delay(policy, n, chance) is None for n in range(1, policy.retries + 5)]
    assert given_up == [False] * policy.retries + [True] * 4


@given(policies, chances, st.data())
def test_a_delay_is_the_one_in_its_place_stretched_by_the_jitter(policy, chance, data):
    failures = data.draw(st.integers(1, max(1, policy.retries)))
    delay = retry_delay(policy, failures, chance)
    if delay is None:
        assert policy.retries == 0
        return
    plain = policy.delays_s[min(failures, len(policy.delays_s)) - 1]
    assert plain <= delay <= plain * (1 + policy.jitter_factor)
    assert retry_delay(policy, failures) == plain


@given(policies)
def test_lost_workers_have_a_budget_of_their_own(policy):
    waits = [crash_backoff(policy, n) for n in range(1, policy.crash_retries + 3)]
    allowed, spent = waits[: policy.crash_retries], waits[policy.crash_retries :]
    assert spent == [None, None]
    assert allowed == sorted(allowed)
    assert allowed[:1] in ([], [0.0])


@given(st.lists(delays, min_size=1), st.integers(0, 9))
def test_what_a_user_writes_comes_back_as_seconds(entries, retries):
    assert validate_delays(entries, retries) == tuple(entries)
    assert validate_delays(tuple(entries), retries) == tuple(entries)
    assert validate_delays(entries[0], retries) == (entries[0],)
    assert validate_delays(lambda n: [n, *entries], retries) == (float(retries), *entries)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(-1, id="negative"),
        pytest.param(math.nan, id="nan"),
        pytest.param([1, math.inf], id="infinite"),
        pytest.param([], id="empty"),
        pytest.param("5", id="text"),
        pytest.param([1, None], id="none-in-a-list"),
        pytest.param(True, id="bool"),
        pytest.param(lambda retries: [-1.0], id="callable-that-returns-nonsense"),
    ],
)
def test_a_delay_that_is_no_number_of_seconds_is_a_mistake_of_the_caller(wrong):
    with pytest.raises(UsageError, match="retry_delay_seconds="):
        validate_delays(wrong, 3)
