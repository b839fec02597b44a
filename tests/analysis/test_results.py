"""Results of studies with points: what is exported, trained again, and shown by a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import analysis.experiments.documents
import analysis.experiments.results
import sweeps.study.study
from analysis.__main__ import main
from analysis.experiments.check import check, read
from analysis.experiments.documents import (
    TO_SB3,
    confirm_table,
    elsewhere_table,
    references,
    speed_sentence,
    table_of,
    verdict_table,
    write_tables,
)
from analysis.experiments.results import (
    UNSEEN,
    Outcome,
    curve_of,
    names,
    read_outcomes,
    read_results,
    recorded,
    results_path,
    trainings,
)
from analysis.stats import mean_estimate
from lander.config import TrainConfig
from lander.dotted import flatten, from_toml
from lander.errors import ConfigError
from lander.evaluation import evaluate
from lander.resolve import resolve
from lander.seeds import CHECKPOINT_SEED, final_seeds
from lander.trainer import Progress, train
from sweeps.lifecycle.start import start_sweep
from sweeps.record.provenance import environment
from sweeps.run.worker import work
from sweeps.schema import CPU_MODEL
from sweeps.store.store import Store
from sweeps.study.space import MEASURES
from sweeps.study.study import Study, find_study
from tests.studies import changed

ROOT = Path(__file__).parent.parent.parent

GRID = """
[study]
name = "tiny"
training_seeds = [4, 5]
[base]
"env.id" = "Pendulum-v1"
[points.gaussian]
[points."categorical, 3"]
"policy.head" = "categorical"
"env.bins" = 3
[points."categorical, 4"]
"policy.head" = "categorical"
"env.bins" = 4
[points."ordinal, 3"]
"policy.head" = "ordinal"
"env.bins" = 3
[points."ordinal, 4"]
"policy.head" = "ordinal"
"env.bins" = 4
"""

POLES = """
[study]
name = "poles"
training_seeds = [4]
[base]
"env.id" = "CartPole-v1"
"env.num_envs" = 2
"env.time_limit" = 15
"policy.hidden_sizes" = [4]
"ppo.rollout_steps" = 16
"ppo.minibatch_size" = 32
total_steps = 128
checkpoints = 2
eval_episodes = 1
final_episodes = 3
final_seeds = "report"
[points.plain]
[points.shared]
"policy.trunk" = "shared"
"""
"""Two checkpoints of two updates each; in each update an episode ends."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Studies and results of their own: two studies, no results."""
    (tmp_path / "tiny.toml").write_text(GRID)
    (tmp_path / "poles.toml").write_text(POLES)
    (tmp_path / "reference.toml").write_text("")
    monkeypatch.setattr(analysis.experiments.results, "HERE", tmp_path)
    monkeypatch.setattr(analysis.experiments.documents, "HERE", tmp_path)
    monkeypatch.setattr(sweeps.study.study, "SHIPPED", tmp_path)
    return tmp_path


def made_up(study: Study, point: str, seed: int, level: float) -> Outcome:
    return Outcome(
        point=point,
        seed=seed,
        config=recorded(study.points[point]),
        env_steps=32,
        returns=(level - 1, level + 1),
        seconds=30.0,
        machine="2 cores, paper",
        versions={"torch": "1.0"},
    )


def write(*outcomes: Outcome) -> None:
    """The results of the study `tiny`."""
    path = results_path("tiny")
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{outcome.line}\n" for outcome in outcomes))


def test_shipped_points_have_seeds_and_results_on_unseen_episodes() -> None:
    named = [name for name in names() if find_study(name).points]
    assert named == ["ancestors", "candidates", "epochs", "heads", "ladder", "tuned", "winners"]
    for name in named:
        study = find_study(name)
        assert study.settings.seed_count >= 3
        assert final_seeds(study.base) == UNSEEN
        assert references(name).keys() <= study.points.keys()
        assert list(read_outcomes(name)) == trainings(study)
        assert sum(map(len, read_results(study).values())) == study.settings.trials
    assert max(UNSEEN) < CHECKPOINT_SEED
    assert len(UNSEEN) == 100


def test_the_points_of_tuned_are_the_files_that_a_user_may_train(tmp_path: Path) -> None:
    points = find_study("tuned").points
    files = {
        "four actions, 1M": "discrete-1m",
        "two engines, 9 ordered bins, 1M": "bins-1m",
        "two engines, Gaussian, 1M": "gaussian-1m",
        "four actions, 200k": "discrete-200k",
        "two engines, 5 bins, 200k": "bins-200k",
        "two engines, Gaussian, 200k": "gaussian-200k",
    }

    def trained(config: TrainConfig) -> dict[str, object]:
        return {name: value for name, value in flatten(config).items() if name not in MEASURES}

    for point, name in files.items():
        path = ROOT / "analysis" / "experiments" / "tuned" / f"{name}.toml"
        config = from_toml(path.read_text(), source=path.name)
        assert resolve(config).config == config
        assert trained(points[point]) == trained(config)
    assert trained(points["four actions, the defaults"]) == trained(resolve(TrainConfig()).config)
    assert len(points) == len(files) + 1


def test_the_studies_that_tuned_are_valid() -> None:
    studies = sorted((ROOT / "analysis" / "experiments" / "studies").glob("*.toml"))
    assert len(studies) == 6
    for path in studies:
        assert find_study(str(path)).name == path.stem
        assert (ROOT / "analysis" / "experiments" / "results" / f"{path.stem}.csv").is_file()


def test_results_are_exported_from_records_and_retrained_without_them(
    folder: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    study = find_study("poles")
    start_sweep(study, store, trials=None, command=["run"])
    assert main(["export", "poles", "--store", str(store.folder)]) == 2
    assert "2 trainings of poles are missing, the first: plain, seed 4" in capsys.readouterr().err
    assert not results_path("poles").exists()
    work(store, "poles", index=0, seconds=None)
    (folder / "results").write_text("a file")
    capsys.readouterr()
    assert main(["export", "poles", "--store", str(store.folder)]) == 2
    assert capsys.readouterr().err.startswith(f"analysis: cannot write {folder}")
    (folder / "results").unlink()
    assert main(["export", "poles", "--store", str(store.folder)]) == 0
    outcome, _ = (outcomes[0] for outcomes in read_results(study).values())

    points: list[Progress] = []
    result = train(replace(study.points["plain"], seed=4), on_update=points.append)
    one, two, three, four = (point.metrics["train/return_mean"] for point in points)
    assert outcome.curve == ((64, (one + two) / 2), (128, (three + four) / 2))
    assert outcome.returns == result.final.returns
    assert result.final.seeds == tuple(UNSEEN[:3])
    sampling = torch.Generator().manual_seed(4)
    sampled = evaluate(result.policy, "CartPole-v1", seeds=UNSEEN[:3], generator=sampling)
    assert outcome.sampled == sampled.returns != outcome.returns
    assert outcome.config == recorded(study.points["plain"])
    assert outcome.versions.keys() == {"torch", "gymnasium", "numpy"}

    for written, code in (
        (outcome, 0),
        (replace(outcome, sampled=(), curve=()), 0),  # an older one
        (replace(outcome, returns=outcome.sampled), 1),
        (replace(outcome, sampled=outcome.returns), 1),
        (replace(outcome, curve=((64, 1.0), (128, 2.0))), 1),
    ):
        results_path("poles").write_text(f"{written.line}\n")
        assert main(["check", "poles", "plain", "4"]) == code
        assert ("PASS" if code == 0 else "FAIL") in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_a_shipped_result_is_of_todays_bits(name: str) -> None:
    results = read(name)
    (point, seed), result = min(results.items(), key=lambda one: one[1].config["total_steps"])
    if result.machine != environment()[CPU_MODEL]:
        pytest.skip(f"trained on another processor: {result.machine}")
    assert check(name, point, seed)


def test_a_check_that_fails_says_what_differs_and_which_versions_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(made_up(find_study("tiny"), "gaussian", 4, 1.0))
    text = results_path("tiny").read_text().replace('"total_steps": 300000', '"total_steps": 2048')
    results_path("tiny").write_text(text.replace('"checkpoints": 5', '"checkpoints": 1'))
    assert main(["check", "tiny", "gaussian", "4"]) == 1
    verdict, difference, changes = capsys.readouterr().out.splitlines()
    assert verdict.startswith("tiny, gaussian, seed 4: recorded 1.0, replayed -")
    assert difference.startswith("final episode 0 at 32 steps: recorded 0.0, replayed ")
    assert changes.startswith("version.torch: recorded 1.0, here ")


def test_a_curve_is_the_mean_between_checkpoints_that_have_an_episode() -> None:
    returns = [(16, 1.0), (32, 3.0), (64, 5.0)]
    assert curve_of(returns, [32, 48, 64]) == ((32, 2.0), (64, 5.0))
    assert curve_of([], [32]) == ()


def test_outcomes_of_other_configurations_or_removed_points_are_not_shown(
    folder: Path,
) -> None:
    study = find_study("tiny")
    write(*(made_up(study, point, seed, 1.0) for point, seed in trainings(study)))
    assert sum(map(len, read_results(study).values())) == 10
    for changes, missing in (
        ({"[base]\n": "[base]\ntotal_steps = 64_000\n"}, 10),
        ({'"ordinal"\n"env.bins" = 4': '"ordinal"\n"env.bins" = 5'}, 2),
        ({"[4, 5]": "[4, 5, 6]"}, 5),
    ):
        (folder / "tiny.toml").write_text(changed(GRID, changes))
        with pytest.raises(ConfigError, match=f"^{missing} trainings of tiny are missing: make"):
            read_results(find_study("tiny"))
    (folder / "tiny.toml").write_text(changed(GRID, {"[4, 5]": "[5]"}))
    assert [some[0].seed for some in read_results(find_study("tiny")).values()] == [5] * 5


def test_the_table_shows_heads_by_bins_and_what_the_order_adds(folder: Path) -> None:
    study = find_study("tiny")
    levels = {"gaussian": 5.0, "categorical, 3": 10.0, "categorical, 4": 20.0}
    levels |= {"ordinal, 3": 13.0, "ordinal, 4": 21.0}
    write(
        *(
            made_up(study, point, seed, levels[point] + seed * (1.5 if "ordinal" in point else 1))
            for point, seed in trainings(study)
        )
    )
    head, _, three, four, *_, sentence = table_of("tiny").strip().splitlines()
    assert head == "| bins | gaussian | categorical | ordinal |"
    # seeds 4 and 5: mean 4.5 above the level, Student's 12.706 * 0.7071 / sqrt(2) = 6.4 around it
    assert three == "| 3 | 9.5 [3.1, 15.9] | 14.5 [8.1, 20.9] | 19.8 [10.2, 29.3] |"
    assert four == "| 4 | 9.5 [3.1, 15.9] | 24.5 [18.1, 30.9] | 27.8 [18.2, 37.3] |"
    # 5, 5.5, 3, 3.5: mean 4.25, Student's 3.182 * 1.1902 / 2 = 1.9 around it; 5.25 +- 12.706 / 4
    assert "4 pairs of equal bins and seed: 4.2 [2.4, 6.1]." in sentence
    assert sentence.endswith("3 bins 5.2 [2.1, 8.4]; 4 bins 3.2 [0.1, 6.4].")


def test_the_table_compares_what_sweeps_recommend_with_their_base(folder: Path) -> None:
    levels = {
        "the base": 10.0,
        "recommended, study seed 1": 20.0,
        "recommended, study seed 2": 10.5,
        "best observed, study seed 1": 9.0,
        "best observed, study seed 2": 11.0,
    }
    points = "".join(
        f'[points."{point}"]\n"ppo.learning_rate" = 0.00{at}\n'
        for at, point in enumerate(levels, 1)
    )
    (folder / "tiny.toml").write_text(GRID.partition("[points")[0] + points)
    study = find_study("tiny")
    write(
        *(
            made_up(study, point, seed, levels[point] + (seed - 4))
            for point, seed in trainings(study)
        )
    )
    head, _, base, one, two, *_, sentence = table_of("tiny").strip().splitlines()
    assert head == "|  | return | worst seed | seeds at 200 | better than the base |"
    # seeds 4 and 5: 0 and 1 above the level, Student's 12.706 * 0.7071 / sqrt(2) = 6.4
    assert base == "| the base | 10.5 [4.1, 16.9] | 10.0 | 0 of 2 |  |"
    # 20 and 21 beat 10 and 11 in 4 of 4 pairs; 10.5 and 11.5 in 3 of 4
    assert one.startswith(
        "| recommended, study seed 1 | 20.5 [14.1, 26.9] | 20.0 | 0 of 2 | 1.00 ["
    )
    assert two.startswith("| recommended, study seed 2 | 11.0 [4.6, 17.4] | 10.5 | 0 of 2 | 0.75 [")
    assert sentence == (
        "**Worth of what 2 sweeps recommend**: median 15.8, worst 11.0. Of the best observed: "
        "median 10.5, worst 9.5; the recommended one returns more under 1 of 2 study seeds. The "
        "best of this table: recommended, study seed 1, 20.5."
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["check", "tinny", "gaussian", "4"],
            'unknown study with results "tinny": did you mean',
        ),
        (["check", "tiny", "gaussian", "9"], 'unknown training "gaussian 9"'),
        (["export", "absent"], "no sweep in mlruns yet: start one with"),
        (["tables", "absent.md"], "cannot read absent.md"),
        (["check", "tiny"], "point"),
    ],
)
def test_bad_input_is_one_line(
    argv: list[str],
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(made_up(find_study("tiny"), "gaussian", 4, 1.0))
    monkeypatch.chdir(folder)
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("analysis: ")
    assert message in line


def test_tables_are_refused_while_trainings_are_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(made_up(find_study("tiny"), "gaussian", 4, 1.0))
    document = folder / "README.md"
    document.write_text("<!-- experiment: tiny -->\n<!-- end -->\n")
    assert main(["tables", str(document)]) == 2
    assert "9 trainings of tiny are missing" in capsys.readouterr().err
    assert document.read_text() == "<!-- experiment: tiny -->\n<!-- end -->\n"


def test_the_interval_of_a_mean_is_students() -> None:
    estimate = mean_estimate([1.0, 2.0, 3.0])  # 4.3027 * 1 / sqrt(3)
    assert estimate.value == 2.0
    assert (estimate.low, estimate.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)
    assert np.isfinite(estimate.low)


def test_the_blocks_of_a_page_are_replaced_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(
        "a\n<!-- confirm -->\nold\n<!-- end -->\nb\n<!-- verdict -->\n<!-- end -->\nc\n"
    )
    write_tables(document)
    assert document.read_text() == (
        f"a\n<!-- confirm -->\n{confirm_table()}<!-- end -->\n"
        f"b\n<!-- verdict -->\n{verdict_table()}<!-- end -->\nc\n"
    )


def test_a_verdict_is_the_last_table_and_what_follows_its_legend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "| choice |\n|---|\n\n| report |\n|---|\n\n*legend*\n\n**verdict**\n\nlast\n"
    (tmp_path / "confirm.md").write_text(text)
    monkeypatch.setattr(analysis.experiments.documents, "FIGURES", tmp_path)
    assert verdict_table() == "\n| report |\n|---|\n\n**verdict**\n\nlast\n\n"


def test_the_speed_of_the_whole_is_that_of_the_main_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        "a default sweep, s": "200",
        "its environment steps": "5,000",
        "trials": "9",
        TO_SB3: "3.5",
    }
    lines = "".join(f"| {name} | {now} | 1 | 2 |\n" for name, now in rows.items())
    later = "## Later\n| a default sweep, s | 7 | 8 | 9 |\n"
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "bench.md").write_text(f"# Benchmark\n{lines}{later}")
    monkeypatch.setattr(analysis.experiments.documents, "HERE", tmp_path)
    assert speed_sentence() == (
        "\nA default sweep of 9 trials takes 200 s with two workers, for 5,000 environment steps. "
        "At the hyperparameters of rl-zoo, training is 3.5 times as fast as Stable-Baselines3.\n\n"
    )


def test_a_gain_elsewhere_is_shown_beside_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis.experiments.documents, "HERE", tmp_path)
    made = {"machine": "a machine", "versions": {"stable-baselines3": "9.8.7"}}
    rows = [
        {"config": "best", "base": False, "seed": 1, "returns": [240.0, 260.0]},
        {"config": "start", "base": True, "seed": 2, "returns": [180.0, 190.0]},
        {"config": "start", "base": True, "seed": 1, "returns": [205.0, 205.0]},
        {"config": "best", "base": False, "seed": 2, "returns": [190.0, 190.0]},
    ]
    (tmp_path / "results").mkdir()
    text = json.dumps([row | made for row in rows])
    (tmp_path / "results" / "elsewhere.json").write_text(text)
    _, head, _, base, best, _, origin, *_ = elsewhere_table().split("\n")
    assert head == "|  | return | worst seed | seeds at 200 | better than the base |"
    # means 205 and 185, 250 and 190: half apart, times Student's 12.706
    assert base == "| the base | 195.0 [67.9, 322.1] | 185.0 | 1 of 2 |  |"
    assert best.startswith("| best | 220.0 [-161.2, 601.2] | 190.0 | 1 of 2 | 0.75 [")
    assert origin.startswith(
        "*In Stable-Baselines3 9.8.7: mean return of 2 deterministic flights, "
    )
    assert "reset seeds 10000 to 10001, averaged over training seeds 1, 2;" in origin
    assert origin.endswith("One training to a core of a machine.*")
