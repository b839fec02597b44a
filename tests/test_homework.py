"""Recorded actions played again give the same returns, and nothing else counts as a recording."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from examples.homework import TIERS, ActionLists, Verdict, judge, main, read, record, write
from lander.checkpoint import save
from lander.config import EnvConfig, TrainConfig
from lander.errors import ConfigError
from lander.policy import ActorCritic, make_policy
from lander.resolve import resolve

DISCRETE = EnvConfig(id="LunarLander-v3")
CONTINUOUS = EnvConfig(id="LunarLanderContinuous-v3")
BINS = EnvConfig(id="LunarLanderContinuous-v3", bins=5)
ENVS = [DISCRETE, CONTINUOUS, BINS]
POLE = EnvConfig(id="CartPole-v1")


torch.set_num_threads(1)  # before the first op: sums depend on the number of threads


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that must fail."""
    capsys.readouterr()
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert (out, err[:10], err.count("\n")) == ("", "homework: ", 1)
    return err


@cache
def policy_for(env: EnvConfig) -> ActorCritic:
    """Untrained, but with actions that depend on what it sees."""
    policy = make_policy(
        resolve(TrainConfig(env=env)).config, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        policy.actor.weight.mul_(50)
    return policy


@cache
def recorded(env: EnvConfig, seed: int = 2023) -> ActionLists:
    return record(policy_for(env), env.id, seed=seed, episodes=3)


def saved_run(env: EnvConfig, folder: Path) -> Path:
    save(folder / "policy.pt", policy_for(env).state_dict(), resolve(TrainConfig(env=env)).config)
    return folder


def flown(env: EnvConfig, episodes: int) -> tuple[list[float], list[int]]:
    """Returns and lengths by the homework's loop: one seeded reset, then plain ones."""
    policy, stock = policy_for(env), gym.make(env.id)
    returns: list[float] = []
    lengths: list[int] = []
    for episode in range(episodes):
        obs, _ = stock.reset(seed=2023) if episode == 0 else stock.reset()
        total, length, over = 0.0, 0, False
        while not over:
            with torch.no_grad():
                mode = policy.distribution(torch.as_tensor(obs).unsqueeze(0)).mode()
                action = policy.head.to_env(mode)[0].numpy()
            obs, reward, terminated, truncated, _ = stock.step(action)
            total, length, over = total + float(reward), length + 1, terminated or truncated
        returns.append(total)
        lengths.append(length)
    stock.close()
    return returns, lengths


@pytest.mark.parametrize("env", ENVS)
def test_the_judge_sees_what_the_pilot_flew_to_the_bit(env: EnvConfig) -> None:
    verdict = judge(recorded(env))
    returns, lengths = flown(env, 3)
    assert list(verdict.returns) == returns
    assert list(verdict.lengths) == lengths
    assert len(set(returns)) == 3  # the episodes differ: only the first is seeded


@pytest.mark.parametrize("env", ENVS)
def test_a_written_file_reads_back_equal(env: EnvConfig, tmp_path: Path) -> None:
    lists = recorded(env)
    write(tmp_path / "actions.json", lists)
    again = read(tmp_path / "actions.json")
    assert (again.env_id, again.seed) == (env.id, 2023)
    assert len(again.actions) == 3
    for ours, theirs in zip(lists.actions, again.actions, strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
    assert judge(again) == judge(lists)
    assert [path.name for path in tmp_path.iterdir()] == ["actions.json"]


def test_recording_repeats_and_follows_the_seed() -> None:
    again = record(policy_for(DISCRETE), DISCRETE.id, seed=2023, episodes=3)
    other = recorded(DISCRETE, 543)
    assert judge(again) == judge(recorded(DISCRETE)) != judge(other)
    assert other.seed == 543


def test_fewer_episodes_are_the_first_of_more() -> None:
    fewer = record(policy_for(DISCRETE), DISCRETE.id, seed=2023, episodes=2)
    assert judge(fewer).returns == judge(recorded(DISCRETE)).returns[:2]


@pytest.mark.parametrize(
    ("mean", "tier"),
    [(-1, 0), (0, 1), (109.9, 1), (110, 2), (179.9, 2), (180, 3), (275, 3), (275.1, 4)],
)
def test_tiers_of_the_homework(mean: float, tier: int) -> None:
    assert Verdict((mean,), (100,)).tier == tier
    assert Verdict((mean - 50, mean + 50), (100, 90)).tier == tier
    assert TIERS == ("none", "simple", "medium", "strong", "boss")


def document(env: EnvConfig = DISCRETE) -> dict[str, Any]:
    lists = recorded(env)
    actions = [episode.tolist() for episode in lists.actions]
    return {"env_id": lists.env_id, "seed": lists.seed, "actions": actions}


@pytest.mark.parametrize("episode", [0, 2])
def test_a_list_cut_short_is_refused(
    episode: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = document()
    changed["actions"][episode].pop()
    (tmp_path / "a.json").write_text(json.dumps(changed))
    err = refused(["judge", str(tmp_path / "a.json")], capsys)
    assert f"episode {episode + 1} is not over after its {len(changed['actions'][episode])}" in err


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS])
def test_a_list_too_long_is_refused(
    env: EnvConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = document(env)
    last = changed["actions"][2]
    last.append(last[-1])
    (tmp_path / "a.json").write_text(json.dumps(changed))
    err = refused(["judge", str(tmp_path / "a.json")], capsys)
    assert f"episode 3 is over after {len(last) - 1} of its {len(last)} actions" in err


@pytest.mark.parametrize(
    "action", [4, -1, 2.7, 1e30, float("nan"), float("inf"), "fire", None, [0], [0, 1]]
)
def test_a_wrong_discrete_action_is_refused(
    action: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = document()
    changed["actions"][0][5] = action
    (tmp_path / "a.json").write_text(json.dumps(changed))
    refused(["judge", str(tmp_path / "a.json")], capsys)


def test_fractions_are_not_rounded_to_actions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = document()
    changed["actions"][0] = [action + 0.5 for action in changed["actions"][0]]
    (tmp_path / "a.json").write_text(json.dumps(changed))
    refused(["judge", str(tmp_path / "a.json")], capsys)


@pytest.mark.parametrize(
    "action",
    [[1.5, 0.0], [0.0, float("nan")], [0.0, None], [1e39, 0.0], [0.0], [0.0, 0.0, 0.0], 0.0, "up"],
)
def test_a_wrong_continuous_action_is_refused(
    action: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = document(CONTINUOUS)
    changed["actions"][0] = [action] * 5
    (tmp_path / "a.json").write_text(json.dumps(changed))
    refused(["judge", str(tmp_path / "a.json")], capsys)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        "3",
        "null",
        '"actions"',
        "[" * 100_000,
        '{"env_id": "LunarLander-v3", "seed": 2023}',
        '{"seed": 2023, "actions": [[0]]}',
        '{"env_id": "LunarLander-v3", "actions": [[0]]}',
        '{"env_id": "NoSuchLander-v3", "seed": 2023, "actions": [[0]]}',
        '{"env_id": "LunarLander-v3", "seed": -1, "actions": [[0]]}',
        '{"env_id": "LunarLander-v3", "seed": "first", "actions": [[0]]}',
        '{"env_id": "LunarLander-v3", "seed": NaN, "actions": [[0]]}',
        '{"env_id": "LunarLander-v3", "seed": 2023, "actions": []}',
        '{"env_id": "LunarLander-v3", "seed": 2023, "actions": [[]]}',
        '{"env_id": "LunarLander-v3", "seed": 2023, "actions": null}',
        '{"env_id": "LunarLander-v3", "seed": 2023, "actions": "0123"}',
        '{"env_id": "LunarLander-v3", "seed": 2023, "actions": [0, 1, 2]}',
        '{"env_id": "LunarLander-v3", "seed": 2023, "actions": [[0, [1]]]}',
    ],
)
def test_what_is_no_recording_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(text)
    refused(["judge", str(tmp_path / "a.json")], capsys)


def test_a_file_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.json", "bytes", "."):
        assert str(tmp_path) in refused(["judge", str(tmp_path / name)], capsys)


def test_the_judge_itself_refuses_what_is_over_too_soon() -> None:
    first, *rest = recorded(DISCRETE).actions
    longer = ActionLists(DISCRETE.id, 2023, (np.append(first, 0), *rest))
    with pytest.raises(ConfigError, match=r"\Aepisode 1 is over after \d+ of its \d+ actions\Z"):
        judge(longer)


def test_the_commands_record_five_episodes_and_name_the_tier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved_run(DISCRETE, tmp_path)
    returns, lengths = flown(DISCRETE, 5)
    assert main(["record", str(run)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"5 episodes of {', '.join(map(str, lengths))} actions -> {run / 'actions.json'}" in out
    assert read(run / "actions.json").seed == 2023
    assert main(["judge", str(run / "actions.json")]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [
        f"episode {i}: return {total:.1f} in {length} steps"
        for i, (total, length) in enumerate(zip(returns, lengths, strict=True), 1)
    ]
    assert last == (
        f"LunarLander-v3: return {np.mean(returns):.1f} over 5 episodes after reset(seed=2023), "
        "tier 0 of 4: none"
    )


def test_other_environments_have_no_tier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = saved_run(POLE, tmp_path), tmp_path / "flights.json"
    argv = ["record", str(run), "--episodes", "2", "--seed", "7", "--out", str(out)]
    assert main(argv) == 0
    assert main(["judge", str(out)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("CartPole-v1: return ")
    assert last.endswith(" over 2 episodes after reset(seed=7)")
    assert {path.name for path in run.iterdir()} == {"policy.pt", "flights.json"}


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["record"], "DIR"),
        (["record", "absent"], "absent"),
        (["judge"], "FILE"),
        (["judge", "absent.json"], "absent.json"),
        (["judge", ".", "--best"], "--best"),
        (["fly", "."], "'fly'"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    argv: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(argv, capsys)


@pytest.mark.parametrize("command", [[], ["record"], ["judge"]])
def test_help_is_printed(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    assert "--help" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--out", "absent/actions.json"], "--out"),
        (["--episodes", "0"], "--episodes"),
        (["--seed", "-1"], "--seed"),
        (["--best"], "best.pt"),
        (["--checkpoint", "64"], "no checkpoint 64"),
        (["--best", "--checkpoint", "64"], "--checkpoint"),
    ],
)
def test_record_refuses_before_it_flies(
    options: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = saved_run(POLE, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert part in refused(["record", str(run), *options], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.pt"]
