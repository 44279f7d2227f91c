"""The command line: ``python -m benchmarks list | run | compare | table | report | simulate``.

stdout is tables, stderr is progress.  Exit codes: 0 measured (and within budget), 1 a budget was
missed or a contender gave a wrong value, 2 usage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.budgets import check, load_budgets
from benchmarks.cases import TITLES, make_cases, selected
from benchmarks.goals import goals_table
from benchmarks.harness import WrongValue, run_case
from benchmarks.journal import append, describe_setting, extend, read
from benchmarks.peers.comparing import COMPARED, compared_cases, peer_version
from benchmarks.peers.environments import PEERS, PeerMissing, default_cache, environment_of
from benchmarks.results import summaries
from benchmarks.simulation import simulate
from benchmarks.simulation_report import (
    picture,
    read_simulations,
    simulation_json,
    simulation_table,
)
from benchmarks.tables import results_table, setting_line, verdict_table

FULL_ROUNDS, QUICK_ROUNDS, COMPARED_ROUNDS = 5, 3, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, call, return the exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "list":
        return _list()
    if options.command == "simulate":
        return _simulate(options)
    try:
        if options.command in ("report", "table"):
            return _show(options)
        return _compare(options) if options.command == "compare" else _run(options)
    except WrongValue as error:
        print(f"wrong value: {error}", file=sys.stderr)
        return 1


def _list() -> int:
    for name, title in TITLES.items():
        print(f"{name:15}  {title}")
    return 0


def _show(options: argparse.Namespace) -> int:
    """Print what files of results say, or write it as a page with pictures."""
    try:
        runs = [run for path in options.files for run in read(path)]
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.command == "table":
        print(goals_table(runs))
        return 0
    for run in runs:
        print(f"{setting_line(run.setting)}\n\n{results_table(summaries(run.measurements))}\n")
    if options.html:
        from benchmarks.page import write_page  # bokeh: 0.6 s that only a page needs

        print(f"pictures: {write_page(runs, options.html)}", file=sys.stderr)
    return 0


def _compare(options: argparse.Namespace) -> int:
    """Make the environments of the peers and run them in turns with plain Dask and daskflow."""
    pythons = {}
    for name in options.peers:
        try:
            pythons[name] = environment_of(name, options.cache, progress=_progress)
        except PeerMissing as error:
            print(error, file=sys.stderr)
            return 1
    setting = describe_setting(quick=False, rounds=options.rounds)
    for name, python in pythons.items():
        setting.versions[name] = peer_version(python, PEERS[name].package)
    names = [case for case in COMPARED if not options.cases or case in options.cases]
    measured = []
    if options.json:
        append(options.json, setting, ())
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        for case in compared_cases(names, pythons, Path(scratch), progress=_progress):
            new = run_case(case, options.rounds, progress=_progress)
            measured += new
            if options.json:
                extend(options.json, new)
    versions = ", ".join(f"{name} {setting.versions[name]}" for name in pythons)
    print(f"{setting_line(setting)}\n{versions}\n\n{results_table(summaries(measured))}")
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
    names = selected(options.cases)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else FULL_ROUNDS)
    setting = describe_setting(quick=options.quick, rounds=rounds)
    measured = []
    if options.json:
        append(options.json, setting, ())
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        for case in make_cases(
            names, Path(scratch), quick=options.quick, controls_only=options.controls_only
        ):
            new = run_case(case, rounds, progress=_progress)
            measured += new
            if options.json:
                extend(options.json, new)  # case by case: a long run may be cut short
    done = summaries(measured)
    print(f"{setting_line(setting)}\n\n{results_table(done)}")
    if not options.check:
        return 0
    verdicts = check(load_budgets(), done, quick=options.quick)
    print(f"\n{verdict_table(verdicts)}")
    missed = [f"{v.budget.case} ({v.budget.figure})" for v in verdicts if not v.met]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _known_case(text: str) -> str:
    if not selected([text]):
        raise argparse.ArgumentTypeError(f"no case {text!r}; `list` shows them")
    return text


def _known_peers(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := set(names) - set(PEERS):
        known = ", ".join(PEERS)
        raise argparse.ArgumentTypeError(f"no peer {', '.join(sorted(unknown))}; there are {known}")
    return names


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
    compare = commands.add_parser("compare", help="measure other engines beside us")
    compare.add_argument(
        "cases", nargs="*", choices=[*COMPARED, []], metavar="CASE", help="default: all of them"
    )
    compare.add_argument("--peers", type=_known_peers, required=True, help=", ".join(PEERS))
    compare.add_argument("--rounds", type=_positive, default=COMPARED_ROUNDS)
    compare.add_argument("--json", type=Path, metavar="FILE", help="append results as JSON lines")
    compare.add_argument(
        "--cache", type=Path, metavar="FOLDER", default=default_cache(), help="for environments"
    )
    table = commands.add_parser("table", help="print goals and figures as Markdown")
    report = commands.add_parser("report", help="print the tables of --json files, draw pictures")
    report.add_argument("--html", type=Path, metavar="FILE", help="write one page with pictures")
    for reader in (table, report):
        reader.add_argument("files", nargs="+", type=Path, metavar="FILE")
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
