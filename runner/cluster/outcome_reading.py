"""What a worker's report tells, in the driver's terms: outcomes, whose values may be elsewhere."""

from __future__ import annotations

import weakref

from distributed import Client

from daskflow.runner.cluster.executor.errors import load_error
from daskflow.runner.cluster.orders import RemoteValue
from daskflow.runner.cluster.protocol import (
    BOUND_ERROR,
    BOUND_INPUT,
    BOUND_STORED,
    ENDED_PROCESS,
    ENDED_TIMED_OUT,
    ENDED_WELL,
    Report,
    Told,
)
from daskflow.runner.core.graph import Outcome, Parcel, Remote, Run
from daskflow.runner.stored import StoredValue

__all__ = ["OutcomeReader"]

_new = tuple.__new__  # a NamedTuple's own constructor takes three times as long
_BY_REFERENCE = frozenset({BOUND_INPUT, BOUND_STORED})


class OutcomeReader:
    """Reads reports of the workers of one cluster, and knows whose values these hold.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._remote: weakref.WeakValueDictionary[int, Run] = weakref.WeakValueDictionary()

    def read(self, report: Report, parcel: Parcel) -> list[Outcome]:
        """What a report tells, in the driver's terms."""
        # most runs end well with a small result: their outcome is made without a call of ours
        return [
            _new(
                Outcome,
                (t[0], True, t[2], t[3], (t[6], t[7]), None, False, t[4], t[5], t[8], False),
            )
            if t[1] == ENDED_WELL and t[6] not in _BY_REFERENCE
            else self._outcome(t, parcel)
            for t in report.told
        ]

    def _outcome(self, told: Told, parcel: Parcel) -> Outcome:
        number, ended, started_at, run_s, cpu_s, encode_s, tag, value, size = told
        if ended == ENDED_WELL:
            held: Remote
            if tag == BOUND_STORED:
                held = StoredValue(value)
            else:
                held = RemoteValue.of_key(value, self._client)
                if (run := parcel.open.get(number)) is not None:
                    self._remote[number] = run
            return Outcome(
                number, True, started_at, run_s, held, None, False, cpu_s, encode_s, size
            )
        error = value
        if tag == BOUND_ERROR:
            run = parcel.open.get(number)
            error = load_error(value, run.task_run_id if run else str(number))
        crashed, timed_out = ended == ENDED_PROCESS, ended == ENDED_TIMED_OUT
        return Outcome(
            number, False, started_at, run_s, None, error, crashed, cpu_s, timed_out=timed_out
        )

    def held(self) -> list[Run]:
        """Runs whose values lie on workers only, and that somebody still holds."""
        # by its references: an end that another thread's collector frees meanwhile does no harm
        return [run for each in self._remote.valuerefs() if (run := each()) is not None]
