"""The landscape: what is exported of a study that draws its points, and trained again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import analysis.experiments.results
import sweeps.study.study
from analysis.__main__ import main
from analysis.experiments.landscape import Measured, lines_of, read_measured
from analysis.experiments.results import UNSEEN, recorded, results_path
from lander.config import TrainConfig
from lander.dotted import configure
from lander.evaluation import evaluate
from lander.trainer import Progress, train
from sweeps.lifecycle.start import start_sweep
from sweeps.run.objective import point_seed
from sweeps.run.worker import work
from sweeps.store.store import Store
from sweeps.study.study import find_study, shipped_studies

RESULTS = Path(__file__).parents[2] / "analysis" / "experiments" / "results"
DRAWN = """
[study]
name = "drawn"
points = 2
training_seeds = 2
[base]
"env.id" = "CartPole-v1"
"env.num_envs" = 2
"policy.hidden_sizes" = [4]
"ppo.rollout_steps" = 32
"ppo.minibatch_size" = 32
total_steps = 128
checkpoints = 2
eval_episodes = 1
final_episodes = 3
[space]
"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study and results of their own."""
    (tmp_path / "drawn.toml").write_text(DRAWN)
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(analysis.experiments.results, "HERE", tmp_path)
    monkeypatch.setattr(sweeps.study.study, "SHIPPED", tmp_path)
    return tmp_path


def made_up(seed: int, *, rate: float) -> Measured:
    return Measured(
        point="0",
        seed=seed,
        config={"ppo.learning_rate": rate, "total_steps": 128},
        checkpoints=(1.25, 2.5),
        final=3.0,
        report=4.0,
        success=0.5,
        seconds=1.0,
        machine="paper",
        versions={"torch": "1.0"},
    )


def test_the_landscape_is_one_of_the_default_study() -> None:
    landscape, default = find_study("landscape"), find_study("lander")
    assert recorded(landscape.base) == recorded(default.base)
    assert landscape.space == default.space
    assert landscape.settings.points == 96
    assert landscape.settings.seed_count == 6


def test_closer_points_lie_in_the_space_of_the_default_study() -> None:
    default = find_study("lander")
    for name in [name for name in shipped_studies() if name.startswith("landscape")]:
        closer = find_study(name)
        assert recorded(closer.base) == recorded(default.base)
        assert closer.settings.seed_count == 6
        assert list(closer.space) == list(default.space)
        for field, range_ in closer.space.items():
            assert all(
                default.space[field].holds(range_.parameter_value(end)) for end in range_.ends()
            )


def test_every_file_of_results_is_small() -> None:
    assert all(path.stat().st_size <= 2_000_000 for path in RESULTS.iterdir())


def test_a_file_says_once_what_trainings_share(folder: Path) -> None:
    trainings = [made_up(7, rate=0.1), made_up(8, rate=0.1), made_up(7, rate=0.2)]
    first, *rest = lines_of(iter(trainings))
    assert json.loads(first) == {
        "config": {"ppo.learning_rate": 0.1, "total_steps": 128},
        "machine": "paper",
        "versions": {"torch": "1.0"},
    }
    assert [json.loads(line)["config"] for line in rest] == [{}, {}, {"ppo.learning_rate": 0.2}]
    assert all(len(line) < 180 for line in rest)
    results_path("drawn").write_text("\n".join([first, *rest[1:]]))
    assert read_measured("drawn") == {("0", 8): trainings[1], ("0", 7): trainings[2]}
    assert read_measured("absent") == {}


def test_drawn_points_are_exported_and_trained_again(
    folder: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    study = find_study("drawn")
    start_sweep(study, store, trials=None, command=["run"])
    assert main(["export", "drawn", "--store", str(store.folder)]) == 2
    assert "4 trainings of drawn are missing, the first: 0, seed" in capsys.readouterr().err
    work(store, "drawn", index=0, seconds=None)
    assert main(["export", "drawn", "--store", str(store.folder)]) == 0
    exported = read_measured("drawn")
    seeds = [point_seed(study, 0), point_seed(study, 1)]
    assert list(exported) == [(point, seed) for seed in seeds for point in ("0", "1")]
    assert exported["0", seeds[0]].config == recorded(study.base)

    one = exported["1", seeds[1]]
    assert one.config == recorded(study.base) | {
        "ppo.learning_rate": one.config["ppo.learning_rate"]
    }
    points: list[Progress] = []
    config = configure({**one.config, "seed": one.seed}, base=TrainConfig())
    result = train(config, on_update=points.append)
    reached = [p.evaluation.return_mean for p in points if p.evaluation is not None]
    assert one.checkpoints == tuple(round(value, 2) for value in reached)
    assert one.final == round(result.final.return_mean, 2)  # Optuna's value is that of both seeds
    unseen = evaluate(result.policy, "CartPole-v1", seeds=UNSEEN)
    assert one.report == round(unseen.return_mean, 2)
    assert one.success == unseen.success_rate(475.0)

    capsys.readouterr()
    for written, code in (
        (one, 0),
        (replace(one, report=one.report + 0.01), 1),
        (replace(one, checkpoints=(one.checkpoints[0] + 0.01, one.checkpoints[1])), 1),
    ):
        results_path("drawn").write_text("\n".join(lines_of(iter([written]))))
        assert main(["check", "drawn", "1", str(one.seed)]) == code
        assert ("PASS" if code == 0 else "FAIL") in capsys.readouterr().out
