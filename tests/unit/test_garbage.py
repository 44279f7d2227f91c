"""The collector's setting is changed while a driver is there, and is the user's again after."""

from __future__ import annotations

import gc

import pytest

from daskflow.runner.garbage import OBJECTS_PER_RUN, YOUNG_OBJECTS, patient_collector


@pytest.fixture(autouse=True)
def _as_before():
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_it_is_patient_until_the_last_user_has_left():
    with patient_collector():
        with patient_collector():
            assert gc.get_threshold() == (YOUNG_OBJECTS, 50, 10)
        assert gc.get_threshold() == (YOUNG_OBJECTS, 50, 10)
    assert gc.get_threshold() == (700, 10, 10)


def test_open_runs_make_it_more_patient_for_as_long_as_they_are_open():
    with patient_collector() as one, patient_collector() as other:
        one.follow(4_000)
        other.follow(2_000)
        assert gc.get_threshold()[0] == YOUNG_OBJECTS + OBJECTS_PER_RUN * 6_000
        one.follow(4_100)  # hardly a change
        assert gc.get_threshold()[0] == YOUNG_OBJECTS + OBJECTS_PER_RUN * 6_000
        one.follow(0)
        assert gc.get_threshold()[0] == YOUNG_OBJECTS + OBJECTS_PER_RUN * 2_000
        other.follow(10_000_000)
        assert gc.get_threshold()[0] <= 11 * YOUNG_OBJECTS
    assert gc.get_threshold() == (700, 10, 10)


def test_open_runs_change_nothing_that_the_user_has_set():
    with patient_collector() as patience:
        gc.set_threshold(900, 10, 10)
        patience.follow(5_000)
        assert gc.get_threshold() == (900, 10, 10)


def test_an_error_inside_puts_the_setting_back():
    with pytest.raises(KeyError), patient_collector():
        raise KeyError
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize(
    "theirs",
    [pytest.param((0, 10, 10), id="off"), pytest.param((50_000, 5, 5), id="more patient")],
)
def test_what_the_user_chose_stays(theirs):
    gc.set_threshold(*theirs)
    with patient_collector():
        assert gc.get_threshold() == theirs
    assert gc.get_threshold() == theirs


def test_what_is_set_meanwhile_stays():
    with patient_collector():
        gc.set_threshold(900, 10, 10)
    assert gc.get_threshold() == (900, 10, 10)
