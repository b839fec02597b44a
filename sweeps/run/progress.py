"""Shows the progress of a sweep: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from optuna.trial import FrozenTrial
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from lander.terminal import unfiltered
from sweeps.endings import SETTLED, ending
from sweeps.schema import Ending
from sweeps.scores import best_expected, promise

PLAIN_SECONDS = 15.0
"""Between two plain lines."""


class ProgressTable:
    """Prints how many trials have ended, and how, the best score, the speed and the time left.

    The supervisor calls `update` with the counted trials at each of its looks.
    """

    def __init__(self, *, trials: int, reports: int, steps: int) -> None:
        self._total = trials
        self._reports = reports
        self._steps = steps
        self._console = Console(file=unfiltered(sys.stdout))
        self._live = Live(console=self._console, auto_refresh=False)
        self._started = time.monotonic()
        self._first_steps: float | None = None
        self._printed = float("-inf")
        self._ranked, self._best = 0, "-"

    def __enter__(self) -> ProgressTable:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Show the trials as they are now."""
        summary = self.summary(trials)
        if self._console.is_terminal:
            table = Table(*summary, box=None, pad_edge=False)
            table.add_row(*summary.values())
            grid = Table.grid()
            done = sum(ending(trial) in SETTLED for trial in trials)
            grid.add_row(ProgressBar(total=self._total, completed=done, width=60))
            grid.add_row(table)
            self._live.update(grid, refresh=True)
        elif time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            print("  ".join(f"{name} {value}" for name, value in summary.items()), flush=True)

    def summary(self, trials: Sequence[FrozenTrial]) -> dict[str, str]:
        """The columns of the table: title -> text."""
        count = Counter(map(ending, trials))
        done = sum(count[how] for how in SETTLED)
        steps = sum(self.trained(trial) for trial in trials)
        if self._first_steps is None:
            self._first_steps = steps
        elapsed = time.monotonic() - self._started
        rate = (steps - self._first_steps) / elapsed if elapsed > 0 else 0.0
        if count[Ending.FINISHED] != self._ranked:  # ranking thousands takes a tenth of a second
            self._ranked, best = count[Ending.FINISHED], best_expected(trials)
            self._best = "-"
            if best is not None:
                self._best = promise(best.trial.number, best.likely)
        return {
            **{how.value: str(count[how]) for how in (Ending.RUNNING, *SETTLED)},
            "of": str(self._total),
            "best": self._best,
            "steps/s": f"{rate:,.0f}" if rate else "-",
            "ETA": self.eta(trials, done=done, rate=rate),
        }

    def eta(self, trials: Sequence[FrozenTrial], *, done: int, rate: float) -> str:
        """The time left if the remaining trials train for as long as the ended ones did.

        Before one has ended: if none of them is pruned.
        """
        if not rate:
            return "-"
        settled = [trial for trial in trials if ending(trial) in SETTLED]
        per_trial = sum(map(self.trained, settled)) / done if done else self._steps
        running = sum(self.trained(t) for t in trials if ending(t) == Ending.RUNNING)
        left = max(0.0, (self._total - done) * per_trial - running)
        return clock(left / rate)

    def trained(self, trial: FrozenTrial) -> float:
        """Environment steps that a trial has trained for, by its last report."""
        return self._steps * max(trial.intermediate_values, default=0) / self._reports


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour up."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
