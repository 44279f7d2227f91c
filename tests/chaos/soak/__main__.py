"""``python -m tests.chaos.soak --minutes 30 --seed N``; see `tests/README.md`."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.soak.campaign import Campaign, Outcome

_FIGURES = "executions Completed Cached Failed Crashed NotReady Cancelled committed resumed".split()


def main() -> int:
    """Run the soak and return the exit code: 1 when an invariant was broken."""
    options = _options()
    # a shell's background jobs ignore Ctrl-C, and so would the flows
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=options.folder))
    began = time.monotonic()
    campaign = Campaign(options.seed, folder, options.size, _say)
    _say(f"seed {options.seed}, {options.minutes:g} minutes, in {folder}")
    totals: Counter[str] = Counter()
    broken: list[Outcome] = []
    numbers = options.flow or range(10**9)
    try:
        for number in numbers:
            if time.monotonic() - began > 60 * options.minutes:
                break
            outcome = campaign.flow(number)
            totals += outcome.figures + Counter(flows=1)
            totals += Counter(said.split(": ")[1].split()[0] for said in outcome.faults)
            _tell(outcome, options)
            if outcome.violations:
                broken.append(outcome)
                if not options.go_on:
                    break
    except KeyboardInterrupt:
        _say("interrupted: these are the figures so far")
    finally:
        campaign.close()
        if not (options.keep or broken):
            shutil.rmtree(folder, ignore_errors=True)
    took = time.monotonic() - began
    found = sum(len(each.violations) for each in broken)
    summary = {"seed": options.seed, "seconds": round(took), "violations": found, **totals}
    if options.json:
        print(json.dumps(summary))
    else:
        print(", ".join(f"{name} {count}" for name, count in summary.items()))
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default 30)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--size", type=int, default=1000, help="of the largest flow")
    parser.add_argument("--flow", type=int, nargs="+", help="only the flows of these numbers")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on stdout")
    parser.add_argument("--keep", action="store_true", help="remove no folder at the end")
    parser.add_argument("--go-on", action="store_true", help="do not stop at a violation")
    parser.add_argument("--folder", help="where to work (default: the place of temporary files)")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _tell(outcome: Outcome, options: argparse.Namespace) -> None:
    plan = outcome.plan
    figures = ", ".join(f"{n} {outcome.figures[n]}" for n in _FIGURES if outcome.figures[n])
    _say(f"flow {plan.number} on {plan.place}: {outcome.took_s:.0f} s, {figures}")
    _say(f"    faults: {'; '.join(outcome.faults) or 'none'}")
    for text in outcome.violations[:20]:
        _say(f"    VIOLATION {text}")
    if outcome.violations:
        _say(
            f"    {len(outcome.violations)} in all; its folder is {outcome.folder}; to do it "
            f"again: python -m tests.chaos.soak --seed {options.seed} --size {options.size} "
            f"--flow {plan.number}"
        )


if __name__ == "__main__":
    sys.exit(main())
