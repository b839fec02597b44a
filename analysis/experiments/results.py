"""Results that the documentation shows: what the trainings of a study with named points came to.

`python -m analysis export NAME` writes them from the records of the study, a line of JSON for each
training. A line holds all that is needed to train it again without the records: `python -m analysis
check` does that. What a study came to that draws its points is in `landscape.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from lander.config import TrainConfig
from lander.dotted import flatten
from lander.errors import ConfigError
from lander.evaluation import evaluate
from lander.metrics import TRAIN_RETURN
from lander.policy import ActorCritic
from lander.seeds import REPORT_SEED, final_seeds, seed_range
from sweeps.lifecycle.points import point_names
from sweeps.reproduce.receipt import Numbers
from sweeps.run.objective import point_seed
from sweeps.study.study import Study

HERE: Final = Path(__file__).parent
UNSEEN: Final = seed_range(REPORT_SEED, 100)
"""Reset seeds of the flights that are reported."""
PACKAGES: Final = ("torch", "gymnasium", "numpy")
"""Whose versions decide the bits of a training."""

Curve = tuple[tuple[int, float], ...]
"""Environment steps of each checkpoint, and the mean of `TRAIN_RETURN` since the one before."""
Training = tuple[str, int]
"""Name of a point, and training seed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One training, and its last policy flown on the unseen episodes."""

    point: str
    seed: int
    config: Mapping[str, Any]
    """Every dotted field but the seed: defaults may change, what was trained does not."""
    env_steps: int
    returns: tuple[float, ...]
    """Deterministic, in raw environment units, in the order of `UNSEEN`."""
    seconds: float
    machine: str
    versions: Mapping[str, str]
    sampled: tuple[float, ...] = ()
    """The same episodes flown with sampled actions; empty in outcomes that are older."""
    curve: Curve = ()
    """Empty in outcomes that are older."""

    @classmethod
    def from_line(cls, line: str) -> Outcome:
        """The outcome in a line of a results file."""
        fields = json.loads(line)
        lists = {
            "returns": tuple(fields["returns"]),
            "sampled": tuple(fields["sampled"]),
            "curve": tuple((steps, mean) for steps, mean in fields["curve"]),
        }
        return cls(**fields | lists)

    @property
    def line(self) -> str:
        """The outcome as a line of a results file."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @property
    def numbers(self) -> Numbers:
        """Everything that comes back if it is trained again."""
        episodes = {"final episode": self.returns, "sampled episode": self.sampled}
        numbers = {
            (f"{name} {number}", self.env_steps): value
            for name, returns in episodes.items()
            for number, value in enumerate(returns)
        }
        return numbers | {(TRAIN_RETURN, steps): value for steps, value in self.curve}

    @property
    def return_mean(self) -> float:
        return float(np.mean(self.returns))


Results = Mapping[str, Sequence[Outcome]]
"""The outcomes of each point, in the order of the training seeds."""


def results_path(name: str) -> Path:
    """The file with the results of a study."""
    return HERE / "results" / f"{name}.jsonl"


def names() -> list[str]:
    """Studies with a file of results."""
    return sorted(path.stem for path in (HERE / "results").glob("*.jsonl"))


def trainings(study: Study) -> list[Training]:
    """Every point under every training seed, in the order of the study's trials."""
    seeds = [point_seed(study, index) for index in range(study.settings.seed_count)]
    return [(point, seed) for seed in seeds for point in point_names(study)]


def read_outcomes(name: str) -> dict[Training, Outcome]:
    """Every outcome in a study's file of results."""
    path = results_path(name)
    lines = path.read_text().splitlines() if path.exists() else []
    return {(each.point, each.seed): each for each in map(Outcome.from_line, lines)}


def read_results(study: Study) -> Results:
    """The outcomes of each point of a study as it is now, in the order of the training seeds.

    Raises:
        ConfigError: some are missing, or are those of another configuration.
    """
    outcomes = read_outcomes(study.name)
    defaults = recorded(TrainConfig())
    results: dict[str, list[Outcome]] = {point: [] for point in study.points}
    for point, seed in trainings(study):
        outcome = outcomes.get((point, seed))
        # a field that is younger than the outcome stood at what is now its default
        if outcome and {**defaults, **outcome.config} == recorded(study.points[point]):
            results[point].append(outcome)
    missing = len(trainings(study)) - sum(map(len, results.values()))
    if missing:
        raise ConfigError(
            f"{missing} trainings of {study.name} are missing: make experiment NAME={study.name}"
        )
    return results


def recorded(config: TrainConfig) -> dict[str, Any]:
    """Dotted fields but the seed, as JSON returns them."""
    fields = {name: value for name, value in flatten(config).items() if name != "seed"}
    return dict(json.loads(json.dumps(fields)))


def sampled_returns(policy: ActorCritic, config: TrainConfig) -> tuple[float, ...]:
    """Returns of the final episodes with sampled actions, under the training seed."""
    sampling = torch.Generator().manual_seed(config.seed)
    return evaluate(policy, config.env, seeds=final_seeds(config), generator=sampling).returns


def curve_of(returns: Sequence[tuple[int, float]], checkpoints: Sequence[int]) -> Curve:
    """Means between checkpoints of what training has returned at each number of steps."""
    curve: list[tuple[int, float]] = []
    start = 0
    for end in checkpoints:
        between = [value for steps, value in returns if start < steps <= end]
        if between:
            curve.append((end, float(np.mean(between))))
            start = end
    return tuple(curve)
