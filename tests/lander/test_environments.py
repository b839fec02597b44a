"""Whatever stock `gym.make` makes with a flat Box observation and a Discrete or Box action space is
trained, evaluated, drawn and flown again."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from PIL import Image

from examples import homework
from lander import env as env_module
from lander import evaluation
from lander.__main__ import main
from lander.checkpoint import load
from lander.config import EnvConfig, Scalar, TrainConfig
from lander.dotted import configure, flatten, from_toml, to_toml
from lander.env import make_env, solved_return, spaces
from lander.evaluation import Evaluation, evaluate, play, random_act_fn, replay
from lander.film import save_landing
from lander.heads import GaussianHead
from lander.interface import CheckedEnv
from lander.policy import DeterministicActor, make_policy
from lander.resolve import resolve
from lander.seeds import FINAL_SEED
from lander.terminal import program
from lander.trainer import train
from tests.lander import odd_envs
from tests.lander.conftest import refused
from tests.lander.test_interface import config, options

SOUND = ["Plain", "Doubles", "Scalar", "Item", "InPlace", "Legacy", "Mersenne", "Mixed", "Inner"]
WRITTEN = {"config.toml", "curve.csv", "policy.pt", "best.pt", "checkpoints"}


def again(env: EnvConfig, evaluation: Evaluation) -> list[tuple[float, int]]:
    """Returns and lengths of its episodes from their recorded actions."""
    pairs = zip(evaluation.seeds, evaluation.actions, strict=True)
    replays = [list(replay(env, seed=seed, actions=actions)) for seed, actions in pairs]
    return [(moments[-1].total_reward, moments[-1].step) for moments in replays]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_environment_is_trained_and_its_recorded_flights_repeat(name: str) -> None:
    first, second = (train(config(name)) for _ in range(2))
    for left, right in zip(
        first.policy.state_dict().values(), second.policy.state_dict().values(), strict=True
    ):
        assert torch.equal(left, right)
    for flown in (*first.checkpoints, first.final, first.final_sampled):
        assert flown.lengths == (odd_envs.STEPS,) * len(flown.seeds)
        expected = list(zip(flown.returns, flown.lengths, strict=True))
        assert again(first.config.env, flown) == expected


@pytest.mark.parametrize(
    ("name", "sampled"),
    [
        ("CartPole-v1", False),
        ("Pendulum-v1", True),
        ("BipedalWalker-v3", False),  # whose first episode differs from its later ones
    ],
)
def test_more_episodes_than_step_together_are_played_group_by_group(
    name: str, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve(TrainConfig(env=EnvConfig(id=name, obs_norm=True))).config
    policy = make_policy(config, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        policy.actor.weight.mul_(50)
    generators = [torch.Generator().manual_seed(1) if sampled else None for _ in range(2)]
    groups = [range(2), range(2, 4), range(4, 5)]
    apart = [evaluate(policy, config.env, seeds=group, generator=generators[0]) for group in groups]
    monkeypatch.setattr(evaluation, "TOGETHER", 2)
    together = evaluate(policy, config.env, seeds=range(5), generator=generators[1])
    assert together.returns == sum((group.returns for group in apart), ())
    actions = [episode for group in apart for episode in group.actions]
    for left, right in zip(together.actions, actions, strict=True):
        assert np.array_equal(left, right)


def test_a_hundred_episodes_step_together_whatever_trains() -> None:
    """Each step of theirs asks the policy once."""
    asked: list[int] = []

    def act(obs: NDArray[np.float32]) -> NDArray[np.generic]:
        asked.append(len(obs))
        return np.zeros(len(obs), dtype=np.int64)

    flown = play(act, EnvConfig(id="CartPole-v1", num_envs=1), seeds=range(101))
    assert asked == [100] * max(flown.lengths[:100]) + [1] * flown.lengths[100]


def test_no_more_copies_are_open_than_train_and_as_many_to_evaluate() -> None:
    odd_envs.Counted.made = odd_envs.Counted.opened = odd_envs.Counted.most = 0
    values = {"env.num_envs": 1, "final_episodes": 9, "eval_episodes": 4}
    result = train(config("Counted", **values))
    assert odd_envs.Counted.opened == 0
    assert odd_envs.Counted.most == 2
    # one per episode, as not every environment returns to the same state on a reset; one to train,
    # and at most one to read the spaces of the process
    evaluations = (*result.checkpoints, result.final, result.final_sampled)
    episodes = sum(len(one.seeds) for one in evaluations)
    assert episodes == 4 + 4 + 9 + 4
    assert episodes + 1 <= odd_envs.Counted.made <= episodes + 2


def test_without_any_time_limit_a_training_is_refused_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    line = refused(options("Endless", "--out", str(out)), capsys)
    assert "odd/Endless-v0 has no time limit of its own" in line
    assert "--env.time-limit" in line
    assert list(tmp_path.iterdir()) == []
    assert "--env.time-limit" in refused(["random", "--env.id", "odd/Endless-v0"], capsys)


def test_the_time_limit_ends_evaluation_where_the_environment_has_none() -> None:
    result = train(config("Endless", **{"env.time_limit": 50}))
    for flown in (*result.checkpoints, result.final, result.final_sampled):
        assert set(flown.lengths) == {50}
    assert again(result.config.env, result.final) == [(50.0, 50)] * 3


def test_in_python_every_evaluation_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of environments that end by themselves need no limit to be reproduced."""
    monkeypatch.setattr(env_module, "ENDLESS", 30)
    assert set(train(config("Endless")).final.lengths) == {30}
    assert set(train(config("Inner")).final.lengths) == {odd_envs.STEPS}


def test_an_environments_own_limit_keeps_evaluation_whole() -> None:
    assert set(train(config("Inner", **{"env.time_limit": 5})).final.lengths) == {20}


def test_an_evaluation_ends_when_its_check_raises() -> None:
    class Enough(Exception):
        pass

    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 7:
            raise Enough

    policy = make_policy(resolve(config("Item")).config, generator=torch.Generator())
    with pytest.raises(Enough):
        evaluate(policy, EnvConfig(id="odd/Endless-v0"), seeds=[1], check=check)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_interrupted_in_an_evaluation_resumes_to_the_same_result(
    number: signal.Signals,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = options("Signals", "--checkpoints", "1")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*argv, "--out", str(whole)]) == 0
    monkeypatch.setattr(odd_envs.Signals, "number", number)
    capsys.readouterr()
    assert main([*argv, "--out", str(cut)]) == 130
    err = capsys.readouterr().err
    assert err == f"lander: interrupted: resume with {program('lander')} resume {cut}\n"
    assert odd_envs.Signals.steps_after == 0
    monkeypatch.setattr(odd_envs.Signals, "number", None)
    assert main(["resume", str(cut)]) == 0
    for left, right in zip(
        load(whole / "policy.pt")[0].state_dict().values(),
        load(cut / "policy.pt")[0].state_dict().values(),
        strict=True,
    ):
        assert torch.equal(left, right)
    lines = [
        [line.rpartition(",")[0] for line in (folder / "curve.csv").read_text().splitlines()]
        for folder in (whole, cut)
    ]
    assert lines[0] == lines[1]


def test_a_signal_during_the_first_evaluation_leaves_nothing_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odd_envs.Signals, "number", signal.SIGINT)
    argv = options("Signals", "--total-steps", "64", "--checkpoints", "1")
    assert main([*argv, "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "lander: interrupted, nothing written\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("NoPicture", "NotImplementedError"),
        ("NoFrame", "render gave None, want an array of uint8, shape (H, W, 3)"),
        ("NoMode", 'env.id: cannot make "odd/NoMode-v0": AssertionError'),
        ("BaseRender", "NotImplementedError"),
        ("Plain", "unexpected keyword argument 'render_mode'"),
    ],
)
def test_a_failed_picture_is_one_warning_and_all_else_is_written(
    name: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, gif = tmp_path / "run", tmp_path / "random.gif"
    assert main(options(name, "--out", str(run))) == 0
    out, err = capsys.readouterr()
    assert {path.name for path in run.iterdir()} == WRITTEN
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert f"odd/{name}-v0: return " in out
    fly = ["fly", str(run), "--episodes", "2"]
    at_random = ["random", "--env.id", f"odd/{name}-v0", "--episodes", "2", "--gif", str(gif)]
    warnings = [(err, "landing.gif")]
    for argv, picture in ((fly, "flight.gif"), (at_random, "random.gif")):
        assert main(argv) == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"odd/{name}-v0: return ")
        assert out.count("\n") == 1
        warnings.append((err, picture))
    for line, picture in warnings:
        assert line.startswith(f"lander: warning: {picture} cannot be made: ")
        assert why in line
        assert line.count("\n") == 1
    assert not gif.exists()


def test_a_run_that_lacks_only_its_picture_is_finished_by_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the version before left it."""
    run = tmp_path / "run"
    assert main(options("NoPicture", "--out", str(run))) == 0
    state = tmp_path / "run.unfinished"
    run.rename(state)

    def stop(progress: Any) -> None:
        if progress.evaluation is not None:
            torch.save({"training": progress.state(), "curve": []}, state / "training.pt")

    train(config("NoPicture"), on_update=stop)
    assert main(["resume", str(run)]) == 0
    assert {path.name for path in run.iterdir()} == WRITTEN


def test_a_replay_that_takes_another_course_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(options("NoSeed", "--out", str(run))) == 0
    err = capsys.readouterr().err
    assert err.startswith("lander: warning: landing.gif shows another flight, return ")
    assert err.endswith(": odd/NoSeed-v0 does not repeat its episodes\n")
    with Image.open(run / "landing.gif") as picture:
        assert picture.format == "GIF"


def test_a_picture_that_fails_half_way_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    flown = play(random_act_fn("odd/Item-v0", seed=1), "odd/Item-v0", seeds=[1])
    trouble = save_landing(tmp_path / "landing.gif", "odd/Item-v0", flown, title="odd")
    assert trouble == "landing.gif cannot be made: OSError: [Errno 28] No space left on device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["Legacy", "Mersenne"])
def test_without_a_readable_generator_only_resume_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(options(name, "--out", str(run))) == 0
    state = tmp_path / "cut.unfinished"
    state.mkdir()

    def keep(progress: Any) -> None:
        if progress.checkpoint == 1:
            torch.save({"training": progress.state(), "curve": []}, state / "training.pt")

    train(config(name), on_update=keep)
    line = refused(["resume", str(tmp_path / "cut")], capsys)
    assert f"odd/{name}-v0 keeps its random numbers in no np.random.Generator (PCG64)" in line
    assert (state / "training.pt").is_file()


def test_every_dimension_of_a_box_has_its_own_range() -> None:
    _, space = spaces("odd/Mixed-v0")
    assert isinstance(space, Box)
    head = GaussianHead(space, resolve(config("Mixed")).config)
    assert head.middle.tolist() == [0, 0, 0]
    assert head.half_range.tolist() == [100, 1, 1]
    acted = head.to_env(torch.tensor([[0.5, 0.5, 0.5], [-9, -9, -9]]))
    assert acted.tolist() == [[50, 0.5, 0.5], [-100, -9, 0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_the_exported_policy_takes_observations_of_any_type(dtype: type[Any]) -> None:
    policy = make_policy(
        resolve(config("Doubles")).config, generator=torch.Generator().manual_seed(0)
    )
    actor, obs = DeterministicActor(policy), np.arange(6).reshape(2, 3).astype(dtype)
    assert torch.equal(actor(torch.from_numpy(obs)), actor(torch.from_numpy(obs).float()))


LANDER = {"env.kwargs.gravity": -5, "env.kwargs.enable_wind": True, "env.kwargs.wind_power": 7.5}


def test_arguments_are_dotted_fields_and_read_back_with_their_types() -> None:
    config = configure(LANDER, base=TrainConfig())
    assert {name: value for name, value in flatten(config).items() if name in LANDER} == LANDER
    for again in (
        from_toml(to_toml(config), source="config.toml"),
        configure(flatten(config), base=TrainConfig()),
        from_toml("[env.kwargs]\nwind_power = 7.5\ngravity = -5\nenable_wind = true", source="x"),
    ):
        assert again == config
        assert hash(again) == hash(config)
        assert [type(value) for _, value in again.env.kwargs] == [bool, int, float]


def test_without_arguments_a_config_is_what_it_was() -> None:
    assert not [name for name in flatten(TrainConfig()) if "kwargs" in name]
    assert "kwargs" not in to_toml(TrainConfig())


def test_an_argument_that_is_none_is_left_to_the_environment() -> None:
    base = configure(LANDER, base=TrainConfig())
    for none in (None, "none"):
        changed = configure({"env.kwargs.enable_wind": none}, base=base)
        assert dict(changed.env.kwargs) == {"gravity": -5, "wind_power": 7.5}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("-5", -5),
        ("-1e-3", -0.001),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("a b", "a b"),
    ],
)
def test_the_command_line_reads_arguments_by_their_form(word: str, value: Scalar) -> None:
    from lander.__main__ import parse

    for argv in (["--env.kwargs.some_name", word], [f"--env.kwargs.some-name={word}"]):
        args = parse([*argv, "--seed", "3"])
        assert dict(args.typed.env.kwargs) == {"some_name": value}
        assert type(args.typed.env.kwargs[0][1]) is type(value)
        assert args.typed.seed == 3


def test_arguments_reach_every_copy_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step with wind pays 1, another one with the action 1 the gravity."""
    run = tmp_path / "run"
    given = ["--env.kwargs.gravity", "0.5", "--env.kwargs.wind", "true"]
    assert main([*options("Plain", *given), "--out", str(run)]) == 0
    policy, config = load(run / "policy.pt")
    assert dict(config.env.kwargs) == {"gravity": 0.5, "wind": True}
    assert "[env.kwargs]\ngravity = 0.5\nwind = true\n" in (run / "config.toml").read_text()
    flown = evaluate(policy, config.env, seeds=[FINAL_SEED])
    expected = 20 + 0.5 * float((flown.actions[0] == 1).sum())
    assert flown.returns == (expected,)
    with (run / "curve.csv").open() as file:
        assert all(20 <= float(line.split(",")[1] or 20) <= 30 for line in list(file)[1:])
    capsys.readouterr()
    assert main(["fly", str(run), "--episodes", "1"]) == 0
    assert 20 <= float(capsys.readouterr().out.split()[2]) <= 30
    at_random = ["random", "--env.id", "odd/Plain-v0", *given, "--episodes", "1"]
    assert main([*at_random, "--gif", str(tmp_path / "a.gif")]) == 0
    assert 20 <= float(capsys.readouterr().out.split()[2]) <= 30
    assert homework.main(["record", str(run), "--episodes", "2"]) == 0
    lists = json.loads((run / "actions.json").read_text())
    assert lists["env_kwargs"] == {"gravity": 0.5, "wind": True}
    capsys.readouterr()
    assert homework.main(["judge", str(run / "actions.json")]) == 0
    assert 20 <= float(capsys.readouterr().out.split()[3]) <= 30


def test_gravity_changes_how_a_lander_falls() -> None:
    def fall(gravity: float) -> float:
        env = CheckedEnv(make_env(EnvConfig(kwargs=(("gravity", gravity),))), "lander")
        env.reset(seed=1)
        speed = float(env.step(np.int64(0))[0][3]) - float(env.step(np.int64(0))[0][3])
        env.close()
        return speed

    assert fall(-5.0) == pytest.approx(fall(-10.0) / 2, rel=0.02)
    assert solved_return(EnvConfig(kwargs=(("gravity", -5.0),))) == 200


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--env.kwargs.gravty", "3"], "with gravty=3: Plain.__init__() got an unexpected keyword"),
        (["--env.kwargs.gravty", "3"], "id you mean "),  # 3.13 says so itself
        (["--env.kwargs.gravity", "-3"], "with gravity=-3: gravity must be above 0, got -3"),
        (["--env.kwargs.gravity", "nan"], "env.kwargs: gravity must be a finite number"),
        (["--env.kwargs.render_mode", "human"], "env.kwargs: render_mode cannot be given here"),
        (["--env.kwargs", "gravity=3"], "env.kwargs"),
        (["--env.kwargs.", "3"], "name one argument, as in env.kwargs.gravity"),
        (["--env.kwargs.a.b", "3"], "name one argument, as in env.kwargs.gravity"),
        (["--env.kwargs.gravity"], "--env.kwargs.gravity: expected one argument"),
        (["--env.kwargs.gravity", "1", "--env.backend", "envpool"], "envpool takes none"),
    ],
)
def test_a_wrong_argument_is_refused_before_training(
    given: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert line in refused(options("Plain", *given, "--out", str(out)), capsys)
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_option_for_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--env.kwargs.NAME X" in capsys.readouterr().out
