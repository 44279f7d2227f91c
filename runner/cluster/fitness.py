"""Whether workers can run what is about to be sent: packages, versions, a shared result storage.

Asked of each worker once, before the first parcel that needs it: a function that a worker cannot
import, or a result that nobody else could read, would fail later and say less.  Workers that this
process started on this machine have what it has; only its own permission to write is looked at.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import logging
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from daskflow.errors import ClusterError, DaskflowError, StoreError, UsageError
from daskflow.results.storage import Storage
from daskflow.results.storage_options import without_credentials
from daskflow.runner.cluster import foreign
from daskflow.runner.cluster.executor.sight import Probe, Sight, look_around
from daskflow.runner.cluster.imported_names import packages_of
from daskflow.runner.cluster.protocol import WITH_NANNY, Code
from daskflow.runner.cluster.requests import Requests
from daskflow.runner.cluster.session import Session
from daskflow.runner.code import travelling_modules
from daskflow.runner.core.graph import Parcel

if TYPE_CHECKING:
    from daskflow.caching.plans import CachePlan

__all__ = ["Fitness"]

_PROBED = ("file", "local", "memory")  # others are reached by every machine alike
_ANSWER_S = 5.0  # a worker that is busy for longer is not waited for
_SHOWN = 3

_Canaries = Mapping[str, tuple[str, str]]

_logger = logging.getLogger(__name__)


class Fitness:
    """Knows what the workers of one session lack.

    Parameters
    ----------
    session : Session
    requests : Requests
        Knows the workers.

    Attributes
    ----------
    warnings : list of str
        What the user should know, though it works; emptied by whoever tells it.
    """

    def __init__(self, session: Session, requests: Requests) -> None:
        self.warnings: list[str] = []
        self._session = session
        self._requests = requests
        self._asks = session.flight_folder == WITH_NANNY
        self._verdicts: dict[object, DaskflowError | None] = {}  # by function, storage and lane
        self._refused: dict[int, DaskflowError] = {}
        self._packages: dict[str, dict[str, bool]] = {}  # by worker: whether it has them
        self._storages: dict[str, dict[str, DaskflowError | None]] = {}  # by worker and URL
        self._versions: set[str] = set(session.checked)
        self._warned = self._warned_uncached = False
        self._hashed: set[str] = set()  # workers whose digests were compared

    def workers_changed(self) -> None:
        """A worker came or went."""
        self._verdicts.clear()

    def fits(self, parcel: Parcel, codes: Sequence[Code]) -> bool:
        """Whether to send a parcel; one that workers cannot run is kept for `refused`."""
        for code in codes:
            plan = code.cache
            kept = plan and (plan.store.url, plan.required, plan.algorithm)
            what = code.digest, kept, parcel.lane.key
            if what not in self._verdicts:
                lane = parcel.lane.key
                if self._asks and (self._requests.holds(lane) or not self._requests.able(lane)):
                    self._requests.hold(parcel)
                    return False
                self._verdicts[what] = self._verdict(parcel, code)
            if (error := self._verdicts[what]) is not None:
                self._refused[parcel.id] = error
                return False
        return True

    def refused(self) -> list[tuple[int, DaskflowError]]:
        """Parcels that cannot be run, and why; each is told once."""
        refused, self._refused = list(self._refused.items()), {}
        return refused

    def _verdict(self, parcel: Parcel, code: Code) -> DaskflowError | None:
        plan = code.cache
        url = None if plan is None else plan.store.url
        required = plan is not None and plan.required
        if not self._asks:
            return _writable_here(url) if url is not None and required else None
        codes: list[Any] = [run.stage.code for run in parcel.runs]
        function = next(each.function for each in codes if each.digest == code.digest)
        packages = packages_of(code.blob or b"", function)
        modules = _tops(travelling_modules(function, False))
        workers = self._requests.able(parcel.lane.key)
        if (error := self._check_versions(workers)) is not None:
            return error
        hashing = _packages_of_hash(plan)
        self._ask(workers, packages | modules | hashing, url)
        if lacking := self._lacking(workers, packages - modules):
            return ClusterError(
                f"task {code.task.name} cannot run, so it was not sent: {lacking}; install there "
                "what this process has, or name workers that have it (workers=[...])"
            )
        if plan is not None and (absent := self._lacking(workers, hashing)):
            error = _without_hash(code.task.name, absent, plan.algorithm)
            if required or plan.strict:
                return error
            self._warn_uncached(str(error))
        if absent := self._lacking(workers, modules):
            self._warn(code.task.name, absent)
        for worker in workers if url is not None else ():
            misfit = self._storages.get(worker, {}).get(url or "")
            if misfit is not None and (required or not isinstance(misfit, StoreError)):
                return misfit
        return None

    def _warn_uncached(self, told: str) -> None:
        if not self._warned_uncached:
            self._warned_uncached = True
            self.warnings.append(told)

    def _lacking(self, workers: Iterable[str], packages: Iterable[str]) -> str:
        wanted = sorted(packages)
        told = []
        for worker in workers:
            has = self._packages.get(worker, {})
            if lacks := [name for name in wanted if has.get(name) is False]:
                told.append(f"worker {worker} lacks {', '.join(lacks)}")
        more = f"; and {len(told) - _SHOWN} more workers" if len(told) > _SHOWN else ""
        return "; ".join(told[:_SHOWN]) + more

    def _warn(self, task_name: str, absent: str) -> None:
        if not self._warned:
            self._warned = True
            self.warnings.append(
                f"{absent}, which task {task_name} uses: what it uses travels with it, as it is "
                "here, and each function has its own copy of what is kept in the module; install "
                "it on the workers to have it imported there"
            )

    # -- asking --------------------------------------------------------------------------------

    def _check_versions(self, workers: Iterable[str]) -> ClusterError | None:
        """Compare versions with workers that came after the session was opened."""
        if not (new := set(workers) - self._versions):
            return None
        self._versions |= new
        try:
            foreign.check_versions(self._session.client)
        except ClusterError as error:
            return error
        return None

    def _ask(self, workers: Sequence[str], packages: set[str], url: str | None) -> None:
        probed = url is not None and _is_probed(url)
        new = [
            worker
            for worker in workers
            if not packages <= self._packages.get(worker, {}).keys()
            or (probed and url not in self._storages.get(worker, {}))
            or (url is not None and worker not in self._hashed)
        ]
        if not new:
            return
        probe = _laid(url) if probed and url is not None else None
        probes = [probe] if probe is not None else []
        mine = _canaries() if url is not None else {}
        look = partial(look_around, sorted(packages), probes, list(mine))
        try:
            answers = self._answers(new, look)
        finally:
            _cleared(probe)
        for worker, sight in answers.items():
            if not isinstance(sight, Sight):
                _logger.debug("worker %s does not tell what it has: %r", worker, sight)
                continue
            has = self._packages.setdefault(worker, {})
            has.update({name: name not in sight.packages for name in packages})
            if url is not None and probed:
                self._storages.setdefault(worker, {})[url] = _misfit(worker, url, sight)
            if mine:
                self._compare(worker, mine, sight.canaries)

    def _compare(self, worker: str, mine: _Canaries, theirs: _Canaries) -> None:
        """Warn once of a worker that makes other cache keys of equal values."""
        from daskflow.caching.canary import differing  # loaded by now

        known = worker in self._hashed
        self._hashed.add(worker)
        if not known and (libraries := differing(mine, theirs)):
            self.warnings.append(
                f"worker {worker} gets other digests than this process for values of "
                f"{', '.join(libraries)}: results that it keys are not found from here, and run "
                "again; install the same version, with the same options, on both sides"
            )

    def _answers(self, workers: list[str], question: Any) -> dict[str, Any]:
        client: Any = self._session.client

        async def ask() -> dict[str, Any]:
            answers: dict[str, Any] = await client.run(
                question.func, *question.args, workers=workers, on_error="return"
            )
            return answers

        future = asyncio.run_coroutine_threadsafe(ask(), client.loop.asyncio_loop)
        try:
            return future.result(_ANSWER_S)
        except (OSError, concurrent.futures.TimeoutError) as error:
            future.cancel()
            _logger.debug("workers do not tell what they have: %r", error)
            return {}


def _canaries() -> _Canaries:
    from daskflow.caching.canary import canaries, loaded_libraries  # where results are cached

    return canaries(loaded_libraries())


def _tops(modules: Iterable[ModuleType]) -> set[str]:
    return {module.__name__.partition(".")[0] for module in modules} - {"__main__"}


def _packages_of_hash(plan: CachePlan | None) -> set[str]:
    return set() if plan is None or plan.algorithm == "sha256" else {plan.algorithm}


def _without_hash(task_name: str, absent: str, algorithm: str) -> ClusterError:
    return ClusterError(
        f"{absent}, with which results are hashed: what runs there is not cached, such as task "
        f"{task_name}; run `pip install 'daskflow[{algorithm}]'` on the workers, or keep results "
        "in a store that is made with results.hash_algorithm = 'sha256'"
    )


def _is_probed(url: str) -> bool:
    protocol, separator, _ = url.partition("://")
    return not separator or protocol in _PROBED


def _laid(url: str) -> Probe:
    """A file for workers to find; none where this process may not write."""
    path, token = f"{uuid.uuid4().hex}.tmp", os.urandom(16)
    try:
        Storage(url).create(path, token)
    except StoreError as error:
        _logger.debug("nothing to find is laid: %s", error)
        return Probe(url, None, token)
    return Probe(url, path, token)


def _cleared(probe: Probe | None) -> None:
    if probe is not None and probe.path is not None:
        try:
            Storage(probe.url).delete([probe.path])
        except StoreError as error:  # garbage collection removes it
            _logger.debug("a probe is left behind: %s", error)


def _misfit(worker: str, url: str, sight: Sight) -> DaskflowError | None:
    shown = without_credentials(url)
    if url in sight.unshared:
        return UsageError(
            f"results are to be kept in {shown!r}, which worker {worker} does not share with this "
            "process: it does not find there what was just written; set result_storage= or "
            "DASKFLOW_RESULTS__STORAGE to a folder or a URL that both reach, such as "
            '"s3://bucket/results"'
        )
    if url in sight.unwritable:
        return StoreError(f"worker {worker} cannot keep results: {sight.unwritable[url]}")
    return None


def _writable_here(url: str) -> StoreError | None:
    """Whether this user may write to a local storage; other troubles are told by who meets them."""
    root = Storage(url).local_root if _is_probed(url) else None
    if root is None:
        return None
    there: Path = next((path for path in (root, *root.parents) if path.exists()), root)
    if os.access(there, os.W_OK | os.X_OK):
        return None
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))
    return StoreError(
        f"results are to be kept in {str(root)!r}, and this user may not write there ({refused}); "
        "change the permissions or name another storage (result_storage=)"
    )
