"""Results that README quotes: what the trainings of a study with named points came to.

`python -m analysis export NAME` writes them from the records of the study, a line of JSON for each
training. A line holds all that is needed to train it again without the records: `check` does that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from optuna.trial import FrozenTrial, TrialState

from analysis.flight import policy_of
from analysis.load import load_curves
from lander.config import TrainConfig
from lander.dotted import configure, flatten
from lander.errors import ConfigError, unknown
from lander.evaluation import evaluate
from lander.files import write_aside
from lander.metrics import EVAL_RETURN, TRAIN_RETURN
from lander.policy import ActorCritic
from lander.seeds import REPORT_SEED, final_seeds, seed_range
from lander.trainer import Progress, train
from sweeps.endings import seconds
from sweeps.hints import hint
from sweeps.lifecycle.points import given
from sweeps.record.provenance import environment_changes
from sweeps.reproduce import Numbers, differences
from sweeps.run.objective import point_seed, trial_seeds
from sweeps.schema import CPU_MODEL, POINT, RETURNS, RUN_ID, VERSION
from sweeps.store.presence import require_recorded
from sweeps.store.store import Store
from sweeps.study.study import Study
from sweeps.sweep import Sweep, open_sweep

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
    return [(point, seed) for seed in seeds for point in study.points]


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


def export(store: Store, name: str) -> Path:
    """Write the results of a study from its records; the file's path.

    Raises:
        ConfigError: no such study, no named points, trainings are missing, or the file cannot be
            written.
    """
    sweep = open_sweep(store, name)
    require_recorded(store, sweep.optuna)
    trials = finished_trials(sweep)
    path = results_path(name)
    try:
        path.parent.mkdir(exist_ok=True)
        with write_aside(path) as aside, aside.open("w") as file:
            for outcome in outcomes_of(sweep, trials):
                file.write(f"{outcome.line}\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    return path


def finished_trials(sweep: Sweep) -> dict[Training, FrozenTrial]:
    """The finished trial of every training of a study, in order.

    Raises:
        ConfigError: some are missing, or it has no named points.
    """
    study = sweep.study
    if not study.points or study.confirms:
        raise ConfigError(f"study {study.name} has no [points], whose results could be exported")
    finished = {
        (str(trial.user_attrs[POINT]), *trial_seeds(trial, study)): trial
        for trial in given(sweep.read_trials().counted)
        if trial.state == TrialState.COMPLETE
    }
    missing = [training for training in trainings(study) if training not in finished]
    if missing:
        first = ", seed ".join(map(str, missing[0]))
        run = hint("sweep", sweep.store.folder, study=study.name)
        raise ConfigError(
            f"{len(missing)} trainings of {study.name} are missing, the first: {first}; run {run}"
        )
    return {training: finished[training] for training in trainings(study)}


def outcomes_of(sweep: Sweep, trials: Mapping[Training, FrozenTrial]) -> Iterator[Outcome]:
    """The outcome of each trial by its record; its policy is flown with sampled actions."""
    client = sweep.store.runs()
    returns, checkpoints = load_curves(sweep, TRAIN_RETURN), load_curves(sweep, EVAL_RETURN)
    for (point, seed), trial in trials.items():
        learning, ends = (own[own["trial"] == trial.number] for own in (returns, checkpoints))
        trained = policy_of(sweep, trial)
        tags = client.get_run(str(trial.user_attrs[RUN_ID])).data.tags
        yield Outcome(
            point=point,
            seed=seed,
            config=recorded(trained.config),
            env_steps=int(ends["env_steps"].max()),
            returns=tuple(trial.user_attrs[RETURNS][0]),
            seconds=round(seconds(trial) or 0.0, 1),
            machine=tags[CPU_MODEL],
            versions={name: tags[VERSION + name] for name in PACKAGES},
            sampled=sampled_returns(trained.policy, trained.config),
            curve=curve_of(
                list(zip(learning["env_steps"].tolist(), learning["value"].tolist(), strict=True)),
                ends["env_steps"].tolist(),
            ),
        )


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


def check(name: str, point: str, seed: int) -> bool:
    """Train an exported outcome again; True if every return is the same to the bit.

    Raises:
        ConfigError: no such outcome.
    """
    if not names():
        raise ConfigError(f"{HERE} holds no results: install the package again")
    outcomes = read_outcomes(name)
    if not outcomes:
        raise ConfigError(unknown("study with results", name, names()))
    if (point, seed) not in outcomes:
        known = [f"{point} {seed}" for point, seed in outcomes]
        raise ConfigError(unknown("training", f"{point} {seed}", known))
    outcome = outcomes[point, seed]
    replayed = retrained(outcome)
    problems = differences(outcome.numbers, replayed.numbers)
    print(
        f"{name}, {point}, seed {seed}: recorded {outcome.return_mean!r}, "
        f"replayed {replayed.return_mean!r}: {'FAIL' if problems else 'PASS'}"
    )
    tags = {VERSION + package: version for package, version in outcome.versions.items()}
    for line in [*problems[:1], *environment_changes(tags)] if problems else ():
        print(line)
    return not problems


def retrained(outcome: Outcome) -> Outcome:
    """The outcome of the same training today."""
    returns: list[tuple[int, float]] = []
    checkpoints: list[int] = []

    def note(progress: Progress) -> None:
        if TRAIN_RETURN in progress.metrics:
            returns.append((progress.env_steps, progress.metrics[TRAIN_RETURN]))
        if progress.evaluation is not None:
            checkpoints.append(progress.env_steps)

    config = configure({**outcome.config, "seed": outcome.seed}, base=TrainConfig())
    result = train(config, on_update=note)
    return replace(
        outcome,
        env_steps=result.env_steps,
        returns=result.final.returns,
        sampled=sampled_returns(result.policy, result.config),
        curve=curve_of(returns, checkpoints),
    )
