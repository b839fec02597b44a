"""What Optuna maximises: the final evaluation of one training run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import optuna
from optuna.trial import BaseTrial

from lander import Progress, TrainConfig, train
from sweeps.recording import RETRY_OF, Recorder
from sweeps.space import suggest
from sweeps.study import Study


@dataclass(frozen=True)
class Objective:
    """Trains the trial's configuration: mean deterministic return on the final seeds."""

    study: Study
    open_record: Callable[[optuna.Trial], AbstractContextManager[Recorder]]
    check: Callable[[], None]
    """Called after every update; raises to end the trial."""

    def __call__(self, trial: optuna.Trial) -> float:
        with self.open_record(trial) as record:
            config = trial_config(trial, self.study)
            record.config(config)

            def on_update(progress: Progress) -> None:
                self.check()
                record.progress(progress)
                if progress.evaluation is None:
                    return
                # the checkpoint's index, not env steps: pruners compare equal steps only
                trial.report(progress.evaluation.return_mean, step=progress.checkpoint)
                if progress.checkpoint < config.checkpoints and trial.should_prune():
                    raise optuna.TrialPruned

            result = train(config, on_update=on_update)
            record.result(result)
        return result.final.return_mean


def trial_config(trial: BaseTrial, study: Study) -> TrainConfig:
    """The config of a trial, with the training seed that its number gives."""
    config = suggest(trial, study.space, study.base)
    return replace(config, seed=trial_seed(trial, study))


def trial_seed(trial: BaseTrial, study: Study) -> int:
    """The training seed of a trial: its number's, or that of the lost trial that it stands for."""
    number = trial.user_attrs.get(RETRY_OF, trial.number)
    return training_seed(study.settings.seed, number)


def training_seed(study_seed: int, number: int) -> int:
    """A seed for each trial of each study, below 2^31."""
    return int(np.random.SeedSequence((study_seed, number)).generate_state(1)[0] >> 1)
