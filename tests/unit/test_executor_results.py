"""Results on their way out of a parcel: too large, too many, or not to be pickled at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from daskflow.runner.cluster.executor import attempt
from daskflow.runner.cluster.protocol import (
    ENDED_PROCESS,
    INLINE_LIMIT,
)
from tests.unit.parcels import FakeChannel, code_of, executed, item


def raising(error: BaseException) -> Callable[..., Any]:
    def body(*args: Any) -> Any:
        raise error

    return body


def test_a_result_that_cannot_be_pickled_fails_its_run_and_says_what_to_do() -> None:
    channel = executed(code_of(lambda n: [threading.Lock()] * n), [item(1, 1), item(2, 5_000)])
    for number in (1, 2):
        with pytest.raises(TypeError, match="cannot pickle") as caught:
            channel.result(number)
        assert "the result of body" in caught.value.__notes__[0]
        assert "return plain data" in caught.value.__notes__[0]


def test_a_result_whose_pickling_ends_the_process_does_not() -> None:
    class Exits:
        def __reduce__(self) -> Any:
            raise SystemExit(3)

    channel = executed(code_of(lambda: Exits()), [item(1)])
    assert channel.told[0][1] == ENDED_PROCESS


def test_large_results_stay_here_under_a_key_each() -> None:
    channel = executed(code_of(lambda n: "x" * n), [item(n, INLINE_LIMIT + n) for n in (1, 2)])
    keys = [told[7] for told in channel.told]
    assert set(keys) == set(channel.values)
    assert len(channel.result(2)) == INLINE_LIMIT + 2
    assert all(key.startswith("body-result-topic-") for key in keys)


def test_a_result_that_cannot_be_registered_is_told_apart_from_one_that_cannot_be_pickled() -> None:
    class Cut(FakeChannel):
        def keep(self, key: str, value: Any, size: int) -> None:
            raise OSError("scheduler gone")

    channel = executed(code_of(lambda: "x" * 100_000), [item(1), item(2)], channel=Cut())
    with pytest.raises(OSError, match="scheduler gone") as caught:
        channel.result(1)
    assert "could not be registered" in caught.value.__notes__[0]
    assert channel.numbers == [1, 2]


@pytest.mark.parametrize("text", [True, False], ids=["text", "objects"])
def test_results_do_not_pile_up_untold(text: bool) -> None:
    """What rides along is small each, and sent in messages of a bounded size."""
    size = INLINE_LIMIT - 500
    body = (lambda n: "x" * n) if text else (lambda n: ["x" * n])
    channel = executed(code_of(body), [item(n, size) for n in range(40)])
    most = attempt.REPORT_BYTES // size + 1
    assert [len(report.told) for report in channel.reports[:-1]] == [most] * (40 // most)
    assert channel.numbers == list(range(40))


def test_huge_exceptions_do_not_pile_up_untold() -> None:
    channel = executed(code_of(raising(ValueError("x" * 100_000))), [item(n) for n in range(10)])
    assert len(channel.reports) >= 3
