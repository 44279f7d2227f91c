"""Flow parameters: bound, validated and coerced, with every problem named at once."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic
import pytest

from daskflow.errors import ParameterError
from daskflow.runner.parameters import bind_parameters

if TYPE_CHECKING:
    from decimal import Decimal


class Window(pydantic.BaseModel):
    start: int
    end: int = 5


@dataclasses.dataclass
class Point:
    x: int


class Plain:
    pass


def bind(function, *args, validate=True, **kwargs):
    signature = inspect.signature(function)
    bound = bind_parameters(function, signature, args, kwargs, flow_name="etl", validate=validate)
    return dict(bound.arguments)


def typed(
    n: int,
    mode: Literal["a", "b"] = "a",
    window: Window | None = None,
    point: Point | None = None,
    plain: Plain | None = None,
    small: Annotated[int, pydantic.Field(lt=10)] = 1,
    *rest: int,
    free=None,
    **more: int,
):
    pass


def test_values_are_coerced_and_defaults_filled_in():
    plain = Plain()
    got = bind(typed, "3", "b", {"start": "1"}, {"x": "2"}, plain, 4, "raw", free="f", other="raw")
    assert got == {
        "n": 3,
        "mode": "b",
        "window": Window(start=1),
        "point": Point(2),
        "plain": plain,
        "small": 4,
        "rest": ("raw",),
        "free": "f",
        "more": {"other": "raw"},
    }


def test_every_problem_is_named_at_once():
    with pytest.raises(ParameterError) as caught:
        bind(typed, "x", "c", {"start": "no"}, small=11)
    text = str(caught.value)
    assert "flow etl got 4 parameter value(s) that do not fit" in text
    for place in ("n: ", "mode: ", "window.start: ", "small: "):
        assert f"  {place}" in text
    assert "got 'x'" in text


def test_a_call_that_does_not_fit_shows_the_signature():
    with pytest.raises(ParameterError, match=r"flow etl\(n: 'int', .*missing a required argument"):
        bind(typed)


def test_nothing_is_validated_where_it_is_switched_off():
    assert bind(typed, "x", validate=False)["n"] == "x"


def test_an_annotation_that_only_type_checkers_know_is_left_alone():
    def later(n: Decimal, m: int = 1):
        pass

    assert bind(later, "x") == {"n": "x", "m": 1}
