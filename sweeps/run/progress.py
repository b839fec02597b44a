"""Shows the progress of a sweep: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType

from optuna.trial import FrozenTrial
from rich.console import Console
from rich.live import Live

from lander.terminal import unfiltered
from sweeps.endings import SETTLED, SUPERSEDING, USUAL, ending, started
from sweeps.publish.best_policy import compares_policies
from sweeps.run.live import Frame
from sweeps.schema import POINT, Ending
from sweeps.scores import Ranked, base_among, best_so_far, expected, promise
from sweeps.study.cost import planned_steps
from sweeps.study.study import Study, candidate_name
from sweeps.study.timing import Timing, seconds_left, timing_of

PLAIN_SECONDS = 15.0
"""Between two plain lines."""


@dataclass(frozen=True)
class Ranking:
    """What the finished trials say."""

    finished: int = 0
    best: Ranked | None = None
    base: Ranked | None = None
    """What the study's base, trial 0, had."""
    history: Sequence[float] = ()
    """The best score so far after each of them."""
    times: Timing | None = None
    """How long trials take, once enough have finished."""


class ProgressTable:
    """Prints how many trials have ended, and how, the best beside the base, the last trials, the
    speed and the time left.

    The supervisor calls `update` with the counted trials at each of its looks.
    """

    def __init__(self, study: Study, *, trials: int, look: str = "") -> None:
        self._study = study
        self._total = trials
        self._look = look
        self._steps = training_steps(study)
        self._console = Console(file=unfiltered(sys.stdout))
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._started = time.monotonic()
        self._first_steps: float | None = None
        self._printed = float("-inf")
        self._ranking = Ranking()

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

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._started

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Show the trials as they are now."""
        if self._console.is_terminal:
            self._live.update(self.frame(trials), refresh=True)
        elif time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            summary = self.summary(trials)
            print("  ".join(f"{name} {value}" for name, value in summary.items()), flush=True)

    def frame(self, trials: Sequence[FrozenTrial]) -> Frame:
        """What a terminal shows."""
        summary, ranking = self.summary(trials), self._ranking
        started = [trial for trial in trials if ending(trial) != Ending.WAITING]
        return Frame(
            study=self._study,
            done=sum(ending(trial) in SETTLED for trial in trials),
            total=self._total,
            summary=summary,
            base=text_of(ranking.base),
            history=ranking.history,
            last=started[::-1],
            look=self._look,
            flying=compares_policies(self._study)
            and all(trial.state.is_finished() for trial in trials)
            and ranking.finished > 0,
        )

    def summary(self, trials: Sequence[FrozenTrial]) -> dict[str, str]:
        """The parts of a plain line: title -> text."""
        count = Counter(map(ending, trials))
        done = sum(count[how] for how in SETTLED)
        steps = sum(self.trained(trial) for trial in trials)
        if self._first_steps is None:
            self._first_steps = steps
        elapsed = self.elapsed
        rate = (steps - self._first_steps) / elapsed if elapsed > 0 else 0.0
        if count[Ending.FINISHED] != self._ranking.finished:  # thousands take a tenth of a second
            self._ranking = ranking_of(trials, self._study, finished=count[Ending.FINISHED])
        return {
            "elapsed": clock(elapsed),
            **{
                how.value: str(count[how])
                for how in (Ending.RUNNING, *SETTLED)
                if count[how] or how != Ending.EXPIRED
            },
            "of": str(self._total),
            "best": text_of(self._ranking.best),
            "steps/s": f"{rate:,.0f}" if rate else "-",
            "ETA": self.eta(trials, done=done, rate=rate),
        }

    def eta(self, trials: Sequence[FrozenTrial], *, done: int, rate: float) -> str:
        """The time left by what their parameters say, once enough trials have finished; until then
        as if the remaining ones train for as many steps as the ended ones did.

        Before one has ended: if none of them is pruned.
        """
        if not rate:
            return "-"
        now = datetime.now(UTC)
        began = {t.number: started(t) for t in trials if ending(t) == Ending.RUNNING}
        if self._ranking.times is not None and began:
            elapsed = {
                number: (now - start).total_seconds()
                for number, start in began.items()
                if start is not None
            }
            times = self._ranking.times
            left = seconds_left(times, trials, total=self._total, elapsed=elapsed)
            return clock(left / len(began))
        settled = [trial for trial in trials if ending(trial) in SETTLED]
        per_trial = sum(map(self.trained, settled)) / done if done else self._steps
        running = sum(self.trained(t) for t in trials if ending(t) == Ending.RUNNING)
        left = max(0.0, (self._total - done) * per_trial - running)
        return clock(left / rate)

    def trained(self, trial: FrozenTrial) -> float:
        """Environment steps that a trial has trained for, by its last report."""
        whole = planned_steps(trial, self._study)
        return whole * max(trial.intermediate_values, default=0) / self._study.reports


def training_steps(study: Study) -> int:
    """Environment steps of a trial that is not pruned, at most."""
    most = max(config.total_steps for config in study.configs)
    return most * study.settings.seeds_per_trial


def ranking_of(trials: Sequence[FrozenTrial], study: Study, *, finished: int) -> Ranking:
    """What some finished trials say."""
    ranks = expected(trials)
    done = [trial for trial in trials if ending(trial) == Ending.FINISHED]
    return Ranking(
        finished,
        next(iter(ranks), None),
        base_among(trials, ranks),
        best_so_far(done),
        timing_of(done, study.space),
    )


def text_of(one: Ranked | None) -> str:
    """A trial with what it promised, or a dash; in a confirmation, which is no search, a candidate
    with its mean."""
    if one is None:
        return "-"
    candidate = one.trial.user_attrs.get(POINT)
    if not isinstance(candidate, int):
        return promise(one.trial.number, one.likely)
    return f"{candidate_name(candidate)}, {one.likely.promised:.1f} of {one.likely.trainings}"


def tally(trials: Iterable[FrozenTrial]) -> str:
    """How many trials ended in each way; in an unusual way only if there are any."""
    count = Counter(map(ending, trials))
    shown = [how for how in (*SETTLED, *SUPERSEDING) if count[how] or how in USUAL]
    return ", ".join(f"{count[how]} {how}" for how in shown)


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour up."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
