"""Results of a study that draws its points: what every training came to, in few characters.

`python -m analysis export NAME` writes them. The first line of the file holds the configuration of
the first training, the versions of the packages and the machine; each line below is a training,
with the fields in which its configuration differs. Returns are rounded: `check` compares them so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from analysis.experiments.results import UNSEEN, Training, results_path
from lander.config import TrainConfig
from lander.dotted import configure
from lander.env import solved_return
from lander.evaluation import evaluate
from lander.policy import ActorCritic
from lander.trainer import Progress, train
from sweeps.reproduce.receipt import Numbers

DIGITS: Final = 2
"""Decimals of a return."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One training of one point, and its last policy flown on the unseen episodes."""

    point: str
    seed: int
    config: Mapping[str, Any]
    """Every dotted field but the seed."""
    checkpoints: tuple[float, ...]
    """Mean return at each checkpoint."""
    final: float
    """Mean return of the last policy on the study's final seeds, by which a sweep chooses."""
    report: float
    """Mean return of the last policy on the unseen episodes, by which nothing chooses."""
    success: float
    """Share of these that reach the return at which the environment is solved."""
    seconds: float
    machine: str
    versions: Mapping[str, str]

    @property
    def numbers(self) -> Numbers:
        """Everything that comes back if it is trained again."""
        values = {f"checkpoint {k}": value for k, value in enumerate(self.checkpoints, 1)}
        values |= {"final": self.final, "report": self.report, "success": self.success}
        return {(name, self.config["total_steps"]): value for name, value in values.items()}

    @property
    def return_mean(self) -> float:
        return self.report


def lines_of(trainings: Iterator[Measured]) -> Iterator[str]:
    """The lines of a file of results, without line ends."""
    shared: dict[str, Any] = {}
    for training in trainings:
        if not shared:
            names = ("config", "machine", "versions")
            shared = {name: getattr(training, name) for name in names}
            yield json.dumps(shared)
        different = {
            name: value
            for name, value in training.config.items()
            if value != shared["config"].get(name)
        }
        own = {name: getattr(training, name) for name in training.__slots__ if name not in shared}
        yield json.dumps({**own, "config": different})


def read_measured(name: str) -> dict[Training, Measured]:
    """Every training in the file of results of a study that draws its points; none without one."""
    path = results_path(name)
    first, *rest = path.read_text().splitlines() if path.exists() else ["{}"]
    shared = json.loads(first)
    trainings = (measured(shared, json.loads(line)) for line in rest)
    return {(each.point, each.seed): each for each in trainings}


def measured(shared: Mapping[str, Any], own: Mapping[str, Any]) -> Measured:
    """The training in a line of the file."""
    fields = {**shared, **own, "config": {**shared["config"], **own["config"]}}
    return Measured(**fields | {"checkpoints": tuple(fields["checkpoints"])})


def flown(policy: ActorCritic, config: TrainConfig) -> tuple[float, float]:
    """`report` and `success` of a policy, which its training does not record."""
    evaluation = evaluate(policy, config.env, seeds=UNSEEN)
    solved = solved_return(config.env)
    success = 0.0 if solved is None else evaluation.success_rate(solved)
    return round(evaluation.return_mean, DIGITS), success


def rounded(returns: Sequence[float]) -> tuple[float, ...]:
    """Returns as the file holds them."""
    return tuple(round(value, DIGITS) for value in returns)


def measured_again(before: Measured) -> Measured:
    """The same training today."""
    checkpoints: list[float] = []

    def note(progress: Progress) -> None:
        if progress.evaluation is not None:
            checkpoints.append(progress.evaluation.return_mean)

    config = configure({**before.config, "seed": before.seed}, base=TrainConfig())
    result = train(config, on_update=note)
    (final,) = rounded([result.final.return_mean])
    report, success = flown(result.policy, result.config)
    return replace(
        before, checkpoints=rounded(checkpoints), final=final, report=report, success=success
    )
