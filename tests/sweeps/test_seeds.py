"""Several training seeds per trial: what Optuna is told, what MLflow keeps, when a trial ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import optuna
import pytest
import torch
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image

import sweeps.reproduce.replay
import sweeps.run.objective
from lander.agent import Divergence
from lander.checkpoint import load
from lander.config import TrainConfig
from lander.dotted import from_toml
from lander.errors import ConfigError
from lander.evaluation import Evaluation
from lander.film import save_landing
from lander.metrics import FINALS
from lander.policy import ActorCritic, DeterministicActor
from lander.resolve import Resolved
from lander.trainer import Progress, TrainResult, UpdateHook, ignore, train
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.notes import Leaderboard
from sweeps.publish.publish import show_trials
from sweeps.reproduce.reproduce import reproduce
from sweeps.run.objective import Objective, training_seeds, trial_configs, trial_seeds
from sweeps.run.worker import objective_of, work
from sweeps.schema import (
    EXPECTED_ERROR,
    EXPECTED_RETURN,
    REASON,
    RETURNS,
    RUN_ID,
    SCORE,
    SEED_SCORES,
    SHOWN_SCORE,
)
from sweeps.scores import best_expected, best_of, last_return, median_index, seed_scores
from sweeps.store.store import Store
from sweeps.study.space import defaults
from sweeps.study.study import Study, read_study
from sweeps.sweep import Sweep, open_sweep, pruner_of
from tests.studies import MINI, changed

pytestmark = pytest.mark.filterwarnings("ignore:WilcoxonPruner is experimental")

SEEDS = 3


def study_of(*lines: str, seeds: int = SEEDS, episodes: int = 2) -> Study:
    """The miniature study with several seeds per trial and these lines under [study]."""
    settings = "\n".join([f"seeds_per_trial = {seeds}", *lines])
    text = changed(MINI, {"seed = 3": f"seed = 3\n{settings}"})
    text = changed(text, {"final_episodes = 2": f"final_episodes = {episodes}"})
    return read_study(text, source="mini.toml")


STUDY = study_of('pruner = "none"')
WILCOXON = study_of('pruner = "wilcoxon"', episodes=4)


# -- with real trainings and both stores ----------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """A finished sweep, its trials and runs, and trial 0 trained again."""

    sweep: Sweep
    trials: Sequence[FrozenTrial]
    runs: list[Run]
    again: list[TrainResult]

    def history(self, name: str) -> list[tuple[int, float]]:
        """Trial 0: environment steps and value of every point of a curve."""
        points = self.sweep.store.runs().get_metric_history(self.runs[0].info.run_id, name)
        return [(point.step, point.value) for point in points]

    def files(self, folder: Path) -> set[str]:
        """Trial 0: fetch every artifact; their paths."""
        client, run_id = self.sweep.store.runs(), self.runs[0].info.run_id
        client.download_artifacts(run_id, "", str(folder))
        return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def recorded(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The defaults twice, each time under three seeds."""
    store = Store(Path(shutil.copytree(empty, tmp_path_factory.mktemp("seeds") / "store")))
    sweep = start_sweep(STUDY, store, trials=1, command=["run"])
    sweep.optuna.enqueue_trial(defaults(STUDY.space, STUDY.base))
    work(store, "mini", index=0, seconds=None)
    trials = sweep.read_trials().all
    runs = [store.runs().get_run(trial.user_attrs[RUN_ID]) for trial in trials]
    again = [train(config) for config in trial_configs(trials[0], STUDY)]
    return Recorded(sweep, trials, runs, again)


@pytest.fixture
def final_means(recorded: Recorded) -> list[float]:
    """Trial 0: the score under each seed."""
    means = [result.final.return_mean for result in recorded.again]
    assert len(set(means)) == SEEDS
    return means


def test_every_seed_has_its_returns_and_the_value_is_their_mean(
    recorded: Recorded, final_means: list[float]
) -> None:
    trial = recorded.trials[0]
    assert trial.user_attrs[RETURNS] == [list(result.final.returns) for result in recorded.again]
    assert trial.values == [pytest.approx(sum(final_means) / SEEDS)]


def test_training_seeds_differ_and_begin_with_that_of_a_one_seed_study(
    recorded: Recorded,
) -> None:
    one = study_of(seeds=1)
    every = [trial_seeds(trial, STUDY) for trial in recorded.trials]
    assert len({seed for seeds in every for seed in seeds}) == 2 * SEEDS
    for trial, run, seeds in zip(recorded.trials, recorded.runs, every, strict=True):
        assert trial_seeds(trial, one) == seeds[:1]
        assert run.data.tags["seeds.training"] == "{}, {}, {}".format(*seeds)
    many = [training_seeds(0, number, 100) for number in range(20)]
    assert len({seed for seeds in many for seed in seeds}) == 2000
    assert max(map(max, many)) < 2**31


def test_optuna_hears_the_mean_so_far_at_every_checkpoint_of_every_seed(
    recorded: Recorded, final_means: list[float]
) -> None:
    expected = {}
    for seed, result in enumerate(recorded.again):
        for number, evaluation in enumerate(result.checkpoints, start=1):
            so_far = [*final_means[:seed], evaluation.return_mean]
            expected[2 * seed + number] = sum(so_far) / len(so_far)
    assert list(expected) == [1, 2, 3, 4, 5, 6]
    assert recorded.trials[0].intermediate_values == pytest.approx(expected)


def test_every_training_has_curves_of_its_own(recorded: Recorded) -> None:
    for seed, result in enumerate(recorded.again):
        checkpoints = [evaluation.return_mean for evaluation in result.checkpoints]
        assert recorded.history(f"seed_{seed}/eval/return_mean") == list(
            zip([512, 1024], checkpoints, strict=True)
        )
        for name, value in result.metrics.items():
            assert recorded.history(f"seed_{seed}/{name}") == [(1024, value)]


def test_beside_them_stands_their_mean_and_where_they_lie(recorded: Recorded) -> None:
    curves = [recorded.history(f"seed_{seed}/eval/return_mean") for seed in range(SEEDS)]
    points = [[value for _, value in point] for point in zip(*curves, strict=True)]
    for name, of in (("mean", mean_of), ("min", min), ("max", max)):
        shown = recorded.history(f"eval/return_{name}")
        assert [step for step, _ in shown] == [512, 1024]
        assert [value for _, value in shown] == pytest.approx([of(point) for point in points])
    metrics = recorded.runs[0].data.metrics
    for name in FINALS:
        values = [metrics[f"seed_{seed}/{name}"] for seed in range(SEEDS)]
        assert metrics[name] == pytest.approx(mean_of(values))
    finals = [metrics[f"seed_{seed}/final/return_mean"] for seed in range(SEEDS)]
    assert metrics["final/return_min"] == min(finals)
    assert metrics["final/return_max"] == max(finals)


def mean_of(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def test_files_of_every_training_and_one_picture_of_all(recorded: Recorded, tmp_path: Path) -> None:
    weights = {f"seed_{seed}/policy.pt" for seed in range(SEEDS)}
    assert recorded.files(tmp_path) == weights | {"config.toml", "landing.gif", "seeds.png"}
    with Image.open(tmp_path / "seeds.png") as picture:
        assert picture.format == "PNG"
    configs = trial_configs(recorded.trials[0], STUDY)
    for seed, config in enumerate(configs):
        policy, written = load(tmp_path / f"seed_{seed}/policy.pt")
        assert written == config
        trained = recorded.again[seed].policy.state_dict()
        assert all(torch.equal(policy.state_dict()[name], trained[name]) for name in trained)
    text = (tmp_path / "config.toml").read_text()
    assert from_toml(text, source="config.toml") == configs[0]


def test_gif_and_model_are_those_of_the_training_in_the_middle(
    recorded: Recorded, final_means: list[float], tmp_path: Path
) -> None:
    middle = final_means.index(sorted(final_means)[1])
    recorded.files(tmp_path)
    flown = (tmp_path / "landing.gif").read_bytes()
    title = f"mini: trial 0, score {recorded.trials[0].user_attrs[SHOWN_SCORE]:.1f}"
    (models,) = recorded.sweep.store.runs().search_logged_models(
        [recorded.sweep.experiment_id],
        filter_string=f"source_run_id = '{recorded.runs[0].info.run_id}'",
    )
    logged = mlflow.pytorch.load_model(models.model_uri)
    obs = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    for seed, result in enumerate(recorded.again):
        path = tmp_path / f"{seed}.gif"
        save_landing(path, result.config.env.id, result.final, title=title)
        assert (path.read_bytes() == flown) == (seed == middle)
        with torch.no_grad():
            same = torch.equal(logged(obs), DeterministicActor(result.policy)(obs))
        assert same == (seed == middle)


def test_a_repeated_configuration_has_new_seeds_and_the_mean_over_both(
    recorded: Recorded,
) -> None:
    first, second = recorded.trials
    assert first.params == second.params
    assert not set(trial_seeds(first, STUDY)) & set(trial_seeds(second, STUDY))
    six = [mean_of(r) for trial in (first, second) for r in trial.user_attrs[RETURNS]]
    assert len(set(six)) == 6
    assert second.values == [pytest.approx(mean_of(six))]
    assert recorded.runs[1].data.metrics["final/return_mean"] == pytest.approx(mean_of(six[3:]))
    assert best_of(recorded.trials) is second  # for both


def test_mlflows_score_is_the_one_that_makes_a_trial_the_best(recorded: Recorded) -> None:
    first, second = recorded.trials
    client = recorded.sweep.store.runs()
    assert recorded.runs[1].data.metrics["score"] == second.values[0]
    for trial in recorded.trials:  # as a version without this metric leaves them
        trial.user_attrs.pop(SHOWN_SCORE)
    show_trials(client, recorded.sweep, Leaderboard(recorded.sweep.read_trials()))
    shown = [client.get_run(run.info.run_id).data.metrics for run in recorded.runs]
    assert [metrics[SCORE] for metrics in shown] == [second.values[0]] * 2
    assert first.values[0] != second.values[0]
    best = best_expected(recorded.sweep.read_trials().all)
    assert best is not None
    assert [metrics[EXPECTED_RETURN] for metrics in shown] == [round(best.likely.value, 1)] * 2
    assert [metrics[EXPECTED_ERROR] for metrics in shown] == [round(best.likely.error, 1)] * 2


def said(sweep: Sweep, which: str) -> tuple[bool, list[str]]:
    """Whether a trial reproduces to the bit, and what was printed."""
    lines: list[str] = []
    return reproduce(sweep.store, sweep.study.name, which, say=lines.append) == "PASS", lines


def test_a_trial_reproduces_seed_by_seed(recorded: Recorded) -> None:
    passed, lines = said(recorded.sweep, "0")
    # each training: two checkpoints of two numbers, and four at the end
    assert (passed, lines[-1]) == (True, "PASS: 24 recorded numbers, every one bit-equal")
    assert "seed {}, {}, {}".format(*trial_seeds(recorded.trials[0], STUDY)) in lines[0]
    for seed in range(SEEDS):
        assert sum(f" seed_{seed}/" in line for line in lines) == 8


def test_a_number_that_was_changed_in_the_second_training_is_found(recorded: Recorded) -> None:
    run, name = recorded.runs[1], "seed_1/final/return_mean"
    wrong = run.data.metrics[name] + 1e-9
    # a newer point at the same step: the record now claims another number
    recorded.sweep.store.runs().log_metric(
        run.info.run_id, name, wrong, timestamp=2**42, step=1_024
    )
    passed, lines = said(recorded.sweep, "1")
    assert not passed
    (verdict,) = [line for line in lines if line.startswith("FAIL")]
    assert verdict.startswith(f"FAIL: first difference: {name} at 1024 steps: recorded {wrong!r}")
    assert verdict.endswith("(1 in all)")


def start(store: Store, study: Study) -> Sweep:
    """A sweep of one trial, with its own pruner as a worker has it."""
    start_sweep(study, store, trials=1, command=["run"])
    return open_sweep(store, study.name, sampler_seed=0)


def run_first(sweep: Sweep) -> tuple[FrozenTrial, Run]:
    """Take trial 0 as a worker does; its two records."""
    objective = objective_of(sweep, check=lambda: None)
    sweep.optuna.optimize(objective, n_trials=1, catch=(Exception,))
    trial = sweep.read_trials().all[0]
    return trial, sweep.store.runs().get_run(trial.user_attrs[RUN_ID])


def test_a_trial_pruned_in_its_second_training_reproduces_up_to_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def should_prune(trial: optuna.Trial) -> bool:
        return 3 in trial.storage.get_trial(trial._trial_id).intermediate_values

    monkeypatch.setattr(optuna.Trial, "should_prune", should_prune)
    sweep = start(store, STUDY)
    trial, run = run_first(sweep)
    assert (trial.state, run.info.status) == (TrialState.PRUNED, "KILLED")
    assert list(trial.intermediate_values) == [1, 2, 3]
    metrics = run.data.metrics
    assert last_return(trial) == metrics["seed_0/final/return_mean"]
    assert "seed_1/eval/return_mean" in metrics
    assert "seed_1/final/return_mean" not in metrics
    assert not [
        name for name in metrics if not name.startswith(("seed_", "cost/"))
    ]  # no mean over one
    passed, lines = said(sweep, "0")
    assert (passed, lines[-1]) == (True, "PASS: 10 recorded numbers, every one bit-equal")


def better_than(study: Study, value: float) -> FrozenTrial:
    """A finished trial of which every final episode of every seed returned this much."""
    space = study.space
    return create_trial(
        params=defaults(space, study.base),
        distributions={range_.parameter: range_.distribution for range_ in space.values()},
        value=value,
        intermediate_values=dict.fromkeys(range(1, study.reports + 1), value),
    )


def test_wilcoxon_ends_a_trial_after_its_first_training_and_it_reproduces(store: Store) -> None:
    sweep = start(store, WILCOXON)
    sweep.optuna.add_trial(better_than(WILCOXON, 1e6))
    trial, run = run_first(sweep)
    assert (trial.state, run.info.status) == (TrialState.PRUNED, "KILLED")
    (returns,) = trial.user_attrs[RETURNS]
    assert trial.intermediate_values == dict(enumerate(returns, start=1))
    assert last_return(trial) == pytest.approx(mean_of(returns))
    assert run.data.metrics["seed_0/final/return_mean"] == pytest.approx(mean_of(returns))
    assert not [name for name in run.data.metrics if not name.startswith(("seed_0/", "cost/"))]
    passed, lines = said(sweep, "0")
    assert (passed, lines[-1]) == (True, "PASS: 8 recorded numbers, every one bit-equal")


def test_a_trial_that_diverged_in_its_second_training_reproduces(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = training_seeds(3, 0, SEEDS)[1]

    def diverge(
        config: TrainConfig | Resolved,
        *,
        on_update: UpdateHook = ignore,
        check: Callable[[], None] = lambda: None,
    ) -> TrainResult:
        def hook(progress: Progress) -> None:
            on_update(progress)
            seed = (config.config if isinstance(config, Resolved) else config).seed
            if seed == second:
                raise Divergence("update 1: loss is nan")

        return train(config, on_update=hook, check=check)

    monkeypatch.setattr(sweeps.run.objective, "train", diverge)
    monkeypatch.setattr(sweeps.reproduce.replay, "train", diverge)
    sweep = start(store, STUDY)
    trial, run = run_first(sweep)
    assert (trial.state, run.info.status) == (TrialState.FAIL, "FAILED")
    assert trial.user_attrs[REASON] == "diverged: update 1: loss is nan"
    passed, lines = said(sweep, "0")
    assert passed, lines
    monkeypatch.setattr(sweeps.reproduce.replay, "train", train)
    passed, lines = said(sweep, "0")
    assert not passed
    assert "ending: recorded 'diverged: update 1: loss is nan', replayed ''" in "".join(lines)


# -- with trainings whose returns are given --------------------------------------------------------


class Script:
    """Stands for `train`: its trainings return what is written, one after another."""

    def __init__(self, result: TrainResult, returns: Sequence[Sequence[float]]) -> None:
        self._result = result
        self._returns = iter(returns)
        self.seeds: list[int] = []

    def __call__(
        self, resolved: Resolved, *, on_update: UpdateHook, check: Callable[[], None]
    ) -> TrainResult:
        config = resolved.config
        self.seeds.append(config.seed)
        returns = tuple(next(self._returns))
        for checkpoint in (1, 2):
            on_update(
                Progress(
                    env_steps=512 * checkpoint,
                    checkpoint=checkpoint,
                    metrics={},
                    evaluation=replace(self._result.checkpoints[0], returns=(float(checkpoint),)),
                    state=dict,
                    policy=self._result.policy,
                )
            )
        return replace(
            self._result, config=config, final=replace(self._result.final, returns=returns)
        )


class FakeRecorder:
    """Stands for a trial's record: keeps what it is given, and refuses it in any other order."""

    def __init__(self) -> None:
        self.configs: list[Resolved] = []
        self.points: list[tuple[int, int]] = []
        """Training and environment steps of every update."""
        self.results: list[TrainResult] = []
        self.scores: list[float] = []
        self.left: list[int] = []
        """The training that a pruned trial left its weights of."""

    def config(self, configs: Sequence[Resolved]) -> None:
        assert not self.configs
        self.configs = list(configs)

    def progress(self, progress: Progress, *, seed: int) -> None:
        assert seed == len(self.results) < len(self.configs)
        self.points.append((seed, progress.env_steps))

    def helped(self, seconds: float, cpu_seconds: float) -> None:
        raise AssertionError("nobody helps")

    def result(self, result: TrainResult, *, seed: int) -> None:
        assert seed == len(self.results)
        assert result.config == self.configs[seed].config
        self.results.append(result)

    def pruned(self, policy: ActorCritic, evaluation: Evaluation, *, seed: int) -> None:
        assert seed in (len(self.results), len(self.results) - 1)
        assert not self.left
        assert evaluation.returns
        assert isinstance(policy, ActorCritic)
        self.left.append(seed)

    def summary(self, results: Sequence[TrainResult], *, score: float) -> None:
        assert list(map(id, results)) == list(map(id, self.results))
        assert not self.scores
        self.scores.append(score)


@dataclass(frozen=True)
class Played:
    """A trial that was run with given returns, and what it has recorded."""

    trial: FrozenTrial
    seeds: list[int]
    """Of the trainings that it began."""
    record: FakeRecorder


Play = Callable[..., Played]


@pytest.fixture
def play(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Run the next trial of an Optuna study with given returns."""

    def played(study: Study, trials: optuna.Study, *returns: Sequence[float]) -> Played:
        script, record = Script(recorded.again[0], returns), FakeRecorder()
        monkeypatch.setattr(sweeps.run.objective, "train", script)
        trials.enqueue_trial(defaults(study.space, study.base))
        objective = Objective(study, lambda _: nullcontext(record), check=lambda: None)
        trials.optimize(objective, n_trials=1)
        return Played(trials.trials[-1], script.seeds, record)

    return played


def in_memory(study: Study) -> optuna.Study:
    """An Optuna study of its own, pruned as the study says."""
    pruner = pruner_of(study)
    return optuna.create_study(direction="maximize", pruner=pruner)


def test_an_objective_records_configs_then_each_training_then_the_score(play: Play) -> None:
    played = play(STUDY, in_memory(STUDY), [1.0, 3.0], [4.0, 6.0], [7.0, 8.0])
    record = played.record
    assert [each.config.seed for each in record.configs] == played.seeds
    assert record.points == [(seed, steps) for seed in range(SEEDS) for steps in (512, 1024)]
    assert [result.final.returns for result in record.results] == [(1, 3), (4, 6), (7, 8)]
    assert record.scores == played.trial.values == [(2.0 + 5.0 + 7.5) / 3]


def test_a_score_is_the_mean_over_as_many_checkpoints_as_the_study_says(
    play: Play, recorded: Recorded
) -> None:
    study = study_of('pruner = "none"', "score_checkpoints = 2", seeds=2)
    trial = play(study, in_memory(study), [1.0, 3.0], [4.0, 6.0]).trial
    before = recorded.again[0].checkpoints[0].return_mean  # the first of two, in both trainings
    # the final evaluation stands for the second one
    assert trial.user_attrs[SEED_SCORES] == [(before + 2.0) / 2, (before + 5.0) / 2]
    assert trial.values == [pytest.approx((before + 3.5) / 2)]
    assert seed_scores(trial) == trial.user_attrs[SEED_SCORES]


def test_a_leader_that_is_trained_again_is_not_pruned(play: Play) -> None:
    study = study_of('pruner = "wilcoxon"', "repeat_from = 0.5", episodes=4)
    trials = in_memory(study)
    play(study, trials, BEST, BEST, BEST)
    assert play(study, trials, *[beaten(100.0)] * SEEDS).trial.state == TrialState.COMPLETE


def test_a_pruned_trial_records_its_finished_trainings_and_no_score(play: Play) -> None:
    trials = in_memory(WILCOXON)
    play(WILCOXON, trials, BEST, BEST, BEST)
    record = play(WILCOXON, trials, BEST, beaten(100.0)).record
    assert (len(record.configs), len(record.results), record.scores) == (SEEDS, 2, [])


def test_a_study_may_score_by_the_interquartile_mean(play: Play) -> None:
    study = study_of('score = "iqm"', 'pruner = "none"', seeds=4, episodes=2)
    trials = in_memory(study)
    trial = play(study, trials, [100.0, 300.0], [-500.0, -500.0], [0.0, 20.0], [30.0, 30.0]).trial
    assert trial.values == [20.0]  # of 200, -500, 10, 30 the middle two
    # eight seeds in all: -500, -9, 8, 9, 10, 30, 70 and 200
    trial = play(study, trials, [8.0, 8.0], [70.0, 70.0], [9.0, 9.0], [-9.0, -9.0]).trial
    assert trial.values == [(8 + 9 + 10 + 30) / 4]


def test_of_an_even_number_of_trainings_the_median_is_the_worse_of_two() -> None:
    four = [70.0, -10.0, 30.0, 50.0]
    assert median_index(four) == 2
    assert median_index(four[:3]) == 2
    assert median_index(four[:1]) == 0
    assert median_index([5.0, 5.0, 5.0]) == 1  # of equals the middle one by number


def test_wilcoxon_is_asked_after_a_training_only_and_not_after_the_last(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []

    def should_prune(trial: optuna.Trial) -> bool:
        asked.append(sorted(trial.study.trials[-1].intermediate_values))
        return False

    monkeypatch.setattr(optuna.Trial, "should_prune", should_prune)
    returns = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 10.0, 11.0, 12.0]]
    trial = play(WILCOXON, in_memory(WILCOXON), *returns).trial
    assert trial.intermediate_values == {step: float(step) for step in range(1, 13)}
    assert [len(steps) for steps in asked] == [4, 8]


BEST = [1000.0, 0.0, -1000.0, 500.0]
"""Episodes that differ more from each other than any two trials do."""


def beaten(by: float) -> list[float]:
    """Worse than BEST on every episode."""
    return [episode - by for episode in BEST]


def test_wilcoxon_ends_a_trial_that_is_a_little_worse_on_every_episode(play: Play) -> None:
    trials = in_memory(WILCOXON)
    best = play(WILCOXON, trials, BEST, BEST, BEST).trial
    played = play(WILCOXON, trials, beaten(1.0))
    # of four signed ranks all are below zero: p = 1 / 2^4, less than 0.1
    assert (played.trial.state, len(played.seeds)) == (TrialState.PRUNED, 1)
    assert last_return(played.trial) == 124.0
    assert best_of(trials.trials) == best


def test_wilcoxon_compares_an_episode_with_the_same_one_of_the_best_trial(play: Play) -> None:
    trials = in_memory(WILCOXON)
    play(WILCOXON, trials, BEST, BEST, BEST)
    other = [episode - 1.0 for episode in reversed(BEST)]  # no worse in two of four
    played = play(WILCOXON, trials, other, other, other)
    assert (played.trial.state, len(played.seeds)) == (TrialState.COMPLETE, SEEDS)


def test_wilcoxon_lets_a_trial_end_that_falls_behind_in_its_last_training(play: Play) -> None:
    trials = in_memory(WILCOXON)
    play(WILCOXON, trials, BEST, BEST, BEST)
    trial = play(WILCOXON, trials, BEST, BEST, beaten(1e6)).trial
    assert trial.state == TrialState.COMPLETE


def test_wilcoxon_ends_a_trial_after_its_second_training(play: Play) -> None:
    trials = in_memory(WILCOXON)
    play(WILCOXON, trials, BEST, BEST, BEST)
    played = play(WILCOXON, trials, BEST, beaten(100.0))
    assert (played.trial.state, len(played.seeds)) == (TrialState.PRUNED, 2)
    assert len(played.trial.user_attrs[RETURNS]) == 2


def test_wilcoxon_with_one_seed_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError) as error:
        study_of('pruner = "wilcoxon"', seeds=1)
    assert str(error.value) == (
        "mini.toml: [study] pruner wilcoxon looks at a trial between its training seeds: "
        "seeds_per_trial must be at least 2, got 1"
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['score = "median"'], "[study] score: input should be 'mean', 'iqm' or 'worst_seed'"),
        (['pruner = "t-test"'], "[study] pruner: input should be 'median', 'hyperband'"),
    ],
)
def test_an_unknown_score_or_pruner_is_refused(lines: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        study_of(*lines)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seeds", [0, 101])
def test_seeds_per_trial_are_1_to_100(seeds: int) -> None:
    with pytest.raises(ConfigError, match="seeds_per_trial: input should be"):
        study_of(seeds=seeds)


def test_the_number_of_seeds_and_the_score_are_part_of_the_fingerprint() -> None:
    studies = [study_of(), study_of(seeds=2), study_of('score = "iqm"')]
    assert len({study.fingerprint for study in studies}) == 3
    assert study_of('pruner = "halving"').fingerprint == study_of().fingerprint
