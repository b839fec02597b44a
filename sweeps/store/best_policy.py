"""The best policy of a sweep as its study records it: which one it is, and what was shown of it.

`sweeps.publish.best_policy` chooses and records it; status, page and report read it here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import optuna

from sweeps.schema import BEST_POLICY, CONFIRM_SUFFIX


@dataclass(frozen=True)
class BestPolicy:
    """The policy that models:/NAME@best names."""

    study: str
    """The sweep; or its confirmation, one of whose policies an earlier version registered."""
    trial: int
    training: int
    """Which of the trial's trainings, from 0."""
    trainings: int
    """How many trainings the trial has."""
    run_id: str
    """The trial's run in MLflow."""
    model_id: str | None
    """The LoggedModel of the training, if it is not the one that the run was recorded with."""
    compared: int = 0
    """How many policies flew the choice episodes; 0: none, it is the policy of the best trial."""
    episodes: int = 0
    """How many choice episodes were flown, and how many test episodes."""
    choice: float | None = None
    """Mean return on the choice episodes, by which it was chosen; None if none were flown, as in
    what follows."""
    test: float | None = None
    """Mean return on the test episodes, by which nothing was chosen."""
    test_low: float | None = None
    """Lower end of its 95 % interval over episodes; None for a single episode."""
    test_high: float | None = None
    success_rate: float | None = None
    """Share of the test episodes that reach the solved return; None if the environment has none."""

    @property
    def name(self) -> str:
        return policy_name(self.study, self.trial, self.training, of=self.trainings)

    def __str__(self) -> str:
        """Its name and what it returned, within a line."""
        if self.test is None:
            return f"{self.name}, not compared with others"
        rate = self.success_rate
        solved = "" if rate is None else f", {100 * rate:.0f} % success"
        return f"{self.name}, {self.test:.1f} on {self.episodes} fresh episodes{solved}"

    def record(self, study: optuna.Study) -> None:
        """Record it in the study of its sweep, unless it is recorded."""
        if recorded_policy(study) != self:
            study.set_user_attr(BEST_POLICY, asdict(self))


def recorded_policy(study: optuna.Study) -> BestPolicy | None:
    """The best policy of a sweep; None before one is published, or if an earlier version did."""
    values = study.user_attrs.get(BEST_POLICY)
    return None if values is None else BestPolicy(**values)


def policy_name(study: str, trial: int, training: int, *, of: int) -> str:
    """A policy within a sentence about a sweep: its trial, its training if the trial has several,
    and the study if that is the sweep's confirmation."""
    which = f", training {training}" if of > 1 else ""
    return f"trial {trial}{which}" + (f" of {study}" if study.endswith(CONFIRM_SUFFIX) else "")
