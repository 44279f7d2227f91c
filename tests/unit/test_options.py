"""Bad options fail at the decorator, name the value and say what to do."""

from __future__ import annotations

import asyncio
import math
import pickle

import pytest

from daskflow import INPUTS, exponential_backoff, flow, task
from daskflow.errors import UsageError


def plain(x, y=1, *, z=2):
    return x


def generates():
    yield 1


async def generates_async():
    yield 1


class Generating:
    def __call__(self):
        yield 1


@pytest.mark.parametrize("decorator", [task, flow], ids=["task", "flow"])
@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param(5, "goes above a function, not above 5", id="number"),
        pytest.param(Generating, "not above class Generating; decorate a method", id="class"),
        pytest.param(generates, "generates is a generator; return a list", id="generator"),
        pytest.param(generates_async, "generates_async is a generator", id="async-generator"),
        pytest.param(Generating(), "Generating is a generator", id="generator-object"),
    ],
)
def test_what_is_no_function_is_refused(decorator, given, text):
    with pytest.raises(UsageError) as caught:
        decorator(given)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param({"retrys": 1}, "no option 'retrys'; did you mean 'retries'?", id="typo"),
        pytest.param({"zzz": 1}, "no option 'zzz'; it takes name, description", id="unknown"),
        pytest.param({"concurrency": "db"}, "does not support concurrency=", id="later"),
        pytest.param({"timeout_mode": "hard"}, "needs timeout_seconds", id="no-limit"),
        pytest.param({"timeout_mode": "fast"}, "must be 'soft' or 'hard'", id="mode"),
        pytest.param({"cache_policy": "inputs"}, "cache_policy='inputs' must be", id="policy"),
        pytest.param(
            {"cache_policy": INPUTS, "cache_key_fn": str}, "takes the place of", id="two-keys"
        ),
        pytest.param({"cache_key_fn": "x"}, "cache_key_fn='x'", id="key-fn"),
        pytest.param({"cache_expiration": 0}, "cache_expiration=0 must be", id="expired"),
        pytest.param({"cache_expiration": math.nan}, "cache_expiration=nan", id="nan-expiration"),
        pytest.param({"refresh_cache": 1}, "refresh_cache=1 must be", id="refresh"),
        pytest.param(
            {"cache_policy": INPUTS, "persist_result": False}, "keeps no result", id="kept-nowhere"
        ),
        pytest.param({"retries": -1}, "retries=-1 must be a whole number, 0 or more", id="-1"),
        pytest.param({"retries": 1.5}, "retries=1.5 must be a whole number", id="1.5"),
        pytest.param({"retries": True}, "retries=True must be a whole number", id="True"),
        pytest.param({"retries": "2"}, "retries='2' must be a whole number", id="text"),
        pytest.param({"crash_retries": -1}, "crash_retries=-1 must be", id="crash"),
        pytest.param({"retry_delay_seconds": math.nan}, "retry_delay_seconds=nan", id="nan"),
        pytest.param({"retry_delay_seconds": math.inf}, "retry_delay_seconds=inf", id="inf"),
        pytest.param({"retry_delay_seconds": -1}, "retry_delay_seconds=-1 must be 0", id="delay"),
        pytest.param({"retry_delay_seconds": [1, -2]}, "retry_delay_seconds=-2", id="in-a-list"),
        pytest.param({"retry_delay_seconds": []}, "has no entries", id="empty-list"),
        pytest.param({"retry_delay_seconds": "1"}, "'1' is no number", id="delay-text"),
        pytest.param({"retry_delay_seconds": lambda n: [-1.0]}, "=-1.0", id="callable"),
        pytest.param({"retry_jitter_factor": -0.5}, "retry_jitter_factor=-0.5", id="jitter"),
        pytest.param({"retry_condition_fn": 3}, "retry_condition_fn=3 must be", id="condition"),
        pytest.param(
            {"timeout_seconds": True}, "timeout_seconds=True must be a number", id="switch-as-limit"
        ),
        pytest.param({"timeout_seconds": "1"}, "timeout_seconds='1' must be", id="text-as-limit"),
        pytest.param({"timeout_seconds": -1}, "timeout_seconds=-1 must be", id="negative-limit"),
        pytest.param({"timeout_seconds": math.nan}, "timeout_seconds=nan must be", id="nan-limit"),
        pytest.param(
            {"timeout_seconds": math.inf}, "timeout_seconds=inf must be", id="endless-limit"
        ),
        pytest.param({"timeout_seconds": 0}, "greater than 0; leave it out for no", id="no-time"),
        pytest.param({"tags": "abc"}, "tags='abc' must be a list of texts", id="tags"),
        pytest.param({"tags": [1]}, "tags must be texts, not 1", id="tag"),
        pytest.param({"resources": ["GPU"]}, 'must be a dict such as {"GPU": 1}', id="resources"),
        pytest.param({"resources": {"GPU": -1}}, "resources: GPU=-1 must be a", id="resource"),
        pytest.param({"version": 3}, "version=3 must be a text", id="version"),
        pytest.param({"description": 3}, "description=3 must be a text", id="description"),
        pytest.param({"workers": [1]}, "workers must be addresses or names", id="workers"),
        pytest.param({"workers": 5}, "workers must be addresses or names", id="worker"),
        pytest.param({"priority": 1.5}, "priority=1.5 must be a whole number", id="priority"),
        pytest.param({"log_prints": "yes"}, "log_prints='yes' must be True or False", id="prints"),
        pytest.param({"task_run_name": 3}, "task_run_name=3 must be a text such as", id="template"),
        pytest.param({"name": ""}, "task name '' must be a text that is not empty", id="no-name"),
        pytest.param({"name": "a/b"}, "must not contain '/'", id="slash"),
        pytest.param({"name": "..x"}, "must not contain '/', '..'", id="dots"),
        pytest.param({"name": "a\nb"}, "characters that do not print", id="control"),
        pytest.param({"name": "x" * 1000}, "has 1000 characters; 200 are allowed", id="long"),
    ],
)
def test_a_bad_task_option_is_refused_at_the_decorator(options, text):
    for attempt in (
        lambda: task(plain, **options),
        lambda: task(**options)(plain),
        lambda: task(plain).with_options(**options),
    ):
        with pytest.raises(UsageError) as caught:
            attempt()
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param({"task_runer": 1}, "did you mean 'task_runner'?", id="typo"),
        pytest.param({"concurrency": "db"}, "does not support concurrency=", id="later"),
        pytest.param({"persist_result": 1}, "persist_result=1 must be True or False", id="persist"),
        pytest.param({"result_storage": ""}, "result_storage='' must be a folder", id="storage"),
        pytest.param({"retries": -1}, "retries=-1 must be a whole number", id="retries"),
        pytest.param({"timeout_seconds": 0}, "greater than 0; leave it out for no", id="no-time"),
        pytest.param({"timeout_seconds": -1}, "timeout_seconds=-1 must be", id="less-time"),
        pytest.param({"timeout_seconds": math.nan}, "timeout_seconds=nan must be", id="nan-time"),
        pytest.param({"retry_delay_seconds": math.nan}, "must be a number of seconds", id="delay"),
        pytest.param({"task_runner": "proceses"}, "did you mean 'processes'?", id="runner"),
        pytest.param({"task_runner": 5}, "task_runner=5 is not possible", id="runner-number"),
        pytest.param({"cancel_grace_seconds": -1}, "must be a number of seconds", id="grace"),
        pytest.param({"cancel_grace_seconds": math.nan}, "must be a number of seconds", id="nan"),
        pytest.param({"validate_parameters": 3}, "=3 must be True or False", id="validate"),
        pytest.param({"flow_run_name": 3}, "flow_run_name=3 must be a text", id="template"),
        pytest.param({"log_prints": 1}, "log_prints=1 must be True or False", id="prints"),
        pytest.param({"name": "a/b"}, "flow name 'a/b' must not contain '/'", id="name"),
    ],
)
def test_a_bad_flow_option_is_refused_at_the_decorator(options, text):
    for attempt in (
        lambda: flow(plain, **options),
        lambda: flow(**options)(plain),
        lambda: flow(plain).with_options(**options),
    ):
        with pytest.raises(UsageError) as caught:
            attempt()
        assert text in str(caught.value)


@pytest.mark.parametrize("name", ["naïve", "日本語", "🚀 launch", "a.b-c_d"])
def test_a_name_may_be_in_any_language(name):
    assert task(plain, name=name).name == name
    assert flow(plain, name=name).name == name


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        pytest.param((), {}, "missing a required argument: 'x'", id="too-few"),
        pytest.param((1, 2, 3), {}, "too many positional arguments", id="too-many"),
        pytest.param((1,), {"zz": 1}, "unexpected keyword argument 'zz'", id="unknown"),
        pytest.param((1,), {"x": 1}, "multiple values for argument 'x'", id="twice"),
    ],
)
def test_a_call_that_does_not_fit_fails_before_it_is_submitted(args, kwargs, text):
    each = task(plain, name="plain")

    @flow(task_runner="threads")  # would start at a submission
    def body(how):
        getattr(each, how)(*args, **kwargs) if how != "call" else each(*args, **kwargs)

    for how in ("submit", "call"):
        with pytest.raises(UsageError) as caught:
            body(how)
        assert "task plain(x, y=1, *, z=2) cannot be called like this" in str(caught.value)
        assert text in str(caught.value)


def test_a_function_keeps_its_identity_under_the_decorators():
    for decorator in (task, flow):
        made = decorator(plain)
        assert (made.__name__, made.__module__, made.__wrapped__) == ("plain", __name__, plain)
        assert made.fn is plain
        again = pickle.loads(pickle.dumps(made))
        assert (again.fn, again.options) == (plain, made.options)
    assert asyncio.iscoroutinefunction(task(plain).fn) is False


def test_attributes_of_the_function_hide_nothing_of_the_task():
    def body(x):
        return x

    body.submit, body.name, body.options = "mine", "mine", "mine"  # type: ignore[attr-defined]
    made = task(body)
    assert made.name == "body"
    assert callable(made.submit)
    assert made(3) == 3


def test_exponential_backoff_doubles():
    assert exponential_backoff(0.5)(4) == [0.5, 1.0, 2.0, 4.0]
    assert exponential_backoff(3)(0) == [3.0]
    with pytest.raises(UsageError, match="backoff_factor=-1 must be a number"):
        exponential_backoff(-1)


def test_options_in_a_copy_leave_the_original_alone():
    first = task(plain, name="first", retries=1)
    second = first.with_options(retries=2)
    assert (first.options["retries"], second.options["retries"]) == (1, 2)
    assert second.name == "first"
    assert second.estimate is first.estimate


def test_a_hard_timeout_is_for_plain_functions():
    async def body():
        """Is cancelled in time anyway."""

    with pytest.raises(UsageError, match="an async one is cancelled in time anyway"):
        task(timeout_seconds=1, timeout_mode="hard")(body)
