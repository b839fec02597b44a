"""What is written to disk reads back the same, and the command line says what is wrong."""

from __future__ import annotations

import csv
import resource
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from examples import homework
from lander.__main__ import main
from lander.checkpoint import load, save
from lander.config import EnvConfig, PolicyConfig, TrainConfig
from lander.dotted import configure, from_toml
from lander.errors import ConfigError
from lander.evaluation import evaluate
from lander.metrics import CURVES
from lander.policy import make_policy
from lander.resolve import resolve
from lander.seeds import seed_range
from tests.lander.conftest import refused

TINY = [
    *("--env.id", "CartPole-v1", "--env.num-envs", "2", "--ppo.rollout-steps", "32"),
    *("--ppo.minibatch-size", "32", "--policy.hidden-sizes", "8,8", "--total-steps", "128"),
    *("--checkpoints", "2", "--eval-episodes", "2", "--final-episodes", "2", "--seed", "3"),
    *("--ppo.learning-rate", "1e-6"),  # both checkpoints fly alike: the first is the best
]
FILES = {"config.toml", "curve.csv", "policy.pt", "best.pt", "landing.gif", "checkpoints"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training run from the command line; read it, do not write to it."""
    folder = tmp_path_factory.mktemp("cli") / "deep" / "run"
    assert main([*TINY, "--out", str(folder)]) == 0
    return folder


def same_weights(left: Path, right: Path) -> bool:
    a, b = load(left)[0].state_dict(), load(right)[0].state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "env",
    [
        EnvConfig(id="LunarLander-v3"),
        EnvConfig(id="LunarLanderContinuous-v3"),
        EnvConfig(id="LunarLanderContinuous-v3", bins=5),
    ],
)
@pytest.mark.parametrize("trunk", ["separate", "shared"])
def test_a_policy_reads_back_with_equal_outputs(env: EnvConfig, trunk: str, tmp_path: Path) -> None:
    shape = PolicyConfig(trunk="shared" if trunk == "shared" else "separate", hidden_sizes=(9, 7))
    config = resolve(TrainConfig(env=env, policy=shape, seed=5)).config
    policy = make_policy(config, generator=torch.Generator().manual_seed(1))
    save(tmp_path / "policy.pt", policy.state_dict(), config)
    again, config_again = load(tmp_path / "policy.pt")
    assert config_again == config
    obs = torch.randn(64, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before, after = policy(obs), again(obs)
        assert before.values is not None
        assert after.values is not None
        assert torch.equal(before.values, after.values)
        assert torch.equal(before.pi.mode(), after.pi.mode())
        assert torch.equal(before.pi.entropy(), after.pi.entropy())
        assert torch.equal(
            before.pi.log_prob(before.pi.mode()), after.pi.log_prob(before.pi.mode())
        )


def test_a_policy_is_not_written_over_a_link_that_somebody_has_placed(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("policy.pt", ".policy.pt"):
        (folder / name).symlink_to(mine)
    config = resolve(TrainConfig(env=EnvConfig(id="CartPole-v1"))).config
    weights = make_policy(config, generator=torch.Generator().manual_seed(0)).state_dict()
    save(folder / "policy.pt", weights, config)
    assert mine.read_text() == "mine"
    assert load(folder / "policy.pt")[1] == config


@pytest.mark.parametrize("damage", ["cut", "random", "empty", "text", "other", "missing", "folder"])
def test_what_is_not_a_policy_is_refused_in_one_line(
    damage: str, run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "policy.pt"
    whole = (run / "policy.pt").read_bytes()
    noise = torch.randint(256, (3000,), generator=torch.Generator().manual_seed(0))
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "random":
        path.write_bytes(bytes(noise.tolist()))
    elif damage == "empty":
        path.touch()
    elif damage == "text":
        path.write_text("not\na\npolicy\n")
    elif damage == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_policy_of_another_shape_is_refused(run: Path, tmp_path: Path) -> None:
    saved = torch.load(run / "policy.pt", weights_only=True)
    saved["config"]["policy.hidden_sizes"] = (8, 9)
    torch.save(saved, tmp_path / "policy.pt")
    with pytest.raises(ConfigError, match=r"\A[^\n]+\Z"):
        load(tmp_path / "policy.pt")


def test_a_run_writes_exactly_its_files(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == FILES
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"64.pt", "128.pt"}
    assert [path.name for path in run.parent.iterdir()] == ["run"]  # nothing left beside it
    with Image.open(run / "landing.gif") as gif:
        assert gif.format == "GIF"
        gif.seek(1)  # raises if there is but one frame


def test_best_is_the_best_checkpoint_and_policy_the_last(run: Path) -> None:
    assert not same_weights(run / "policy.pt", run / "best.pt")
    assert same_weights(run / "checkpoints" / "64.pt", run / "best.pt")
    assert same_weights(run / "checkpoints" / "128.pt", run / "policy.pt")


def test_a_policy_without_a_critic_and_with_statistics_reads_back(tmp_path: Path) -> None:
    """Those that observations and rewards are divided by are part of it."""
    values = {"env.id": "CartPole-v1", "env.obs_norm": True, "env.reward_scale": "running"}
    bare = {"policy.critic": False, "ppo.advantage": "reward_to_go", "ppo.rollout_episodes": 16}
    config = resolve(configure(values | bare, base=TrainConfig())).config
    policy = make_policy(config, generator=torch.Generator().manual_seed(1))
    assert policy.obs_moments is not None
    policy.obs_moments.update(torch.arange(20.0).view(5, 4))
    save(tmp_path / "policy.pt", policy.state_dict(), config)
    again, again_config = load(tmp_path / "policy.pt")
    assert again_config == config
    obs = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert torch.equal(policy(obs).pi.mode(), again(obs).pi.mode())
    assert torch.equal(policy.normalise(obs), again.normalise(obs))
    assert not torch.equal(again.normalise(obs), obs)
    assert again(obs).values is None


def test_the_written_config_is_what_was_typed(run: Path) -> None:
    config = from_toml((run / "config.toml").read_text(), source="config.toml")
    assert config.env.id == "CartPole-v1"
    assert config.policy.hidden_sizes == (8, 8)
    assert config.policy.head == "categorical"
    assert (config.total_steps, config.seed) == (128, 3)
    names = ("policy.pt", "best.pt", "checkpoints/64.pt", "checkpoints/128.pt")
    assert all(load(run / name)[1] == config for name in names)


def test_the_written_config_trains_the_same_weights_again(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main(["--config", str(run / "config.toml"), "--out", str(again)]) == 0
    assert same_weights(run / "policy.pt", again / "policy.pt")
    assert same_weights(run / "best.pt", again / "best.pt")
    assert (run / "config.toml").read_bytes() == (again / "config.toml").read_bytes()
    assert (run / "landing.gif").read_bytes() == (again / "landing.gif").read_bytes()
    other = tmp_path / "other"
    argv = ["--config", str(run / "config.toml"), "--seed", "4", "--out", str(other)]
    assert main(argv) == 0
    assert not same_weights(run / "policy.pt", other / "policy.pt")


def test_the_curve_has_a_row_per_update_and_a_column_per_curve(run: Path) -> None:
    with (run / "curve.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["env_steps", *CURVES]
    assert [row[0] for row in rows] == ["64", "128"]
    evaluated = header.index("eval/return_mean")
    assert float(rows[0][evaluated]) == float(rows[1][evaluated]) >= 8.0
    assert all(float(row[header.index("policy/entropy")]) > 0 for row in rows)


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES


@pytest.mark.parametrize("extra", [[], ["--best"], ["--sampled"]])
def test_fly_prints_the_return_and_writes_a_gif(
    extra: list[str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gif = tmp_path / "flight.gif"
    name = "best.pt" if "--best" in extra else "policy.pt"
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(run / name, folder)  # the other one cannot be flown by mistake
    argv = ["fly", str(folder), "--episodes", "2", "--seed", "77", "--gif", str(gif), *extra]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    policy, config = load(run / name)
    generator = torch.Generator().manual_seed(77) if "--sampled" in extra else None
    expected = evaluate(policy, config.env.id, seeds=seed_range(77, 2), generator=generator)
    assert f"CartPole-v1: return {expected.return_mean:.1f} +- {expected.return_std:.1f}" in out
    assert f"reset seed 77, return {expected.returns[0]:.1f}" in out
    with Image.open(gif) as image:
        assert image.format == "GIF"
    assert [path.name for path in folder.iterdir()] == [name]


@pytest.mark.parametrize(("program", "command"), [(main, "fly"), (homework.main, "record")])
@pytest.mark.parametrize("steps", [64, 128])
def test_a_checkpoint_flies_by_its_number_of_steps(
    program: Callable[[Sequence[str]], int],
    command: str,
    steps: int,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(run / "checkpoints" / f"{steps}.pt", folder / "checkpoints")
    argv = [command, str(folder), "--episodes", "2", "--seed", "77", "--checkpoint", str(steps)]
    assert program(argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    policy, config = load(run / "checkpoints" / f"{steps}.pt")
    expected = evaluate(policy, config.env.id, seeds=seed_range(77, 2))
    if command == "fly":
        assert f"CartPole-v1: return {expected.return_mean:.1f} +- " in out
    else:
        assert f"2 episodes of {expected.lengths[0]}, " in out


def test_a_wrong_checkpoint_is_refused_with_those_there_are(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "[64, 128]" in refused(["fly", str(run), "--checkpoint", "65"], capsys)
    assert "--best" in refused(["fly", str(run), "--checkpoint", "64", "--best"], capsys)
    assert {path.name for path in run.iterdir()} == FILES


def test_an_unflyable_craft_is_warned_of_once_and_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    craft = [*TINY, "--env.id", "LunarLanderContinuous-v3", "--env.bins", "2"]
    assert main([*craft, "--out", str(tmp_path / "run")]) == 0
    _, err = capsys.readouterr()
    assert err == "lander: warning: env.bins = 2: the side engines can never stop\n"
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES


def test_random_prints_the_return_and_writes_a_gif(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gif = tmp_path / "random.gif"
    argv = ["random", "--env.id", "LunarLander-v3", "--episodes", "2", "--gif", str(gif)]
    assert main(argv) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("LunarLander-v3: return ")
    assert "over 2 episodes, 0% reach 200" in out
    with Image.open(gif) as image:
        assert image.size == (300, 236)  # under a caption of two lines


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--learning-rate", "1"], "--learning-rate"),
        (["--ppo.learning-rat", "1"], "--ppo.learning-rat"),
        (["stray"], "stray"),
        (["--seed"], "--seed"),
        (["--env.id", "NoSuchEnv-v0"], "NoSuchEnv"),
        (["--env.id", "FrozenLake-v1"], "FrozenLake-v1"),
        (["--env.bins", "7"], "env.bins"),
        (["--ppo.learning-rate", "fast"], "ppo.learning_rate"),
        (["--ppo.learning-rate", "nan"], "ppo.learning_rate"),
        (["--ppo.gamma", "2"], "ppo.gamma"),
        (["--policy.hidden-sizes", "64,wide"], "policy.hidden_sizes"),
        (["--total-steps", "5"], "total_steps"),
        (["--config", "absent.toml"], "absent.toml"),
        (["fly"], "DIR"),
        (["fly", "."], "no policy at policy.pt"),
        (["fly", "absent"], "absent"),
        (["fly", ".", "--checkpoint", "64"], "no checkpoint 64: none"),
        (["fly", ".", "--checkpoint", "last"], "--checkpoint"),
        (["random", "--gif", "deep/random.gif"], "--gif"),
        (["resume"], "DIR"),
        (["resume", "absent"], "absent"),
        (["resume", "absent", "--seed", "1"], "--seed"),
        (["--out", "."], "--out"),
        (["--out", "/"], "--out"),
        (["fly", ".", "--episodes", "0"], "--episodes"),
        (["random", "--episodes", "-1"], "--episodes"),
        (["random", "--episodes", "two"], "--episodes"),
        (["random", "--env.id", "NoSuchEnv-v0"], "NoSuchEnv"),
        (["random", "--fast"], "--fast"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_created(
    argv: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert part in refused(argv, capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_existing_out_is_refused_and_left_alone(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    kept = out
    if kind == "folder":
        out.mkdir()
        kept = out / "notes.txt"
    kept.write_text("dear diary")
    assert "--out" in refused([*TINY, "--out", str(out)], capsys)
    assert kept.read_text() == "dear diary"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_a_divergence_exits_with_1_in_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extreme = ["--ppo.learning-rate", "1e38", "--ppo.max-grad-norm", "1e30"]
    assert main([*TINY, *extreme, "--out", str(tmp_path / "run")]) == 1
    _, err = capsys.readouterr()
    assert err.startswith("lander: training diverged: update ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [[], ["fly"], ["random"], ["resume"]])
def test_help_is_printed(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert "--" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(28, "No space left on device", "a.pt"), "a.pt: No space left on device"),
        (OSError("cannot write mode F as GIF"), "cannot write mode F as GIF"),
        (OSError("the simulator\nhas crashed"), "the simulator has crashed"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_a_refusal_of_the_system_is_one_line_that_names_the_file(
    error: OSError,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("lander.run_folder.RunFolder.write_state", refuse)
    assert refused([*TINY, "--out", str(tmp_path / "run")], capsys) == f"lander: {line}\n"


def test_a_full_disk_is_one_line_and_leaves_no_half_written_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # no file may be longer
    try:
        line = refused([*TINY, "--out", str(tmp_path / "run")], capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    path = tmp_path / "run.unfinished" / "checkpoints" / "64.pt"
    assert line == f"lander: {path}: File too large\n"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
