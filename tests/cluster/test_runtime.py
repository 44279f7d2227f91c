"""`runtime.flow_run` inside tasks: the attempt and the parameters, wherever the task runs."""

from __future__ import annotations

import pytest

from daskflow import flow, runtime, task
from daskflow.errors import UsageError


@task
def looks():
    from daskflow import runtime  # travels by value to the external workers

    return runtime.flow_run.attempt, runtime.flow_run.parameters


def test_a_task_knows_the_attempt_and_the_parameters_of_its_flow_run(where):
    @flow(task_runner=where, retries=1)
    def twice(day: str, limits: dict[str, int]):
        told = looks.submit().result()
        if runtime.flow_run.attempt == 1:
            raise ValueError("once more")
        return told, looks.with_options(name="new").submit().result()

    given = {"day": "monday", "limits": {"low": 1}}
    first, second = twice("monday", {"low": 1})
    assert first == (1, given)  # what succeeded is not run again
    assert second == (2, given)


@pytest.mark.parametrize("where", ["processes", "external"], indirect=True)
def test_parameters_that_are_too_large_to_go_along_are_told_of(where):
    @task
    def asks():
        from daskflow import runtime  # as above

        return runtime.flow_run.parameters

    @flow(task_runner=where)
    def large(text: str):
        return looks_like(asks.submit())

    def looks_like(future):
        with pytest.raises(UsageError, match="larger than the 65,536 bytes") as caught:
            future.result()
        return str(caught.value)

    assert "pass what the task needs as an argument" in large("x" * 100_000)
