"""What Optuna maximises: the score of a trial, over its trainings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import optuna
from optuna.trial import BaseTrial, TrialState

from lander.config import TrainConfig
from lander.resolve import resolve
from lander.trainer import Progress, State, TrainResult, train
from sweeps.endings import Expired
from sweeps.record.recorder import Recorder
from sweeps.run.handover import replay
from sweeps.run.training_score import training_score
from sweeps.schema import (
    AUDITED,
    OWN_SCORE,
    PRUNED_AT,
    RETRY_OF,
    RETURNS,
    SEED_INDEX,
    SEED_SCORES,
    SHOWN_SCORE,
)
from sweeps.scores import SCORES, mean, parameters, seed_scores
from sweeps.study.audit import is_audited
from sweeps.study.history import NewTrials
from sweeps.study.points import config_at
from sweeps.study.space import suggest
from sweeps.study.study import FIRST_CHOICE, FIRST_REPORT, Study


class EarlierScores:
    """Scores of finished trainings by their point or parameters; one object serves one study.

    A sampler that proposes the same parameters again gets a better estimate of their score.
    """

    def __init__(self) -> None:
        self._new = NewTrials()
        self._numbers: dict[int, tuple[int, ...]] = {}
        """Hash of the point or parameters -> numbers of the trials: much smaller than they are."""

    def of(self, trial: optuna.Trial) -> list[float]:
        """Scores of other finished trainings of the same point or parameters as a trial's, in the
        order of their trials."""
        finished = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        for new in self._new.among(finished):
            key = hash(parameters(new))
            self._numbers[key] = (*self._numbers.get(key, ()), new.number)
        ours = parameters(trial)
        numbers = self._numbers.get(hash(ours), ())
        same = [t for t in finished if t.number in numbers] if numbers else []
        return [
            score for other in same if parameters(other) == ours for score in seed_scores(other)
        ]


Claim = Callable[[int, Callable[[], None]], State | None]
"""Waits until this process is to go on with a seed, and calls a function meanwhile that may raise;
what another worker has trained under the seed, or None if it is still to be trained."""


def alone(_trial: optuna.Trial, _seeds: int) -> AbstractContextManager[Claim]:
    """The default of `share`: nobody else trains under any seed."""

    def claim(_seed: int, _check: Callable[[], None]) -> None:
        return None

    return nullcontext(claim)


@dataclass(frozen=True)
class Objective:
    """Trains the trial's configuration under each of its seeds; its score is over all trials of
    these parameters."""

    study: Study
    open_record: Callable[[optuna.Trial], AbstractContextManager[Recorder]]
    check: Callable[[], None]
    """Called after every update and during evaluations; it raises an exception to end the trial."""
    earlier: EarlierScores = field(default_factory=EarlierScores)
    share: Callable[[optuna.Trial, int], AbstractContextManager[Claim]] = alone
    """Shares so many seeds of a trial with other workers."""

    def __call__(self, trial: optuna.Trial) -> float:
        results, check = list[TrainResult](), self._limited()
        scores, seconds = list[float](), 0.0
        with self.open_record(trial) as record, ExitStack() as shared:
            configs = [resolve(config) for config in trial_configs(trial, self.study)]
            record.config(configs)
            if self.study.settings.training_score != "last":
                trial.set_user_attr(OWN_SCORE, True)
            claim = shared.enter_context(self.share(trial, len(configs)))
            for seed, config in enumerate(configs):
                earlier = [result.final.return_mean for result in results]
                steps = list[int]()
                on_update = self._hook(trial, record, earlier, steps, check=check)
                asked = time.monotonic()
                done = claim(seed, check)
                started = time.monotonic()
                if done is None:
                    results.append(train(config, on_update=on_update, check=check))
                    seconds += time.monotonic() - started
                else:
                    record.helped(done["seconds"] - (started - asked), done["cpu_seconds"])
                    results.append(replay(done, config, on_update=on_update))
                    seconds += done["seconds"]
                scores.append(training_score(results[-1], steps, self.study))
                returns = [list(result.final.returns) for result in results]
                trial.set_user_attr(RETURNS, returns)
                trial.set_user_attr(SEED_SCORES, scores)
                record.result(results[-1], seed=seed)
                if self._between_seeds:
                    first = 1 + seed * self.study.base.final_episodes
                    if self._is_behind(trial, dict(enumerate(returns[-1], first))):
                        record.pruned(results[-1].policy, results[-1].final, seed=seed)
                        raise optuna.TrialPruned
            self._constrain(trial, returns, seconds=seconds)
            score = SCORES[self.study.settings.score]([*self.earlier.of(trial), *scores])
            trial.set_user_attr(SHOWN_SCORE, score)
            record.summary(results, score=score)
        return score

    def _constrain(
        self, trial: optuna.Trial, returns: Sequence[Sequence[float]], *, seconds: float
    ) -> None:
        """Report the constraints of the study to Optuna, whose samplers then avoid what breaks
        them."""
        limits, solved = self.study.constraints, self.study.solved
        excess = limits.excess(returns, solved=solved, seconds=seconds)
        for name, value in excess.items():
            trial.set_constraint(name, value)

    @property
    def _between_seeds(self) -> bool:
        """Whether the pruner may end a trial only between trainings, not at a checkpoint."""
        return self.study.settings.pruner == "wilcoxon"

    def _limited(self) -> Callable[[], None]:
        """`check`, which for a trial that begins now also raises `Expired` once its time is up."""
        limit = self.study.settings.trial_seconds
        if limit is None:
            return self.check
        until = time.monotonic() + limit

        def check() -> None:
            self.check()
            if time.monotonic() >= until:
                raise Expired(f"longer than trial_seconds = {limit:g}")

        return check

    def _hook(
        self,
        trial: optuna.Trial,
        record: Recorder,
        earlier: Sequence[float],
        steps: list[int],
        *,
        check: Callable[[], None],
    ) -> Callable[[Progress], None]:
        """The hook of the next training, after `earlier` ones with these final returns; it adds the
        `steps` at each checkpoint."""
        seed = len(earlier)

        def on_update(progress: Progress) -> None:
            check()
            record.progress(progress, seed=seed)
            if progress.evaluation is None:
                return
            steps.append(progress.env_steps)
            if self._between_seeds:
                return
            # the checkpoint's index, not env steps: pruners compare equal steps only
            step = seed * self.study.base.checkpoints + progress.checkpoint
            value = mean([*earlier, progress.evaluation.return_mean])
            if self._is_behind(trial, {step: value}):
                record.pruned(progress.policy, progress.evaluation, seed=seed)
                raise optuna.TrialPruned

        return on_update

    def _is_behind(self, trial: optuna.Trial, values: Mapping[int, float]) -> bool:
        """Report to Optuna; whether the trial ends here, as it is behind and not audited. Its last
        values never end it."""
        for step, value in values.items():
            trial.report(value, step=step)
        if max(values) == self.study.reports or AUDITED in trial.user_attrs:
            return False
        if not trial.should_prune():
            return False
        # one that trains leaders again counts however it goes: else only good ones would
        if self.study.settings.repeat_from is not None and self.earlier.of(trial):
            return False
        audited = is_audited(self.study.settings, root_number(trial))
        trial.set_user_attr(AUDITED if audited else PRUNED_AT, max(values))
        return not audited


def trial_configs(trial: BaseTrial, study: Study) -> list[TrainConfig]:
    """The config of a trial, once for each of its training seeds."""
    if study.points:
        config = config_at(trial.params, study.space, study.base)
    else:
        config = suggest(trial, study.space, study.base)
    if study.confirms:
        index = int(trial.user_attrs[SEED_INDEX])
        chooses = FIRST_CHOICE <= index < FIRST_REPORT
        config = replace(config, final_seeds="choice" if chooses else "test")
    return [replace(config, seed=seed) for seed in trial_seeds(trial, study)]


def trial_seeds(trial: BaseTrial, study: Study) -> list[int]:
    """The training seeds of a trial; a retry has those of the first attempt.

    In a study with points: the one seed that it was given.
    """
    if study.has_points:
        return [point_seed(study, int(trial.user_attrs[SEED_INDEX]))]
    settings = study.settings
    return training_seeds(settings.seed, root_number(trial), settings.seeds_per_trial)


def root_number(trial: BaseTrial) -> int:
    """The number of the first attempt of a trial, which decides what is random about it."""
    return int(trial.user_attrs.get(RETRY_OF, trial.number))


def point_seed(study: Study, index: int) -> int:
    """The training seed of that index in a study with points."""
    seeds = study.settings.training_seeds
    return confirmation_seed(study.settings.seed, index) if isinstance(seeds, int) else seeds[index]


def training_seeds(study_seed: int, number: int, count: int = 1) -> list[int]:
    """Training seeds of a trial in a search, below 2^31."""
    words = np.random.SeedSequence((study_seed, number)).generate_state(count)
    return [int(word >> 1) for word in words]


def confirmation_seed(study_seed: int, index: int) -> int:
    """A seed for points, from 2^31 up: no trial of any search trains under it."""
    return 2**31 + training_seeds(study_seed, index)[0]
