"""The command line: ``python -m benchmarks list | run | report | simulate``.

stdout is tables, stderr is progress.  Exit codes: 0 measured (and within budget), 1 a budget was
missed or a contender gave a wrong value, 2 usage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.budgets import check, load_budgets
from benchmarks.cold import TITLES, cold_cases
from benchmarks.cpu import Meter
from benchmarks.engines import DaskflowEngine, Engine, RawDask, local_cluster
from benchmarks.harness import Case, WrongValue, engine_case, run_case
from benchmarks.journal import append, describe_setting, read
from benchmarks.results import summaries
from benchmarks.simulation import simulate
from benchmarks.simulation_report import (
    picture,
    read_simulations,
    simulation_json,
    simulation_table,
)
from benchmarks.tables import results_table, setting_line, verdict_table
from benchmarks.workloads import WORKLOADS, Workload

FULL_ROUNDS, QUICK_ROUNDS = 5, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, call, return the exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "list":
        return _list()
    if options.command == "report":
        return _report(options.file)
    if options.command == "simulate":
        return _simulate(options)
    try:
        return _run(options)
    except WrongValue as error:
        print(f"wrong value: {error}", file=sys.stderr)
        return 1


def _list() -> int:
    for workload in WORKLOADS:
        sizes = f"n={workload.size:,}, quick {workload.quick_size:,}"
        print(f"{workload.name:10}  {workload.title} ({sizes})")
    for name, title in TITLES.items():
        print(f"{name:10}  {title}")
    return 0


def _report(path: Path) -> int:
    try:
        runs = read(path)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for run in runs:
        print(f"{setting_line(run.setting)}\n\n{results_table(summaries(run.measurements))}\n")
    return 0


def _simulate(options: argparse.Namespace) -> int:
    losses = options.losses / 100
    done = [
        simulate(runs, options.workers, losses, options.seed) for runs in options.runs or [100_000]
    ]
    if options.json:
        with options.json.open("a") as file:
            file.writelines(f"{simulation_json(each)}\n" for each in done)
        done = read_simulations(options.json)
    if options.picture:
        options.picture.write_text(picture(done))
    print(simulation_table(done))
    return 0


def _run(options: argparse.Namespace) -> int:
    names = _selected(options.cases)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else FULL_ROUNDS)
    setting = describe_setting(quick=options.quick, rounds=rounds)
    measured = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        for case in _cases(names, scratch, options, stack):
            measured += run_case(case, rounds, progress=_progress)
    done = summaries(measured)
    if options.json:
        append(options.json, setting, measured)
    print(f"{setting_line(setting)}\n\n{results_table(done)}")
    if not options.check:
        return 0
    verdicts = check(load_budgets(), done, quick=options.quick)
    print(f"\n{verdict_table(verdicts)}")
    missed = [f"{v.budget.case} ({v.budget.figure})" for v in verdicts if not v.met]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _cases(
    names: Sequence[str], scratch: Path, options: argparse.Namespace, stack: ExitStack
) -> Iterator[Case]:
    """Yield the chosen cases; cold ones first, while no cluster is running beside them."""
    cold = cold_cases(scratch, controls_only=options.controls_only)
    yield from (case for case in cold if case.name in names)
    chosen = [workload for workload in WORKLOADS if workload.name in names]
    if chosen:
        yield from _warm_cases(chosen, scratch, options, stack)


def _warm_cases(
    workloads: Sequence[Workload], scratch: Path, options: argparse.Namespace, stack: ExitStack
) -> Iterator[Case]:
    client = stack.enter_context(local_cluster(scratch / "cluster"))
    workers = client.run(_pid).values()
    engines: list[Engine] = [RawDask(client)]
    if not options.controls_only:
        engines += [
            DaskflowEngine(client.cluster, scratch / "home", record=True),
            DaskflowEngine(client.cluster, scratch / "home", record=False),
        ]
    meter = Meter(set(workers))
    for workload in workloads:
        yield engine_case(workload, engines, meter, quick=options.quick)


def _pid() -> int:
    import os  # runs on a worker, pickled by value with nothing of this module

    return os.getpid()


def _selected(wanted: Sequence[str]) -> list[str]:
    names = [*(workload.name for workload in WORKLOADS), *TITLES]
    if not wanted:
        return names
    return [name for name in names if any(name == w or name.startswith(f"{w}.") for w in wanted)]


def _known_case(text: str) -> str:
    if not _selected([text]):
        raise argparse.ArgumentTypeError(f"no case {text!r}; `list` shows them")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="daskflow against plain Dask, in the same run."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show the cases")
    run = commands.add_parser("run", help="measure")
    run.add_argument(
        "cases", nargs="*", type=_known_case, metavar="CASE", help="W1, W1.map, …; default: all"
    )
    run.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds")
    run.add_argument("--check", action="store_true", help="exit 1 when a budget is missed")
    run.add_argument(
        "--rounds", type=_positive, help=f"default {FULL_ROUNDS}, quick {QUICK_ROUNDS}"
    )
    run.add_argument("--json", type=Path, metavar="FILE", help="append results as JSON lines")
    run.add_argument("--controls-only", action="store_true", help="measure only what we compare to")
    report = commands.add_parser("report", help="print the tables of a --json file")
    report.add_argument("file", type=Path, metavar="FILE")
    simulation = commands.add_parser("simulate", help="the driver under a simulated cluster")
    simulation.add_argument(
        "--runs", type=_positive, action="append", metavar="N", help="default 100000; repeatable"
    )
    simulation.add_argument("--workers", type=_positive, default=1_000, metavar="N")
    simulation.add_argument(
        "--losses", type=float, default=2.0, metavar="PERCENT", help="workers lost a minute"
    )
    simulation.add_argument("--seed", type=int, default=0)
    simulation.add_argument("--json", type=Path, metavar="FILE", help="append, and show all of it")
    simulation.add_argument("--picture", type=Path, metavar="FILE", help="write an SVG")
    return parser


if __name__ == "__main__":
    sys.exit(main())
