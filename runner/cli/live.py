"""The live block of `daskflow run` on a terminal: per task a bar, what went wrong, the rate.

Loads rich, so only a terminal imports it.  Drawn when fed, never by a timer of its own.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from daskflow.runner.cli.progress import StageProgress, merge_stages
from daskflow.runner.cli.text import duration, one_line

__all__ = ["LiveView", "Rate"]

_WINDOW_S = 5.0


class Rate:
    """Runs a second over the last five seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def observe(self, now: float, ended: int) -> None:
        """Note that `ended` runs had ended at `now`."""
        self._seen.append((now, ended))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """The rate between the oldest and the newest observation; 0 before there are two."""
        if len(self._seen) < 2:
            return 0.0
        (then, before), (now, after) = self._seen[0], self._seen[-1]
        return (after - before) / (now - then) if now > then else 0.0


class LiveView:
    """One block at the bottom of the terminal that follows the flow; stays when it is closed."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._stages: dict[str, StageProgress] = {}
        self._rates: dict[str, Rate] = {}
        self._live = Live(
            console=console,
            auto_refresh=False,
            vertical_overflow="crop",
            # prints of the flow go above the block; a stdout that is piped must stay a pipe
            redirect_stdout=sys.stdout.isatty(),
        )
        self._live.start()

    def update(self, stages: Sequence[StageProgress]) -> None:
        """Draw these figures."""
        now = self._clock()
        for stage in merge_stages(stages):
            self._stages[stage.task] = stage
            self._rates.setdefault(stage.task, Rate()).observe(now, stage.ended)
        self._live.update(self.table(), refresh=True)

    def close(self) -> None:
        """Leave the last figures on the screen and give the terminal back."""
        self._live.stop()

    def table(self) -> Table:
        """Return the block as it would be drawn now."""
        table = Table.grid(padding=(0, 1))
        shown, hidden = self._that_fit()
        if not shown:
            table.add_row(Text("waiting for the cluster …", style="dim"))
        for stage in shown:
            table.add_row(*self._cells(stage))
        if hidden:
            table.add_row(Text(f"… and {hidden} more", style="dim"))
        return table

    def _that_fit(self) -> tuple[list[StageProgress], int]:
        room = max(self._console.height - 3, 1)
        stages = [stage for stage in self._stages.values() if stage.total]
        if len(stages) <= room:
            return stages, 0
        # what is under way is what a person waits for; the order of the flow is kept
        newest = sorted(stages, key=lambda s: s.ended < s.total)[-room:]
        names = {stage.task for stage in newest}
        return [stage for stage in stages if stage.task in names], len(stages) - room

    def _cells(self, stage: StageProgress) -> tuple[Text | ProgressBar, ...]:
        rate = self._rates[stage.task].per_second
        left = stage.total - stage.ended
        notes = [(f"{stage.failed:,} failed", "red", stage.failed)]
        notes.append((f"{stage.not_run:,} not run", "yellow", stage.not_run))
        notes.append((f"{stage.cached:,} cached", "cyan", stage.cached))
        notes.append((f"{stage.retries:,} retried", "yellow", stage.retries))
        notes.append((f"{stage.running:,} running", "blue", stage.running))
        said = Text(" · ").join(Text(text, style=style) for text, style, count in notes if count)
        # of a few runs that are over, a rate says nothing
        pace = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate and left else ""
        return (
            Text(one_line(stage.task, 30)),
            ProgressBar(
                total=max(stage.total, 1),
                completed=stage.ended,
                width=24,
                complete_style="red" if stage.failed else "green",
                finished_style="red" if stage.failed else "green",
            ),
            Text(f"{stage.ended:,}/{stage.total:,}"),
            Text(pace, style="dim"),
            Text(f"{duration(left / rate)} left" if rate and left else "", style="dim"),
            said,
        )
