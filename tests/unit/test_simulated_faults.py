"""10,000 small flows on a faulty cluster: the invariants hold, and would be seen not to."""

from __future__ import annotations

from collections import Counter

import pytest

from daskflow.runner.core.states import FINAL
from tests.unit.broken_cores import BROKEN
from tests.unit.fault_stories import KINDS, first_violation, main, play

SEEDS, SHARES = 10_000, 10
FOUND_WITHIN = 500


@pytest.mark.parametrize("share", range(SHARES))
def test_the_invariants_hold_after_every_event_whatever_goes_wrong(share):
    violation = first_violation(range(share, SEEDS, SHARES))
    if violation is not None:
        pytest.fail(str(violation), pytrace=False)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_core_that_is_broken_is_found_out(broken, monkeypatch):
    BROKEN[broken](monkeypatch)
    violation = first_violation(range(FOUND_WITHIN))
    assert violation is not None
    assert "python -m tests.unit.fault_stories --seed" in str(violation)


def test_a_seed_tells_the_same_story_again_step_by_step(capsys):
    told = []
    for _ in range(2):
        assert main(["--seed", "6"]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "sent parcel 0" in told[0]


def test_a_seed_that_broke_an_invariant_breaks_it_again_with_its_story(monkeypatch, capsys):
    BROKEN["charges_all_that_was_queued"](monkeypatch)
    violation = first_violation(range(FOUND_WITHIN))
    assert violation is not None
    seed = violation.seed
    assert main(["--seed", str(seed)]) == 1
    *story, law, again = capsys.readouterr().out.splitlines()
    assert any("lost (killed), executing:" in line for line in story)
    assert "paid for another" in law
    assert again.endswith(f"--seed {seed}")
    assert main(["--seeds", str(seed), str(seed + 1)]) == 1


def test_the_stories_reach_what_they_are_meant_to_reach():
    """Invariants that nothing puts to the test prove nothing."""
    reached: Counter[str] = Counter()
    sizes = set()
    for seed in range(50 * len(KINDS)):
        story: list[str] = []
        cluster = play(seed, story)
        sizes.add(len(cluster.runs))
        reached.update(run.state for run in cluster.runs)
        reached["late"] += cluster.driver.late
        reached["crashes"] += sum(run.crashes for run in cluster.runs)
        reached["again"] += sum(cluster.executions[run] > run.attempt for run in cluster.runs)
        lines = "\n".join(story)
        reached.update(event for event in EVENTS if event in lines)
    assert set(reached) >= {*FINAL, *EVENTS}
    assert min(reached.values()) >= 10, reached
    assert min(sizes) <= 2
    assert max(sizes) >= 60


EVENTS = (
    "submit",
    "cancel flow run",
    "the cluster is gone for good",
    "the scheduler is gone",
    "the clock is set to",
    "in the cache",
    "executes parcel",
    "handed back of parcel",
    "gives way",
    "is lost",
    "expected), executing",
    "executing: nobody knows",
    "executing: [",
    "the value of",
    "which is done with",
    "(t)",
)
