"""StallWatch: what is told of work that waits for workers, and when."""

from __future__ import annotations

from daskflow.runner.core.stalls import OVER, RESUMED, STALLED, StallNews, StallWatch


def test_a_stall_is_told_once_and_its_end_too():
    watch = StallWatch(60.0)
    look = watch.look
    assert look(0.0, waits=True, workers=2) is None
    assert look(10.0, waits=True, workers=0) is None
    assert look(11.5, waits=True, workers=0) == StallNews(STALLED, 1.5, 58.5)
    assert look(12.0, waits=True, workers=0) is None
    assert look(22.0, waits=True, workers=1) == StallNews(RESUMED, 12.0, 60.0)
    assert look(23.0, waits=True, workers=0) is None


def test_a_short_gap_is_no_news():
    watch = StallWatch(60.0)
    assert watch.look(0.0, waits=True, workers=0) is None
    assert watch.look(0.9, waits=True, workers=1) is None


def test_a_stall_is_over_at_its_timeout():
    watch = StallWatch(5.0)
    assert watch.look(100.0, waits=True, workers=0) is None
    assert watch.look(104.9, waits=True, workers=0).what == STALLED
    assert watch.look(105.0, waits=True, workers=0) == StallNews(OVER, 5.0, 0.0)


def test_without_work_nothing_is_stalled():
    watch = StallWatch(5.0)
    assert watch.look(0.0, waits=False, workers=0) is None
    assert watch.look(50.0, waits=False, workers=0) is None
    assert watch.look(51.0, waits=True, workers=0) is None
