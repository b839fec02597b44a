"""What a sweep takes is said before it trains: by its own trials, or by a probe."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from statistics import mean

import pytest

import sweeps.run.forecast
from lander.config import TrainConfig
from lander.dotted import configure
from lander.pace import Pace, pace_of
from lander.resolve import resolve
from sweeps.cli import MOST_HOURS, hours
from sweeps.endings import seconds
from sweeps.run.forecast import (
    ENOUGH,
    Cost,
    by_probe,
    by_records,
    cost_of,
    forecast,
    saved,
    spelled,
    takes,
)
from sweeps.store.store import Store
from sweeps.study.study import Study, find_study, read_study
from sweeps.sweep import open_sweep
from tests.studies import MINI, QUICK, TINY, TWO_SEEDS, changed
from tests.sweeps.conftest import Command

LONG = changed(QUICK, {"total_steps = 128": "total_steps = 640_000"})
PACE = Pace(step=1e-4, gradient=1e-3)


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """A machine of known pace, and the configs that were measured on it; two cores."""
    measured: list[TrainConfig] = []

    def pace(config: TrainConfig, *, seconds: float) -> Pace:
        measured.append(config)
        return PACE

    monkeypatch.setattr(sweeps.run.forecast, "pace_of", pace)
    monkeypatch.setattr(sweeps.run.forecast, "usable_cores", lambda: 2)
    return measured


def study_of(text: str) -> Study:
    return read_study(text, source="study.toml")


def arguments(**given: object) -> Namespace:
    fixed = {"trials": None, "workers": None, "launcher": "local", "hours": None}
    return Namespace(**{**fixed, **given})


def test_a_training_is_its_steps_and_its_gradient_steps() -> None:
    values = {
        "env.id": "CartPole-v1",
        "env.num_envs": 4,
        "ppo.rollout_steps": 16,
        "ppo.minibatch_size": 32,
        "ppo.update_epochs": 3,
        "total_steps": 1_000,  # 15 rollouts of 64
        "checkpoints": 2,
        "eval_episodes": 3,
        "final_episodes": 10,
        "sampled_episodes": 4,
    }
    config = configure(values, base=TrainConfig())
    assert PACE.training(config) == pytest.approx(960 * 1e-4 + 15 * 3 * 2 * 1e-3)
    # 20 episodes of 100 steps, or of CartPole's 500
    assert PACE.evaluation(config) == pytest.approx((0.2, 1.0))


def test_the_pace_of_a_config_is_measured_until_it_is_warm() -> None:
    values = {"env.id": "CartPole-v1", "env.num_envs": 2, "ppo.rollout_steps": 32}
    config = configure(
        values | {"ppo.minibatch_size": 64, "total_steps": 64, "checkpoints": 1}, base=TrainConfig()
    )
    pace = pace_of(resolve(config).config, seconds=0.0)
    assert 0 < pace.step < 1
    assert 0 < pace.gradient < 1


def test_a_probe_gives_the_span_between_short_and_long_episodes(
    probes: list[TrainConfig],
) -> None:
    study = study_of(
        changed(
            LONG,
            {
                '"ppo.update_epochs" = { low = 1, high = 2 }': "",
                "trials = 3": 'trials = 3\nsampler = "random"\npruner = "none"',
            },
        )
    )
    cost = by_probe(study, trials=3)
    training = 640_000 * 1e-4 + 10_000 * 1e-3
    assert probes[0] == study.base
    least, most = cost.whole
    config = study.base
    played = config.checkpoints * config.eval_episodes + config.final_episodes
    played += config.sampled_episodes
    assert least == pytest.approx(training + 1.0 + played * 100 * 1e-4)
    assert most == pytest.approx(training + 1.0 + played * 500 * 1e-4)
    assert cost.each == cost.whole


def test_several_seeds_and_passes_make_a_trial_dearer(probes: list[TrainConfig]) -> None:
    text = changed(TWO_SEEDS, {"total_steps = 256": "total_steps = 256_000"})
    one = changed(text, {"seeds_per_trial = 2\n": ""})
    two, single = (by_probe(study_of(study), trials=2).whole for study in (text, one))
    assert two == pytest.approx((2 * single[0], 2 * single[1]))
    # twice the passes at most: some points of the space have one, some two
    low, high = by_probe(study_of(LONG), trials=3).whole
    assert 640_000 * 1e-4 + 10_000 * 1e-3 < low < high
    assert high < 640_000 * 1e-4 + 20_000 * 1e-3 + 2


def test_pruning_and_repetition_are_a_range() -> None:
    study = find_study("lander")
    # of 30 trials 15 explore, the first 8 of them unpruned; half of 7 may end after 1 of 5 reports
    assert saved(study, trials=30) == pytest.approx(0.5 * 7 / 30 * 4 / 5)
    assert saved(study_of(TWO_SEEDS), trials=30) == 0


def test_a_sweep_ends_when_its_last_worker_does(probes: list[TrainConfig]) -> None:
    cost = Cost(whole=(10.0, 20.0), each=(8.0, 20.0), source="")
    assert cost.sweep(30, workers=1) == (240.0, 600.0)
    assert cost.sweep(30, workers=2) == (120.0, 310.0)  # the last one may be alone
    assert cost.sweep(30, workers=4) == (120.0, 330.0)  # on two cores
    assert cost.fit(1.0, workers=2) == (360, 514, 900)


def test_ended_trials_give_their_mean_and_its_error() -> None:
    cost = by_records([10.0, 14.0, 12.0, 12.0])
    half = 2 * (8 / 3) ** 0.5 / 2
    assert cost.whole == pytest.approx((12 - half, 12 + half))
    assert cost.source == "4 trials that have ended"


@pytest.mark.parametrize(
    ("span", "text"),
    [
        ((41.2, 78.9), "41 to 79 s"),
        ((118.0, 131.0), "2 min"),
        ((200.0, 500.0), "3 to 8 min"),
        ((7_000.0, 12_000.0), "1.9 to 3.3 h"),
    ],
)
def test_a_span_is_spelled_in_its_unit(span: tuple[float, float], text: str) -> None:
    assert spelled(span) == text


def test_a_short_sweep_a_watched_one_and_one_on_ray_are_not_measured(
    probes: list[TrainConfig], tmp_path: Path
) -> None:
    store = Store(tmp_path / "none")
    short, long = study_of(QUICK), study_of(LONG)
    for study, args in (
        (short, arguments()),
        (short, arguments(hours=1e-9)),
        (long, arguments(workers=0)),
        (long, arguments(launcher="ray")),
    ):
        ahead = forecast(study, store, args)
        assert (ahead.trials, list(ahead.rows), probes) == (None, [], [])
    assert not store.folder.exists()


def test_a_time_decides_how_many_trials_are_trained(
    probes: list[TrainConfig], tmp_path: Path
) -> None:
    study, store = study_of(LONG), Store(tmp_path / "none")
    ahead = forecast(study, store, arguments(hours=2.0, workers=2))
    (takes_label, taken), (hours_label, fitting) = ahead.rows
    assert (takes_label, hours_label) == ("takes", "hours")
    assert ahead.trials is not None
    cost = by_probe(study, trials=3)
    assert ahead.trials == int(2 * 3600 * 2 / mean(cost.each))
    assert fitting.startswith(f"{ahead.trials} trials (")
    assert fitting.endswith("fit into 2 h: that is the budget")
    assert "on 2 workers" in taken
    # a budget that is typed stays
    typed = forecast(study, store, arguments(hours=2.0, trials=7))
    assert typed.trials == 7
    assert typed.rows[1][1].endswith("fit into 2 h")


def test_the_longest_time_asks_for_no_more_trials_than_a_study_may_have(
    probes: list[TrainConfig], tmp_path: Path
) -> None:
    store, most = Store(tmp_path / "none"), hours(f"{MOST_HOURS}")
    ahead = forecast(study_of(QUICK), store, arguments(hours=most, workers=2))
    assert ahead.trials == 1_000_000
    for text in ("100001", "1e308", "inf", "0", "-1"):
        with pytest.raises(ArgumentTypeError, match="above 0, at most 100,000"):
            hours(text)


def test_a_sweep_that_has_trials_is_measured_by_them(
    mini: Store, probes: list[TrainConfig]
) -> None:
    study = study_of(MINI)
    earlier = open_sweep(mini, "mini").read_trials()
    took = [seconds(trial) or 0.0 for trial in earlier.all]
    assert len(took) >= ENOUGH
    cost = cost_of(study, earlier, trials=6)
    assert mean(cost.whole) == pytest.approx(mean(took), rel=0.5)
    assert cost.whole[0] >= min(took)
    (row,) = forecast(study, mini, arguments(trials=12, workers=2)).rows
    assert row[1] == takes(study, cost, left=6, workers=2)
    assert row[1].endswith("by 6 trials that have ended")
    assert forecast(study, mini, arguments()).rows == ()  # it is over
    assert probes == []


def test_a_dry_run_says_what_would_run_and_creates_nothing(
    probes: list[TrainConfig],
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("sweeps.commands.start_sweep")  # a call would fail
    file = tmp_path / "long.toml"
    file.write_text(LONG)
    done = command("run", "--study", file, "--store", tmp_path / "store", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    labels = [line.split(" ")[0] for line in done.stdout.splitlines()]
    assert labels[0] == "study"
    assert labels[-1] == "takes"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.toml"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fork", "tyni"), "tyni"),
        (("--warm-start", "tyni"), "tyni"),
        (("--address", "auto"), "--address names a Ray cluster: add --launcher ray"),
        (("--fork", "tiny", "--warm-start", "tiny"), "leave one of them out"),
        ((), "study tiny in "),  # with a space of its own it was started differently
    ],
)
def test_a_dry_run_refuses_what_a_run_would(
    finished: Store, command: Command, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(changed(TINY, {"high = 1e-2": "high = 2e-2"}))
    words = ("run", "--study", file, "--store", finished.folder, *options)
    dry, run = (command(*words, *last) for last in (("--dry-run",), ("--workers", "1")))
    assert (dry.returncode, dry.stderr) == (run.returncode, run.stderr)
    assert (dry.returncode, dry.stderr.count("\n")) == (2, 1)
    assert message in dry.stderr
