"""What every database behind the run record must answer; the rest is in conformance_writers.py.

Each backend's test module subclasses `StoreConformance` and gives the fixture `url`: a store
that does not exist yet or is empty.  Nothing here knows which database answers.
"""

from __future__ import annotations

import math
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskflow.errors import NotFoundError
from tests.store.conformance_writers import WriterConformance
from tests.store.made import RUN, event, flow_run, log, task, task_run, transition

__all__ = ["StoreConformance"]

OTHER = "a1" * 16

task_runs_of_few_numbers = st.lists(
    st.builds(
        task_run,
        st.integers(0, 5),
        state=st.sampled_from(["Pending", "Running", "Completed", "Failed"]),
        message=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        parents=st.none() | st.lists(st.integers(0, 9), max_size=4).map(tuple),
        started_at=st.none() | st.floats(0, 4e9),
        result_bytes=st.none() | st.integers(0, 2**63 - 1),
    ),
    max_size=12,
)


class StoreConformance(WriterConformance):
    """The behaviours; a subclass provides `url`."""

    # ---- flow runs

    def test_a_flow_run_reads_back_as_written(self, writer, store):
        row = flow_run(parent_flow_run_id=OTHER, parent_task_run=7, message="all is well")
        writer.flow_run(row)
        assert writer.flush()
        assert store.flow_runs() == [row]

    def test_the_last_row_of_a_flow_run_wins_in_one_batch_and_over_several(self, writer, store):
        for state in ("Pending", "Running"):
            writer.flow_run(flow_run(state=state))
        assert writer.flush()
        assert [run.state for run in store.flow_runs()] == ["Running"]
        writer.flow_run(flow_run(state="Completed"))
        assert writer.flush()
        assert [run.state for run in store.flow_runs()] == ["Completed"]

    def test_flow_runs_come_newest_first_in_pages_and_by_state_and_flow(self, writer, store):
        for place in range(5):
            writer.flow_run(
                flow_run(
                    f"{place:032x}",
                    created_at=100.0 + place,
                    state="Failed" if place % 2 else "Completed",
                    flow_name="even" if place in (0, 4) else "other",
                )
            )
        assert writer.flush()

        def places(**wanted: object) -> list[int]:
            return [int(run.flow_run_id, 16) for run in store.flow_runs(**wanted)]

        assert places() == [4, 3, 2, 1, 0]
        assert places(limit=2) == [4, 3]
        assert places(limit=2, before=103.0) == [2, 1]
        assert places(state="Failed") == [3, 1]
        assert places(flow="even") == [4, 0]
        assert places(state="Failed", flow="even") == []
        assert places(limit=0) == []

    def test_a_limit_of_none_lists_every_flow_run(self, writer, store):
        for place in range(30):
            writer.flow_run(flow_run(f"{place:032x}"))
        assert writer.flush()
        assert len(store.flow_runs()) == 20
        assert len(store.flow_runs(limit=None)) == 30

    def test_children_are_the_runs_inside_a_flow_run_oldest_first(self, writer, store):
        writer.flow_run(flow_run())
        for place in (2, 1):
            child = flow_run(f"{place:032x}", parent_flow_run_id=RUN, created_at=100.0 + place)
            writer.flow_run(child)
        assert writer.flush()
        assert [int(run.flow_run_id, 16) for run in store.children(RUN)] == [1, 2]
        assert store.children(OTHER) == []

    def test_rows_that_come_before_their_flow_run_wait_for_it(self, writer, store):
        writer.task_runs(RUN, [task_run(0)])
        assert writer.flush()
        assert store.flow_runs() == []
        with pytest.raises(NotFoundError):
            store.find_flow_run("@last")
        writer.flow_run(flow_run())
        assert writer.flush()
        assert store.flow_runs() == [flow_run()]
        assert store.task_runs(RUN) == [task_run(0)]

    # ---- finding

    def test_a_flow_run_is_found_by_id_prefix_name_and_last(self, writer, store):
        old = flow_run(OTHER, name="calm-otter", created_at=1.0)
        new = flow_run(RUN, name="brave-fox", created_at=2.0)
        writer.flow_run(new)
        writer.flow_run(old)
        assert writer.flush()
        for ref in (OTHER, OTHER.upper(), "a1", "a", "calm-otter"):
            assert store.find_flow_run(ref) == old
        assert store.find_flow_run("@last") == new

    def test_last_is_never_a_subflow(self, writer, store):
        root = flow_run(RUN, created_at=1.0)
        writer.flow_run(root)
        writer.flow_run(flow_run(OTHER, created_at=2.0, parent_flow_run_id=RUN))
        assert writer.flush()
        assert store.find_flow_run("@last") == root

    def test_an_ambiguous_ref_lists_the_candidates(self, writer, store):
        one, two = "ab1" + "0" * 29, "ab2" + "0" * 29
        writer.flow_run(flow_run(one, name="twin"))
        writer.flow_run(flow_run(two, name="twin"))
        assert writer.flush()
        for ref in ("ab", "twin"):
            with pytest.raises(NotFoundError, match=r"several.*id") as raised:
                store.find_flow_run(ref)
            assert one in str(raised.value)
            assert two in str(raised.value)

    def test_a_name_wins_over_a_prefix_of_an_id(self, writer, store):
        writer.flow_run(flow_run("cafe" + "0" * 28, name="otter"))
        writer.flow_run(flow_run(OTHER, name="cafe"))
        assert writer.flush()
        assert store.find_flow_run("cafe").flow_run_id == OTHER

    def test_an_unknown_ref_names_the_nearest(self, writer, store):
        writer.flow_run(flow_run(OTHER, name="calm-otter"))
        assert writer.flush()
        with pytest.raises(NotFoundError, match="calm-otter"):
            store.find_flow_run("calm-oter")
        with pytest.raises(NotFoundError, match=OTHER):
            store.find_flow_run("a1a1a1b1")

    @pytest.mark.parametrize(
        "ref", ["", "%", "_", "'", "a1' OR 1=1 --", "\udc80", "🦦", "x" * 5000]
    )
    def test_a_strange_ref_is_not_found(self, writer, store, ref):
        writer.flow_run(flow_run(OTHER, name="calm-otter"))
        assert writer.flush()
        with pytest.raises(NotFoundError):
            store.find_flow_run(ref)

    def test_nothing_is_found_in_an_empty_store(self, store):
        assert store.flow_runs() == []
        assert store.task_runs(RUN) == []
        assert store.counts(RUN) == {}
        assert store.logs(RUN) == []
        for ref in ("@last", "calm-otter"):
            with pytest.raises(NotFoundError, match="recorded yet"):
                store.find_flow_run(ref)

    # ---- task runs

    def test_tasks_and_task_runs_read_back_as_written(self, writer, store):
        rows = [
            task_run(0, parents=None, name="first"),
            task_run(1, parents=(), cache=None, worker=None, pid=None, started_at=None),
            task_run(2, parents=(1, 0, 1)),
        ]
        writer.tasks(RUN, [task(1, "load"), task(0, "clean")])
        writer.task_runs(RUN, rows)
        assert writer.flush()
        assert store.tasks(RUN) == [task(0, "clean"), task(1, "load")]
        assert store.task_runs(RUN) == rows
        assert store.edges(RUN) == [(2, 1), (2, 0), (2, 1)]

    def test_plain_tuples_are_rows_too(self, writer, store):
        writer.tasks(RUN, [tuple(task())])
        writer.task_runs(RUN, [tuple(task_run(3, parents=(1,)))])
        writer.logs(RUN, [tuple(log("seven values"))[:7], tuple(log("eight values"))])
        assert writer.flush()
        assert store.tasks(RUN) == [task()]
        assert store.task_runs(RUN) == [task_run(3, parents=(1,))]
        assert [row.message for row in store.logs(RUN)] == ["seven values", "eight values"]

    def test_task_runs_come_by_number_in_pages_by_state_and_by_task(self, writer, store):
        writer.tasks(RUN, [task(0, "clean"), task(1, "load")])
        rows = [
            task_run(n, task_number=n % 2, state="Failed" if n == 3 else "Completed")
            for n in range(6)
        ]
        writer.task_runs(RUN, rows[3:])
        writer.task_runs(RUN, rows[:3])
        assert writer.flush()

        def numbers(**wanted: object) -> list[int]:
            return [row.number for row in store.task_runs(RUN, **wanted)]

        assert numbers() == [0, 1, 2, 3, 4, 5]
        assert numbers(limit=2) == [0, 1]
        assert numbers(after=1, limit=2) == [2, 3]
        assert numbers(state="Failed") == [3]
        assert numbers(task="load") == [1, 3, 5]
        assert numbers(task="load", state="Completed", after=1) == [5]
        assert numbers(task="nobody") == []
        assert store.counts(RUN) == {"Completed": 5, "Failed": 1}

    def test_flow_runs_do_not_see_each_others_rows(self, writer, store):
        for flow_run_id, state in ((RUN, "Completed"), (OTHER, "Failed")):
            writer.flow_run(flow_run(flow_run_id))
            writer.tasks(flow_run_id, [task(0, state)])
            writer.task_runs(flow_run_id, [task_run(0, state=state, parents=(1,))])
            writer.transitions(flow_run_id, [transition("AwaitingRetry", 1.0)])
            writer.logs(flow_run_id, [log(state)])
            writer.events(flow_run_id, [event(of=state)])
        assert writer.flush()
        assert [row.name for row in store.tasks(OTHER)] == ["Failed"]
        assert store.counts(OTHER) == {"Failed": 1}
        assert store.edges(OTHER) == [(0, 1)]
        assert len(store.stored_transitions(OTHER)) == 1
        assert [row.message for row in store.logs(OTHER)] == ["Failed"]
        assert [row.payload for row in store.events(OTHER)] == [{"of": "Failed"}]

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(task_runs_of_few_numbers, max_size=5), st.data())
    def test_any_sequence_of_upserts_reads_back_as_last_wins(self, writer, store, calls, data):
        run = uuid4().hex
        expected = {}
        for rows in calls:
            writer.task_runs(run, rows)
            expected |= {row.number: row for row in rows}
            if data.draw(st.booleans(), label="flush"):
                assert writer.flush()
        assert writer.flush()
        assert store.task_runs(run) == [expected[number] for number in sorted(expected)]
        edges = [(n, parent) for n in sorted(expected) for parent in expected[n].parents or ()]
        assert store.edges(run) == edges

    def test_a_batch_larger_than_a_statement_keeps_every_row(self, writer, store):
        rows = [task_run(number, parents=(number - 1,)) for number in range(25_000)]
        writer.task_runs(RUN, rows)
        assert writer.flush()
        assert store.task_runs(RUN) == rows

    def test_odd_values_cost_no_neighbour_its_row(self, writer, store, caplog):
        class Scalar:  # as numpy's integers do
            def __index__(self) -> int:
                return 7

        rows = [
            task_run(0),
            task_run(1, message="half a \ud83e character", worker="nul \0 inside"),
            task_run(2, result_bytes=2**70),
            task_run(3, result_bytes=Scalar(), run_s=math.inf, cpu_s=math.nan),
            task_run(4)[:-1],  # a value short: cannot be placed
            task_run(5),
        ]
        writer.task_runs(RUN, rows)
        writer.logs(RUN, [log("a"), log("\udcff"), log("c")])
        writer.events(RUN, [event(odd=object)])
        assert writer.flush()
        read = {row.number: row for row in store.task_runs(RUN)}
        assert sorted(read) == [0, 1, 2, 3, 5]
        assert read[0] == rows[0]
        assert "half a" in read[1].message
        assert read[1].worker == "nul \0 inside"
        assert (read[3].result_bytes, read[3].run_s) == (7, math.inf)
        assert len(store.logs(RUN)) == 3
        assert "object" in store.events(RUN)[0].payload["odd"]
        assert [r.levelname for r in caplog.records] == ["WARNING"]  # for the row that is short

    # ---- transitions, logs, events

    def test_a_short_run_has_its_whole_history_from_its_row(self, writer, store):
        writer.task_runs(RUN, [task_run(0)])
        assert writer.flush()
        history = store.transitions(RUN, 0)
        assert [(t.state, t.at) for t in history] == [
            ("Pending", 102.0),
            ("Running", 103.0),
            ("Completed", 104.0),
        ]
        assert store.stored_transitions(RUN) == []

    def test_stored_transitions_are_merged_into_the_history(self, writer, store):
        writer.task_runs(RUN, [task_run(0, attempt=2, started_at=103.5), task_run(1)])
        writer.transitions(RUN, [transition("AwaitingRetry", 103.25, 1)])
        writer.transitions(RUN, [transition("Running", 103.0, 1, number=1)])
        assert writer.flush()
        states = [(t.state, t.attempt) for t in store.transitions(RUN, 0)]
        assert states == [
            ("Pending", 0),
            ("Running", 1),
            ("AwaitingRetry", 1),
            ("Retrying", 2),
            ("Completed", 2),
        ]
        assert [t.number for t in store.stored_transitions(RUN)] == [0, 1]

    def test_a_flow_run_has_a_history_of_its_own(self, writer, store):
        writer.flow_run(flow_run())
        writer.transitions(RUN, [transition("Running", 101.75, 1, number=None)])
        assert writer.flush()
        history = [(t.state, t.at) for t in store.transitions(RUN, None)]
        assert history == [("Pending", 100.25), ("Running", 101.75), ("Completed", 109.0)]

    def test_the_history_of_an_unknown_task_run_is_not_found(self, writer, store):
        writer.task_runs(RUN, [task_run(0), task_run(2)])
        assert writer.flush()
        for number in (1, 3):
            with pytest.raises(NotFoundError, match=str(number)):
                store.transitions(RUN, number)

    def test_logs_keep_the_order_of_arrival_over_batches(self, writer, store):
        for batch in range(5):
            for line in range(20):
                writer.logs(RUN, [log(f"{batch}-{line}", number=line % 3, at=500.0 - batch)])
                writer.logs(OTHER, [log("elsewhere")])
            assert writer.flush()
        rows = store.logs(RUN)
        expected = [f"{batch}-{line}" for batch in range(5) for line in range(20)]
        assert [row.message for row in rows] == expected
        assert [row.sequence for row in rows] == list(range(100))

    def test_logs_are_followed_by_their_sequence(self, writer, store):
        writer.logs(RUN, [log("one"), log("two")])
        assert writer.flush()
        first = store.logs(RUN, limit=1)
        writer.logs(RUN, [log("three")])
        assert writer.flush()
        rest = store.logs(RUN, after=first[-1].sequence)
        assert [row.message for row in first + rest] == ["one", "two", "three"]

    def test_logs_are_found_by_task_run_level_and_text(self, writer, store):
        writer.logs(
            RUN,
            [
                log("100% Done", number=0, level=20),
                log("100 done_", number=1, level=40),
                log("nothing", number=None, level=50),
            ],
        )
        assert writer.flush()

        def messages(**wanted: object) -> list[str]:
            return [row.message for row in store.logs(RUN, **wanted)]

        assert messages(number=1) == ["100 done_"]
        assert messages(level=40) == ["100 done_", "nothing"]
        assert messages(search="DONE") == ["100% Done", "100 done_"]
        assert messages(search="0%") == ["100% Done"]
        assert messages(search="e_") == ["100 done_"]
        assert messages(search="\\") == []
        assert messages(search="done", level=40, number=0) == []

    def test_events_keep_their_payload_and_their_order(self, writer, store):
        rows = [event("b", deep={"a": [1, None]}), event("a"), event("b", n=2)]
        writer.events(RUN, rows)
        assert writer.flush()
        assert store.events(RUN) == rows
        assert store.events(RUN, event="b") == [rows[0], rows[2]]
