"""The descriptions that MLflow's UI shows of a sweep and of each of its trials, as Markdown.

The first line says the result: the UI shows no more of a sweep's until a reader unfolds it.
Pictures are artifacts, at addresses relative to the UI, so that they show wherever it is served.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from optuna.trial import FrozenTrial

from sweeps.endings import SUPERSEDING, ending, why
from sweeps.health.record import Health
from sweeps.hints import hint
from sweeps.publish.markdown import line, plain_table, table
from sweeps.schema import (
    BEST_ALIAS,
    BEST_GIF,
    CONFIRMATION,
    FORK,
    GIVEN,
    LANDING_GIF,
    POINT,
    PRUNED_AT,
    RANK,
    RUN_ID,
    SCORE,
    SEED_INDEX,
    Chart,
    Ending,
)
from sweeps.scores import Ranked, base_among, expected, last_return, parameters, promise, violated
from sweeps.store.best_policy import recorded_policy
from sweeps.store.trials import Trials
from sweeps.study.audit import audit_of
from sweeps.study.cost import steps_in_words
from sweeps.study.study import FIRST_CHOICE, FIRST_REPORT, Study, candidate_name
from sweeps.sweep import Sweep


@dataclass(frozen=True)
class Leaderboard:
    """How the finished trials of a sweep stand at one moment."""

    trials: Trials

    @cached_property
    def rows(self) -> list[Ranked]:
        """The best first; of trials with the same parameters only the last."""
        return expected(self.trials.all)

    @cached_property
    def base(self) -> Ranked | None:
        """What the base had, once it has finished."""
        return base_among(self.trials.all, self.rows)

    @property
    def best_recorded(self) -> Ranked | None:
        """The best trial that has a run in MLflow; a trial that another tool added has none."""
        return next((one for one in self.rows if RUN_ID in one.trial.user_attrs), None)

    def rank(self, trial: FrozenTrial) -> int:
        """Where the parameters of a finished trial stand, from 1."""
        return self._ranks[parameters(trial)]

    def row(self, trial: FrozenTrial) -> Ranked:
        """What the parameters of a finished trial had."""
        return self.rows[self.rank(trial) - 1]

    @cached_property
    def _ranks(self) -> dict[tuple[tuple[str, object], ...], int]:
        return {parameters(one.trial): rank for rank, one in enumerate(self.rows, 1)}


def sweep_note(sweep: Sweep, board: Leaderboard, health: Health | None = None) -> str:
    """The description of a sweep's run and of its experiment."""
    return "\n\n".join(sweep_parts(sweep, board, health))


def sweep_parts(sweep: Sweep, board: Leaderboard, health: Health | None) -> Iterator[str]:
    """Its paragraphs: result, flights and history, what was searched, what it says about itself,
    what to do next."""
    name, folder = sweep.study.name, sweep.store.folder
    yield result(sweep, board)
    if board.best_recorded is not None:
        yield flights(sweep, board)
        yield picture("score by trial", sweep.run_id, f"{Chart.HISTORY}.png")
    yield searched_space(sweep.study, board.trials)
    fork = sweep.optuna.user_attrs.get(FORK)
    if fork is not None:
        yield (
            f"A fork: {fork['copied']} of its trials are copies of those of `{fork['sweep']}`, "
            "trained there alone; their runs are in that experiment."
        )
    if health is not None and board.rows:
        yield health_lines(sweep, health)
    audit = audit_of(board.trials.all, reports=sweep.study.reports)
    if audit.pruned or audit.audited:
        yield f"Pruner: {audit}."
    policy = recorded_policy(sweep.optuna)
    if policy is not None:
        loaded = f'mlflow.pytorch.load_model("models:/{name}@{BEST_ALIAS}")'
        yield f"Best policy: {policy}: `{loaded}`"
    if board.rows:
        yield (
            "The best of many scores is a lucky one; what to expect is the mean under fresh "
            "training seeds, with its standard error. To measure it: "
            f"`{hint('confirm', folder, study=name)}`"
        )
        yield f"Reproduce it bit for bit: `{hint('reproduce', folder, study=name, trial='best')}`"
        yield f"Its config: `{hint('export', folder, study=name, trial='best')}`"


def result(sweep: Sweep, board: Leaderboard) -> str:
    """The first line: the verdict of the confirmation, else what the sweep itself can say."""
    name, best = sweep.study.name, board.best_recorded or next(iter(board.rows), None)
    if best is None:
        return f"**{name}: no trial has finished yet.**"
    verdict = sweep.optuna.user_attrs.get(CONFIRMATION)
    text = f"{name}: {promise(best.trial.number, best.likely)}"
    base = board.base
    if base is not None and base.trial.number != best.trial.number:
        text += f"; the base: promised {base.likely.promised:.1f}, expect {base.likely}"
    return f"**{text}.**" if verdict is None else f"**{verdict}** {text}."


def flights(sweep: Sweep, board: Leaderboard) -> str:
    """A landing of the best policy, beside one of the base."""
    policy, base = recorded_policy(sweep.optuna), board.base
    heads = ["best policy" if policy is None else f"best policy: {policy.name}"]
    cells = [picture("best policy", sweep.run_id, BEST_GIF)]
    if base is not None and RUN_ID in base.trial.user_attrs:
        heads.append(f"the base: trial {base.trial.number}")
        cells.append(picture("the base", str(base.trial.user_attrs[RUN_ID]), LANDING_GIF))
    return table([heads, cells])


def searched_space(study: Study, trials: Trials) -> str:
    """What was searched, and how long each trial trains."""
    how = "of points that differ in" if study.has_points else "searching"
    fields = ", ".join(f"`{field}`" for field in study.space)
    return (
        f"PPO on `{study.base.env.id}`, {trials.total} trials of {steps_in_words(study)}, {how} "
        f"{fields}."
    )


def health_lines(sweep: Sweep, health: Health) -> str:
    """What a sweep says about itself, in short."""
    if not health.findings:
        return line(f"Health: {health.state}.")
    command = hint("health", sweep.store.folder, study=sweep.study.name)
    sentences = [f"- {line(finding.sentence)}" for finding in health.findings]
    return "\n".join([f"Health: {health.state}; numbers and remedies: `{command}`\n", *sentences])


def trial_note(sweep: Sweep, board: Leaderboard | None, trial: FrozenTrial) -> str:
    """The description of an ended trial's run; without a `board` only what no other trial changes.

    A trial that MLflow has no run for yet has no picture.
    """
    name, folder = sweep.study.name, sweep.store.folder
    parts = [unfinished(sweep.study, trial)]
    if ending(trial) == Ending.FINISHED:
        parts = [finished(sweep.study, board, trial)]
    if RUN_ID in trial.user_attrs and (ending(trial) == Ending.FINISHED or filmed_early(trial)):
        run_id = str(trial.user_attrs[RUN_ID])
        shown = "where it was pruned" if filmed_early(trial) else "the first final episode"
        parts.append(picture(shown, run_id, LANDING_GIF))
    if GIVEN in trial.user_attrs:
        parts.append("Queued by hand: its values were given, not proposed.")
    parts.append(comparison(sweep.study, board, trial))
    if ending(trial) not in SUPERSEDING:
        again = hint("reproduce", folder, study=name, trial=trial.number)
        parts += [
            f"Retrain it and compare bit for bit: `{again}`",
            f"Its config: `{hint('export', folder, study=name, trial=trial.number)}`",
        ]
    return "\n\n".join(parts)


def filmed_early(trial: FrozenTrial) -> bool:
    """Whether a pruned trial has a film, unlike one of an earlier version."""
    return ending(trial) == Ending.PRUNED and PRUNED_AT in trial.user_attrs


def finished(study: Study, board: Leaderboard | None, trial: FrozenTrial) -> str:
    """What a finished trial promises, and where it stands; without a `board` its score."""
    if board is None:
        return f"**{name_of(study, trial)}: score {trial.values[0]:.1f}{violations(trial)}.**"
    text = promise(trial.number, board.row(trial).likely) + violations(trial)
    return f"**{text[0].upper()}{text[1:]}; rank {board.rank(trial)} of {len(board.rows)}.**"


def violations(trial: FrozenTrial) -> str:
    """The constraints that a finished trial does not keep, to end a sentence about it."""
    names = ", ".join(violated(trial))
    return f"; violates {names}" if names else ""


def name_of(study: Study, trial: FrozenTrial) -> str:
    """A trial at the start of a sentence; that of a confirmation with its candidate and seed."""
    name = f"Trial {trial.number}"
    if not study.confirms:
        return name
    index, kind = int(trial.user_attrs[SEED_INDEX]), "seed"  # of an earlier version
    for first, named in ((FIRST_REPORT, "report seed"), (FIRST_CHOICE, "choice seed")):
        if index >= first:
            index, kind = index - first, named
            break
    return f"{name}, {candidate_name(trial.user_attrs[POINT])} under {kind} {index + 1}"


def unfinished(study: Study, trial: FrozenTrial) -> str:
    """How a trial without a score ended."""
    how, so_far = ending(trial), last_return(trial)
    text = f"{name_of(study, trial)}: {how}"
    if how in (Ending.PRUNED, Ending.EXPIRED) and so_far is not None:
        report = max(trial.intermediate_values, default=0)
        text += f" at report {report} of {study.reports}, return so far {so_far:.1f}"
    if how in (Ending.FAILED, Ending.EXPIRED, Ending.RETRIED):
        text += f": {why(trial)}"
    if how in SUPERSEDING:
        text += "; another trial retries it"
    return f"**{line(text)}.**"


def comparison(study: Study, board: Leaderboard | None, trial: FrozenTrial) -> str:
    """A trial, and beside a finished one the base: what they returned, and their parameters."""
    base = board.base if board is not None and ending(trial) == Ending.FINISHED else None
    others = [] if base is None or parameters(base.trial) == parameters(trial) else [base.trial]
    columns = [facts(study, board, one) for one in (trial, *others)]
    heads = ["", f"trial {trial.number}", *(f"the base: trial {one.number}" for one in others)]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    return plain_table([heads, *rows])


def facts(study: Study, board: Leaderboard | None, trial: FrozenTrial) -> dict[str, str]:
    """A column of `comparison`; a field without an effect in the trial is left out."""
    values = dict[str, str]()
    if ending(trial) == Ending.FINISHED and board is None:
        values[SCORE] = f"{trial.values[0]:.1f}"
    elif ending(trial) == Ending.FINISHED and board is not None:
        last, likely = board.row(trial)
        values = {
            RANK: str(board.rank(trial)),
            "expected return": str(likely),
            "promised return": f"{likely.promised:.1f}",
            SCORE: f"{last.values[0]:.1f}",
        }
    if study.has_points and not study.confirms:
        values["point"] = str(trial.user_attrs.get(POINT))
    for field, range_ in study.space.items():
        if range_.parameter in trial.params:
            values[f"`{field}`"] = digits(range_.to_field(trial.params[range_.parameter]))
    return values


def digits(value: Any) -> str:
    """A value of a field, with four digits if it is no whole number."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def picture(alt: str, run_id: str, artifact: str) -> str:
    """An artifact of a run, shown inline."""
    return f"![{alt}]({artifact_address(run_id, artifact)})"


def artifact_address(run_id: str, artifact: str) -> str:
    """Its address, relative to the UI."""
    return f"get-artifact?{urlencode({'path': artifact, 'run_uuid': run_id})}"
