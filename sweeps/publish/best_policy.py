"""Chooses the best policy of a sweep, measures it, and registers it as models:/NAME@best.

A high score is also a lucky one, so the policies of the highest scores fly again, on the choice
episodes: the best of them there is the best policy. It then flies the test episodes, by which
nothing is chosen: what it returns there is what to expect of it. Flights are recorded with their
trials, so that a sweep that is published again flies only what is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy  # imports scipy.special once it is used
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from optuna.trial import TrialState

from lander.env import solved_return
from lander.terminal import say
from sweeps.publish.flights import CHOICE, TEST, Candidate, Purpose
from sweeps.publish.models import model_of_training
from sweeps.publish.notes import Leaderboard
from sweeps.publish.policies import median_training
from sweeps.publish.registry import move_alias, registered_model, require_own
from sweeps.record.recorder import tolerated
from sweeps.schema import (
    BEST_ALIAS,
    BEST_POLICY_CHOICE,
    BEST_POLICY_SUCCESS_RATE,
    BEST_POLICY_TEST,
    COMPARED,
    CONFIRM_SUFFIX,
    RUN_ID,
    TRAINING,
)
from sweeps.scores import CONFIDENCE, final_means, mean, violated
from sweeps.store.best_policy import BestPolicy
from sweeps.store.trials import Trials
from sweeps.study.study import Study
from sweeps.sweep import Sweep, open_sweep

LEADERS: Final = 8
"""How many policies are compared: those that returned most at the end of their trainings."""
MOST_EPISODES: Final = 100
"""Choice episodes of each, and test episodes of the best."""
TIMES: Final = 5
"""They are at most so many times the episodes of a score, which take long on some environments."""


def publish_best_policy(
    client: MlflowClient, sweep: Sweep, trials: Trials, warnings: list[str], *, fly: bool = True
) -> BestPolicy | None:
    """Choose the best policy, register it and record it; None if there is none to register.

    Doing so again changes nothing. A policy that cannot be flown is left out with a warning.
    Without `fly` only policies that have flown before are compared. Hold
    `Store.publication_lock`.

    Raises:
        ConfigError: the policy has no model, or the registered one belongs to another sweep.
    """
    before = holder_of(client, sweep, trials, warnings)
    if not one_environment(sweep.study):
        best = not_compared(sweep, trials)
    else:
        flown = compared(sweep, trials, before, warnings, fly=fly)
        best = measured(client, sweep, flown, before) if flown else None
        if best is None and before is None:  # better than none
            best = not_compared(sweep, trials)
    if best is not None:
        register(client, sweep, best)
        best.record(sweep.optuna)
    return best


def compares_policies(study: Study) -> bool:
    """Whether the policies of a sweep of this study are compared by flights at its end."""
    return not study.confirms and one_environment(study)


def one_environment(study: Study) -> bool:
    """Whether all trials fly the same environment with the same arguments, so that returns can be
    compared."""
    flown = {(config.env.id, config.env.kwargs, config.env.time_limit) for config in study.configs}
    searched = () if study.points else study.space
    return len(flown) == 1 and not any(map(changes_environment, searched))


def changes_environment(field: str) -> bool:
    """Whether the episodes of an evaluation differ with this field, whatever the policy."""
    return field in ("env.id", "env.time_limit") or field.startswith("env.kwargs.")


def episodes_of(study: Study) -> int:
    """How many choice and test episodes a policy of this study flies."""
    return min(MOST_EPISODES, TIMES * study.base.final_episodes)


def holder_of(
    client: MlflowClient, sweep: Sweep, trials: Trials, warnings: list[str]
) -> Candidate | None:
    """The policy that models:/NAME@best names now; None if there is none.

    Raises:
        ConfigError: the registered model belongs to another sweep.
    """
    name = sweep.study.name
    model = registered_model(client, name)
    if model is None or BEST_ALIAS not in model.aliases:
        return None
    require_own(sweep, model)
    version = client.get_model_version(name, model.aliases[BEST_ALIAS])
    holder = candidate_of(version, sweep, trials)
    if holder is None and name + CONFIRM_SUFFIX in sweep.store.study_names():
        confirmation = open_sweep(sweep.store, name + CONFIRM_SUFFIX)  # by an earlier version
        holder = candidate_of(version, confirmation, confirmation.read_trials())
    if holder is None:
        warnings.append(
            f"models:/{name}@{BEST_ALIAS} was version {version.version}, which no trial here has "
            "trained: it is not compared"
        )
    return holder


def candidate_of(version: ModelVersion, sweep: Sweep, trials: Trials) -> Candidate | None:
    """The policy that a version registers, if it is of one of these trials."""
    for trial in trials.all:
        if trial.user_attrs.get(RUN_ID) == version.run_id:
            training = version.tags.get(TRAINING, median_training(trial))
            return Candidate(sweep, trial, int(training))
    return None


def compared(
    sweep: Sweep, trials: Trials, before: Candidate | None, warnings: list[str], *, fly: bool
) -> list[Candidate]:
    """The policies that have flown the choice episodes: the leaders, all that flew them before, and
    the one that is the best until now."""
    episodes, finished = episodes_of(sweep.study), finished_policies(sweep, trials)
    earlier = [one for one in finished if one.has_flown(CHOICE, episodes=episodes)]
    several = (*leaders(sweep, trials), *earlier, *([before] if before else []))
    candidates = {one.key: one for one in several}
    flown, new = list[Candidate](), list[Candidate]()
    for candidate in candidates.values():
        (flown if candidate.has_flown(CHOICE, episodes=episodes) else new).append(candidate)
    if new and fly:
        say(f"flying {len(new)} of the best policies on {episodes} fresh episodes each")
        for candidate in new:
            with (
                tolerated(warnings, f"the flight of {candidate.name}"),
                candidate.claimed(wait=True) as mine,
            ):
                if mine is not None:
                    mine.fly(CHOICE, episodes=episodes)
                    flown.append(mine)
    return flown


def leaders(sweep: Sweep, trials: Trials) -> list[Candidate]:
    """The policies that returned most at the end of their trainings, the best first."""
    finished = finished_policies(sweep, trials)
    return sorted(finished, key=lambda one: (bool(violated(one.trial)), -one.score))[:LEADERS]


def finished_policies(sweep: Sweep, trials: Trials) -> list[Candidate]:
    """The policies of all recorded trainings of finished trials."""
    return [
        Candidate(sweep, trial, training)
        for trial in trials.all
        if trial.state == TrialState.COMPLETE and RUN_ID in trial.user_attrs
        for training in range(len(final_means(trial)))
    ]


def measured(
    client: MlflowClient, sweep: Sweep, flown: Sequence[Candidate], before: Candidate | None
) -> BestPolicy:
    """The best of some policies that have flown the choice episodes, measured on the test episodes.

    If it does worse there than the one that was the best until now, a line says so.
    """
    best = min(flown, key=preference)
    choice, episodes = mean(best.recorded(CHOICE)), episodes_of(sweep.study)
    test = best.fly(TEST, episodes=episodes)
    low, high = interval(test)
    for other in flown:
        if before is not None and other.key == before.key != best.key:
            was = mean(other.fly(TEST, episodes=episodes))
            if was > mean(test):
                say(
                    f"models:/{sweep.study.name}@{BEST_ALIAS} moves from {other.name} to "
                    f"{best.name}, which returns less on the test episodes: {mean(test):.1f} "
                    f"against {was:.1f}; on the choice episodes {choice:.1f} against "
                    f"{mean(other.recorded(CHOICE)):.1f}"
                )
    solved = solved_return(sweep.study.configs[0].env)
    return BestPolicy(
        study=best.sweep.study.name,
        trial=best.trial.number,
        training=best.training,
        trainings=best.trainings,
        run_id=best.run_id,
        model_id=model_of_training(client, best),
        compared=len(flown),
        episodes=episodes,
        choice=choice,
        test=mean(test),
        test_low=low,
        test_high=high,
        success_rate=None if solved is None else mean([value >= solved for value in test]),
    )


def preference(flown: Candidate) -> tuple[bool, float, int, int]:
    """Sorts policies that have flown the choice episodes, the best first, and last of all those of
    trials that violate a constraint."""
    bad = bool(violated(flown.trial))
    return bad, -mean(flown.recorded(CHOICE)), flown.trial.number, flown.training


def interval(returns: Sequence[float]) -> tuple[float | None, float | None]:
    """Student's interval of the mean; None for a single episode."""
    if len(returns) < 2:
        return None, None
    error = float(np.std(returns, ddof=1) / np.sqrt(len(returns)))
    half = error * float(scipy.special.stdtrit(len(returns) - 1, (1 + CONFIDENCE) / 2))
    return mean(returns) - half, mean(returns) + half


def not_compared(sweep: Sweep, trials: Trials) -> BestPolicy | None:
    """The policy of the best trial, where returns cannot be compared or nothing can be flown."""
    best = Leaderboard(trials).best_recorded
    if best is None:
        return None
    trial = best.trial
    candidate = Candidate(sweep, trial, median_training(trial))
    return BestPolicy(
        study=sweep.study.name,
        trial=trial.number,
        training=candidate.training,
        trainings=candidate.trainings,
        run_id=candidate.run_id,
        model_id=None,
    )


def register(client: MlflowClient, sweep: Sweep, best: BestPolicy) -> None:
    """Let models:/NAME@best be this policy.

    Raises:
        ConfigError: it has no model, or the registered one belongs to another sweep.
    """
    move_alias(
        client,
        sweep,
        run_id=best.run_id,
        alias=BEST_ALIAS,
        description=description(best),
        tags=version_tags(best),
        model_id=best.model_id,
    )


def description(best: BestPolicy) -> str:
    """What was shown of a policy, and on which episodes."""
    text = f"The policy of {best.name}"
    if best.choice is None or best.test is None:
        return f"{text}, the best by its score: it was compared with no other on fresh episodes."
    rate = best.success_rate
    ends = "" if best.test_low is None else f" [{best.test_low:.1f}, {best.test_high:.1f}]"
    return (
        f"{text}: the best of {best.compared} policies of the sweep on {best.episodes} choice "
        f"episodes ({reset_seeds(CHOICE, best.episodes)}), mean return {best.choice:.1f}. On "
        f"{best.episodes} test episodes ({reset_seeds(TEST, best.episodes)}), by which nothing was "
        f"chosen: mean return {best.test:.1f}{ends}"
        + ("." if rate is None else f", success rate {100 * rate:.0f} %.")
    )


def reset_seeds(purpose: Purpose, episodes: int) -> str:
    """The reset seeds of some episodes, in words."""
    return f"reset seeds {purpose.first_seed} to {purpose.first_seed + episodes - 1}"


def version_tags(best: BestPolicy) -> dict[str, str]:
    """The same for programs, as tags of the registered version."""
    tags = {COMPARED: str(best.compared)}
    if best.trainings > 1:
        tags[TRAINING] = str(best.training)
    return tags | {name: repr(value) for name, value in metrics(best).items()}


def metrics(best: BestPolicy) -> dict[str, float]:
    """Its numbers by the names under which the sweep's run has them."""
    values = {
        BEST_POLICY_CHOICE: best.choice,
        BEST_POLICY_TEST: best.test,
        BEST_POLICY_SUCCESS_RATE: best.success_rate,
    }
    return {name: value for name, value in values.items() if value is not None}
