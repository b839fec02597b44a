"""Flights of recorded policies on episodes that their trainings did not see, recorded once."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from optuna.trial import FrozenTrial

from lander.config import EnvConfig
from lander.evaluation import evaluate, nothing
from lander.files import inside
from lander.lunar import Physics, training_physics
from lander.seeds import CHOICE_SEED, TEST_SEED, seed_range
from sweeps.optuna_private import id_of
from sweeps.publish.policies import TrainedPolicy, policy_of
from sweeps.schema import (
    CHOICE_RETURN,
    CHOICE_RETURNS,
    RUN_ID,
    TEST_RETURN,
    TEST_RETURNS,
    seed_folder,
)
from sweeps.scores import final_means, mean
from sweeps.store.best_policy import policy_name
from sweeps.sweep import Sweep, open_sweep

LOCKS: Final = "flights.lock"
"""File of a store; whoever flies a policy of the sweep locks the byte whose offset is the id of its
trial."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What some episodes are flown for: their reset seeds and where their returns are recorded."""

    first_seed: int
    attribute: str
    metric: str


CHOICE: Final = Purpose(CHOICE_SEED, CHOICE_RETURNS, CHOICE_RETURN)
TEST: Final = Purpose(TEST_SEED, TEST_RETURNS, TEST_RETURN)


@dataclass(frozen=True)
class Candidate:
    """A recorded policy: one training of a finished trial."""

    sweep: Sweep
    """Where the trial is: the sweep, or its confirmation."""
    trial: FrozenTrial
    training: int

    @property
    def key(self) -> tuple[str, int, int]:
        return self.sweep.study.name, self.trial.number, self.training

    @property
    def name(self) -> str:
        return policy_name(*self.key, of=self.trainings)

    @property
    def trainings(self) -> int:
        """How many the trial has."""
        return max(1, len(final_means(self.trial)))

    @property
    def score(self) -> float:
        """The mean return of its final episodes."""
        return final_means(self.trial)[self.training]

    @property
    def run_id(self) -> str:
        return str(self.trial.user_attrs[RUN_ID])

    @cached_property
    def trained(self) -> TrainedPolicy:
        """The policy, downloaded once.

        Raises:
            ConfigError: the weights are missing.
        """
        return policy_of(self.sweep, self.trial, training=self.training)

    @contextmanager
    def claimed(self, *, wait: bool) -> Generator[Candidate | None]:
        """The same policy with the flights that are on record now; within the block no other
        process of this host flies a policy of its trial.

        If another process does already: waits for it, or yields None unless it may `wait`. The
        system releases the claim of a process that dies.
        """
        store = self.sweep.store
        store.folder.mkdir(parents=True, exist_ok=True)  # all else may be with servers
        with inside(store.folder, store.folder / LOCKS).open("ab") as file:
            try:
                how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
                fcntl.lockf(file, how, 1, id_of(self.trial))
            except (BlockingIOError, PermissionError):
                yield None
            else:
                now = open_sweep(store, self.sweep.study.name)
                trial = now.read_trials().all[self.trial.number]
                yield replace(self, sweep=now, trial=trial)

    def recorded(self, purpose: Purpose) -> list[float]:
        """The returns of the episodes that it has flown for this purpose."""
        trainings = self.trial.user_attrs.get(purpose.attribute, [])
        return list(trainings[self.training]) if self.training < len(trainings) else []

    def has_flown(self, purpose: Purpose, *, episodes: int) -> bool:
        """Whether so many episodes are on record."""
        return len(self.recorded(purpose)) == episodes

    def fly(
        self, purpose: Purpose, *, episodes: int, check: Callable[[], None] = nothing
    ) -> list[float]:
        """Its returns, flown and recorded now unless they were before.

        `check` is called before every step; an exception that it raises ends the flight.

        Raises:
            ConfigError: the weights are missing.
        """
        if self.has_flown(purpose, episodes=episodes):
            return self.recorded(purpose)
        env = self.trained.config.env
        seeds = seed_range(purpose.first_seed, episodes)
        physics = physics_for(purpose, env)
        flown = evaluate(self.trained.policy, env, seeds=seeds, physics=physics, check=check)
        self._record(purpose, list(flown.returns))
        return list(flown.returns)

    def _record(self, purpose: Purpose, returns: list[float]) -> None:
        """Record returns with the trial and their mean on its run."""
        store = self.sweep.store
        name = seed_folder(self.training, of=self.trainings) + purpose.metric
        store.runs().log_metric(self.run_id, name, mean(returns), step=0)
        trainings = [*self.trial.user_attrs.get(purpose.attribute, [])]
        trainings += [[] for _ in range(self.trainings - len(trainings))]
        trainings[self.training] = returns
        store.trials().set_late_attr(self.trial, purpose.attribute, trainings)


def physics_for(purpose: Purpose, env: EnvConfig) -> Physics:
    """What is reported is flown on the stock environment; what only chooses, as checkpoints do, on
    the faster one where that is known to be equal."""
    return "stock" if purpose == TEST else training_physics(env)
