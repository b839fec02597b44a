"""What a terminal shows while a sweep runs, in as much detail as it has columns and lines for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from optuna.trial import FrozenTrial
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lander.terminal import LABEL, printable
from sweeps.endings import ending
from sweeps.schema import Ending
from sweeps.scores import last_return
from sweeps.study.space import brief, field_values
from sweeps.study.study import Study

BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII: Final = "_.-=+*#@"
"""The same eight heights on a terminal that has no others."""
HISTORY: Final = 40
"""Columns of the history, at most."""
BAR: Final = 80
OTHER_LINES: Final = 16
"""Lines of a frame without its last trials, and of what a sweep prints before it."""
FEWEST: Final = 2
"""How many of the last trials are shown in any case; more as lines allow, up to the next number."""
MOST: Final = 20
WIDTHS: Final = (7, 10, 9, 12)
"""Columns of the last trials' table, before their parameters."""
STYLES: Final[Mapping[Ending, str]] = {
    Ending.RUNNING: "cyan",
    Ending.FINISHED: "green",
    Ending.PRUNED: "yellow",
    Ending.FAILED: "red",
    Ending.EXPIRED: "yellow",
}


@dataclass(frozen=True)
class Frame:
    """A sweep at one look, for `rich` to render."""

    study: Study
    done: int
    total: int
    summary: Mapping[str, str]
    """The parts of a plain line."""
    base: str
    """The base with what it promised, as `summary` has the best."""
    history: Sequence[float]
    """The best score so far after each finished trial."""
    last: Sequence[FrozenTrial]
    """Trials that have started, the newest first."""
    look: str
    """How to look at the trials in MLflow."""
    flying: bool = False
    """Whether workers without a trial fly the best policies."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = Table.grid()
        rows.add_column(width=LABEL, style="bold")
        rows.add_column(width=options.max_width - LABEL, no_wrap=True, overflow="ellipsis")
        for label, value in self._rows(options):
            rows.add_row(label, value)
        yield rows
        shown = min(MOST, max(FEWEST, console.height - OTHER_LINES))
        if self.last:
            yield Text()
            yield self._trials(self.last[:shown], width=options.max_width)

    def _rows(self, options: ConsoleOptions) -> Iterator[tuple[str, Table | Text]]:
        yield "progress", self._bar(width=options.max_width - LABEL)
        yield "trials", self._counts()
        yield "best", Text(self.summary["best"], style="green")
        yield "defaults" if not self.study.points else "first", Text(self.base)
        if len(self.history) > 1:
            yield "history", self._history(ascii_only=options.ascii_only)
        if self.look:
            yield "look", Text(self.look)
        if self.flying and self.done == self.total:
            yield "now", Text("flying the best policies on fresh episodes")

    def _bar(self, *, width: int) -> Table:
        """The bar, and behind it how much is done and how long that took and the rest takes."""
        left = "" if self.summary["ETA"] == "-" else f", {self.summary['ETA']} left"
        share = self.done / max(1, self.total)
        text = f" {self.done} of {self.total}, {share:.0%}  {self.summary['elapsed']}{left}"
        grid = Table.grid()
        columns = min(BAR, max(5, width - len(text)))
        bar = ProgressBar(self.total, self.done, width=columns, complete_style="cyan")
        grid.add_row(bar, Text(text))
        return grid

    def _counts(self) -> Text:
        parts = Text(", ").join(
            Text(f"{self.summary[how]} {how}", style=style if self.summary[how] != "0" else "dim")
            for how, style in STYLES.items()
            if how in self.summary
        )
        rate = self.summary["steps/s"]
        return parts if rate == "-" else parts.append(f"; {rate} steps/s")

    def _history(self, *, ascii_only: bool) -> Text:
        line = sparkline(self.history, levels=ASCII if ascii_only else BLOCKS)
        first, last = self.history[0], self.history[-1]
        return Text(line, style="cyan").append(f" best score {first:.1f} to {last:.1f}", "default")

    def _trials(self, trials: Sequence[FrozenTrial], *, width: int) -> Table:
        """The last trials, with as many of their parameters as fit."""
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("trial", width=WIDTHS[0])
        table.add_column("state", width=WIDTHS[1])
        table.add_column("return", width=WIDTHS[2], justify="right")
        table.add_column("checkpoint", width=WIDTHS[3])
        names = [name.rpartition(".")[2] for name in self.study.space]
        fitting, used = 0, sum(WIDTHS) + 2 * len(WIDTHS)
        for name in names:
            used += max(len(name), 9) + 2
            fitting += used <= width
        for name in names[:fitting]:
            table.add_column(printable(name), min_width=9, no_wrap=True)
        for trial in trials:
            how, values = ending(trial), field_values(trial.params, self.study.space)
            table.add_row(
                str(trial.number),
                Text(how.value, style=STYLES.get(how, "")),
                return_of(trial),
                f"{max(trial.intermediate_values, default=0)} of {self.study.reports}",
                *(Text(brief(values.get(name))) for name in list(self.study.space)[:fitting]),
            )
        return table


def sparkline(values: Sequence[float], *, levels: str, width: int = HISTORY) -> str:
    """Values as heights of blocks; of too many the last of each group.

    >>> sparkline([0, 1, 2, 7], levels=ASCII)
    '_.-@'
    >>> sparkline([0, 1, 2, 7], levels=ASCII, width=2)
    '_@'
    """
    groups = min(width, len(values))
    shown = [values[(group + 1) * len(values) // groups - 1] for group in range(groups)]
    low, high = min(shown), max(shown)
    step = (high - low) / (len(levels) - 1) or 1.0
    return "".join(levels[round((value - low) / step)] for value in shown)


def return_of(trial: FrozenTrial) -> str:
    """The return of a trial as far as it is known."""
    value = last_return(trial)
    if value is None and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return "-" if value is None else f"{value:.1f}"
