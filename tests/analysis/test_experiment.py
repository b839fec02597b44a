"""Experiments: what is trained, what is kept, and what README shows of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

import analysis.experiments.experiment
from analysis.__main__ import main
from analysis.experiments.experiment import (
    UNSEEN,
    Experiment,
    Outcome,
    names,
    outcome_of,
    read_experiment,
    read_outcomes,
    run,
    write_outcomes,
)
from analysis.experiments.readme import bench_tables, confirm_table, table_of, write_tables
from analysis.stats import mean_estimate
from lander.config import TrainConfig
from lander.dotted import from_toml
from lander.evaluation import CHECKPOINT_SEED, evaluate
from lander.resolve import resolve
from lander.trainer import Progress, train
from sweeps.study.study import find_study

ROOT = Path(__file__).parent.parent.parent

TINY = """
seeds = [4, 5]
[base]
"env.id" = "Pendulum-v1"
"env.num_envs" = 2
"policy.hidden_sizes" = [4]
"ppo.rollout_steps" = 16
"ppo.minibatch_size" = 32
total_steps = 32
checkpoints = 1
eval_episodes = 1
final_episodes = 1
[variants]
gaussian = {}
[grid]
"policy.head" = ["categorical", "ordinal"]
"env.bins" = [3, 4]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An analysis folder with one tiny experiment."""
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(analysis.experiments.experiment, "HERE", tmp_path)
    return tmp_path


def made_up(experiment: Experiment, variant: str, seed: int, level: float) -> Outcome:
    return Outcome(
        variant=variant,
        seed=seed,
        config=analysis.experiments.experiment.recorded(experiment.variants[variant]),
        env_steps=32,
        returns=(level - 1, level + 1),
        seconds=30.0,
        machine="2 cores, paper",
        versions={},
    )


def test_a_grid_adds_every_combination_to_the_variants(folder: Path) -> None:
    experiment = read_experiment("tiny")
    assert list(experiment.variants) == [
        "gaussian",
        "categorical, 3",
        "categorical, 4",
        "ordinal, 3",
        "ordinal, 4",
    ]
    assert experiment.variants["ordinal, 4"].policy.head == "ordinal"
    assert experiment.variants["ordinal, 4"].env.bins == 4
    assert experiment.variants["gaussian"].env.bins is None
    assert len(list(experiment.trainings())) == 10


def test_the_shipped_experiments_are_valid_and_none_looks_at_the_unseen_episodes() -> None:
    assert names() == ["ancestors", "candidates", "heads", "ladder", "tuned"]
    for name in names():
        experiment = read_experiment(name)
        assert len(experiment.seeds) >= 3
        assert experiment.reference.keys() <= experiment.variants.keys()
    assert max(UNSEEN) < CHECKPOINT_SEED
    assert len(UNSEEN) == 100


def test_the_studies_that_tuned_and_the_configurations_they_found_are_valid() -> None:
    studies = sorted((ROOT / "analysis" / "experiments" / "studies").glob("*.toml"))
    assert len(studies) == 6
    for path in studies:
        assert find_study(str(path)).name == path.stem
        assert (ROOT / "analysis" / "experiments" / "results" / f"{path.stem}.csv").is_file()
    configs = sorted((ROOT / "analysis" / "experiments" / "tuned").glob("*.toml"))
    assert [f"tune-{path.stem}" for path in configs] == [path.stem for path in studies]
    for path in configs:
        config = from_toml(path.read_text(), source=path.name)
        assert resolve(config).config == config
    variants = read_experiment("tuned").variants
    assert len(variants) == 7
    assert variants["four actions, the defaults"] == resolve(TrainConfig()).config


def test_a_variant_may_rest_on_a_file(folder: Path) -> None:
    (folder / "found.toml").write_text('[env]\nid = "CartPole-v1"\nnum_envs = 8\n')
    (folder / "filed.toml").write_text(
        'seeds = [1]\n[base]\n"env.num_envs" = 4\n'
        '[variants.filed]\nconfig = "found.toml"\n"ppo.minibatch_size" = 8\n'
    )
    (config,) = read_experiment("filed").variants.values()
    assert (config.env.id, config.env.num_envs, config.ppo.minibatch_size) == ("CartPole-v1", 8, 8)


def test_a_training_is_recorded_taken_up_again_and_checked_to_the_bit(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = read_experiment("tiny")
    done = {key: made_up(experiment, *key, 1.0) for key in experiment.trainings()}
    del done["ordinal, 3", 5]
    write_outcomes(experiment, done)
    assert main(["run", "tiny", "--jobs", "1"]) == 0
    assert "tiny: 9 of 10 trainings done" in capsys.readouterr().out
    outcome = read_outcomes(experiment)["ordinal, 3", 5]
    policy = train(replace(experiment.variants["ordinal, 3"], seed=5)).policy
    assert outcome.returns == evaluate(policy, "Pendulum-v1", seeds=UNSEEN).returns
    assert outcome.config["policy.head"] == "ordinal"
    assert outcome.curve == ()  # no episode has ended within 32 steps
    assert main(["check", "tiny", "ordinal, 3", "5"]) == 0
    assert main(["check", "tiny", "ordinal, 4", "5"]) == 1  # made up


def test_one_training_that_fails_does_not_lose_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Pool(ThreadPoolExecutor):
        def __init__(self, jobs: int, **_: object) -> None:
            super().__init__(jobs)

    def trained(variant: str, seed: int, config: TrainConfig) -> Outcome:
        if (variant, seed) == ("ordinal, 3", 4):
            raise ValueError("diverged")
        return made_up(experiment, variant, seed, 1.0)

    experiment = read_experiment("tiny")
    monkeypatch.setattr(analysis.experiments.experiment, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(analysis.experiments.experiment, "outcome_of", trained)
    with pytest.raises(RuntimeError, match="1 of 10 trainings failed, the first: ordinal, 3, seed"):
        run(experiment, jobs=1)
    assert set(read_outcomes(experiment)) == {*experiment.trainings()} - {("ordinal, 3", 4)}
    assert "failed: ordinal, 3, seed 4: diverged" in capsys.readouterr().err


def test_ctrl_c_keeps_what_has_ended_and_begins_nothing_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, int]] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, jobs: int, **_: object) -> None:
            super().__init__(jobs)

    def trained(variant: str, seed: int, config: TrainConfig) -> Outcome:
        begun.append((variant, seed))
        if len(begun) == 3:
            raise KeyboardInterrupt
        if len(begun) > 3:
            ended.wait()
        return made_up(experiment, variant, seed, 1.0)

    def shutdown(self: ThreadPoolExecutor, wait: bool = True, **given: bool) -> None:
        ThreadPoolExecutor.shutdown(self, wait=False, **given)
        ended.set()
        ThreadPoolExecutor.shutdown(self, wait=wait)

    experiment, ended = read_experiment("tiny"), Event()
    monkeypatch.setattr(Pool, "shutdown", shutdown)
    monkeypatch.setattr(analysis.experiments.experiment, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(analysis.experiments.experiment, "outcome_of", trained)
    with pytest.raises(KeyboardInterrupt):
        run(experiment, jobs=1)
    assert len(begun) <= 4  # one may have been under way
    assert set(read_outcomes(experiment)) == {*begun} - {begun[2]}


def test_what_is_recorded_of_variants_no_longer_in_the_file_stays(folder: Path) -> None:
    experiment = read_experiment("tiny")
    outcomes = {key: made_up(experiment, *key, level=1.0) for key in experiment.trainings()}
    write_outcomes(experiment, outcomes)
    file = folder / "results" / "tiny.jsonl"
    before = file.read_text().splitlines()
    path = folder / "tiny.toml"
    path.write_text(TINY.replace('["categorical", "ordinal"]', '["ordinal"]'))
    fewer = read_experiment("tiny")
    write_outcomes(fewer, read_outcomes(fewer))
    assert sorted(file.read_text().splitlines()) == sorted(before)
    path.write_text(TINY)
    assert read_outcomes(experiment) == outcomes


def test_results_that_cannot_be_written_are_refused_before_training(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "results").write_text("a file")
    assert main(["run", "tiny"]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_outcomes_of_another_configuration_are_not_counted(folder: Path) -> None:
    experiment = read_experiment("tiny")
    write_outcomes(experiment, {key: made_up(experiment, *key, 1.0) for key in [("gaussian", 4)]})
    assert list(read_outcomes(experiment)) == [("gaussian", 4)]
    longer = TINY.replace("total_steps = 32", "total_steps = 64")
    (folder / "tiny.toml").write_text(longer)
    assert read_outcomes(read_experiment("tiny")) == {}


def test_outcomes_of_before_there_were_curves_are_read(folder: Path) -> None:
    experiment = read_experiment("tiny")
    write_outcomes(experiment, {("gaussian", 4): made_up(experiment, "gaussian", 4, 1.0)})
    (path,) = (folder / "results").iterdir()
    fields = json.loads(path.read_text())
    assert (fields.pop("sampled"), fields.pop("curve")) == ([], [])
    path.write_text(json.dumps(fields) + "\n")
    outcome = read_outcomes(experiment)["gaussian", 4]
    assert (outcome.returns, outcome.sampled, outcome.curve) == ((0.0, 2.0), (), ())


def test_a_curve_is_the_mean_training_return_between_checkpoints_and_comes_back_from_the_file(
    folder: Path,
) -> None:
    """Two checkpoints of two updates each; in each update an episode ends."""
    cart_pole = TINY.replace("Pendulum-v1", "CartPole-v1").replace(
        "checkpoints = 1", '"env.time_limit" = 15'
    )
    cart_pole = cart_pole.replace("total_steps = 32", "total_steps = 128\ncheckpoints = 2")
    cart_pole = cart_pole.partition("[variants]")[0] + "[variants]\nplain = {}\n"
    (folder / "poles.toml").write_text(cart_pole)
    experiment = read_experiment("poles")
    outcome = outcome_of("plain", 4, experiment.variants["plain"])
    points: list[Progress] = []
    policy = train(replace(experiment.variants["plain"], seed=4), on_update=points.append).policy
    one, two, three, four = (point.metrics["train/return_mean"] for point in points)
    assert outcome.curve == ((64, (one + two) / 2), (128, (three + four) / 2))
    sampling = torch.Generator().manual_seed(4)
    flights = evaluate(policy, "CartPole-v1", seeds=UNSEEN, generator=sampling)
    assert outcome.sampled == flights.returns != outcome.returns
    write_outcomes(experiment, {("plain", 4): outcome})
    assert read_outcomes(experiment) == {("plain", 4): outcome}
    for recorded, code in (
        (outcome, 0),
        (replace(outcome, sampled=(), curve=()), 0),  # an older one
        (replace(outcome, sampled=outcome.returns), 1),
        (replace(outcome, curve=outcome.curve[1:]), 1),
    ):
        write_outcomes(experiment, {("plain", 4): recorded})
        assert main(["check", "poles", "plain", "4"]) == code


def test_the_table_shows_heads_by_bins_and_what_the_order_adds(folder: Path) -> None:
    experiment = read_experiment("tiny")
    levels = {"gaussian": 5.0, "categorical, 3": 10.0, "categorical, 4": 20.0}
    levels |= {"ordinal, 3": 13.0, "ordinal, 4": 21.0}
    outcomes = {
        (variant, seed): made_up(
            experiment, variant, seed, levels[variant] + seed * (1.5 if "ordinal" in variant else 1)
        )
        for variant, seed in experiment.trainings()
    }
    write_outcomes(experiment, outcomes)
    head, _, three, four, *_, sentence = table_of("tiny").strip().splitlines()
    assert head == "| bins | gaussian | categorical | ordinal |"
    # seeds 4 and 5: mean 4.5 above the level, Student's 12.706 * 0.7071 / sqrt(2) = 6.4 around it
    assert three == "| 3 | 9.5 [3.1, 15.9] | 14.5 [8.1, 20.9] | 19.8 [10.2, 29.3] |"
    assert four == "| 4 | 9.5 [3.1, 15.9] | 24.5 [18.1, 30.9] | 27.8 [18.2, 37.3] |"
    # 5, 5.5, 3, 3.5: mean 4.25, Student's 3.182 * 1.1902 / 2 = 1.9 around it; 5.25 +- 12.706 / 4
    assert "4 pairs of equal bins and seed: 4.2 [2.4, 6.1]." in sentence
    assert sentence.endswith("3 bins 5.2 [2.1, 8.4]; 4 bins 3.2 [0.1, 6.4].")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "tinny"], 'unknown experiment "tinny": did you mean tiny?'),
        (["check", "tiny", "gaussian", "9"], 'unknown training "gaussian 9"'),
        (["tables", "absent.md"], "cannot read absent.md"),
        (["run"], "name"),
    ],
)
def test_bad_input_is_one_line(
    argv: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("analysis: ")
    assert message in err
    assert err.count("\n") == 1


def test_tables_are_refused_while_trainings_are_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = folder / "README.md"
    document.write_text("<!-- experiment: tiny -->\n<!-- end -->\n")
    assert main(["tables", str(document)]) == 2
    assert "10 trainings of tiny are missing" in capsys.readouterr().err
    assert document.read_text() == "<!-- experiment: tiny -->\n<!-- end -->\n"


def test_the_interval_of_a_mean_is_students() -> None:
    estimate = mean_estimate([1.0, 2.0, 3.0])  # 4.3027 * 1 / sqrt(3)
    assert estimate.value == 2.0
    assert (estimate.low, estimate.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)
    assert np.isfinite(estimate.low)


def test_readme_shows_what_the_benchmark_measured() -> None:
    shown = (ROOT / "README.md").read_text().partition("<!-- bench -->\n")[2]
    assert shown.partition("<!-- end -->")[0] == bench_tables()


def test_readme_shows_the_confirmation_whose_pictures_it_shows(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    shown = text.partition("<!-- confirm -->\n")[2].partition("<!-- end -->")[0]
    assert shown == confirm_table()
    assert "optimism gap" in shown
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- confirm -->\nold\n<!-- end -->\nafter\n")
    write_tables(document)
    assert document.read_text() == (
        f"before\n<!-- confirm -->\n{confirm_table()}<!-- end -->\nafter\n"
    )


@pytest.mark.parametrize("name", ["ancestors", "heads", "tuned"])
def test_readme_shows_the_recorded_outcomes(name: str) -> None:
    shown = (ROOT / "README.md").read_text().partition(f"<!-- experiment: {name} -->\n")[2]
    assert shown.partition("<!-- end -->")[0] == table_of(name)
