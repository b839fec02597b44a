"""Homework 12 of Hung-yi Lee's course, 2023: a policy's actions, recorded and judged.

The environment is reset once with a seed; the episodes that follow continue its random stream. The
judge plays recorded actions in the same way, so nobody has to trust whoever recorded them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from lander.arguments import Parser, add_policy, add_trust, between, reset_seed
from lander.commands import require_parent, saved_policy
from lander.config import EnvConfig, Kwargs, TrainConfig
from lander.dotted import KWARGS, configure, read_text, reason
from lander.env import AnyEnv, as_config, env_spec, make_env, make_whole
from lander.errors import ConfigError
from lander.evaluation import policy_act_fn
from lander.files import inside, replace_text
from lander.interface import CheckedEnv, EnvFault, handed
from lander.policy import ActorCritic
from lander.terminal import filtered
from lander.trust import Origin, agree

SEED: Final = 2023
EPISODES: Final = 5
TIERS: Final = ("none", "simple", "medium", "strong", "boss")
"""By the mean return: below 0, from 0, from 110, from 180, above 275."""


@dataclass(frozen=True, slots=True)
class ActionLists:
    """The actions of consecutive episodes after one `reset(seed=seed)`."""

    env_id: str
    seed: int
    actions: tuple[NDArray[np.generic], ...]
    """Per episode (length,) or (length, *shape), as `env.step` took them."""
    kwargs: Kwargs = ()
    """Arguments of the environment."""
    time_limit: int | None = None
    """Set only where the environment has no limit of its own."""

    @property
    def env(self) -> EnvConfig:
        """The environment in which they were recorded."""
        return EnvConfig(id=self.env_id, kwargs=self.kwargs, time_limit=self.time_limit)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Return and length of each judged episode."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def return_mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def tier(self) -> int:
        """Points of the homework, 0 to 4; `TIERS` names them."""
        mean = self.return_mean
        return sum((mean >= 0, mean >= 110, mean >= 180, mean > 275))


def record(policy: ActorCritic, env: AnyEnv, *, seed: int, episodes: int) -> ActionLists:
    """Play consecutive episodes, deterministically.

    Raises:
        EnvFault: an environment that departs from Gymnasium's interface.
    """
    act, config = policy_act_fn(policy), as_config(env)
    lists: list[NDArray[np.generic]] = []
    with closing(CheckedEnv(make_whole(config), config.id)) as one:
        obs = one.reset(seed)
        for episode in range(episodes):
            if episode > 0:
                obs = one.reset()
            actions: list[NDArray[np.generic]] = []
            over = False
            while not over:
                one.require_finite(obs)
                actions.append(act(np.asarray(obs, dtype=np.float32)[None])[0])
                obs, _, terminated, truncated = one.step(actions[-1])
                over = terminated or truncated
            lists.append(np.stack(actions))
    limit = config.time_limit if env_spec(config).max_episode_steps is None else None
    return ActionLists(config.id, seed, tuple(lists), config.kwargs, limit)


def judge(lists: ActionLists) -> Verdict:
    """Play recorded actions; each list must end exactly where its episode does.

    Raises:
        ConfigError: a list too short or too long, or an action outside of the action space.
    """
    returns: list[float] = []
    with closing(CheckedEnv(make_whole(lists.env), lists.env_id)) as env:
        env.reset(lists.seed)
        for episode, actions in enumerate(lists.actions, 1):
            if episode > 1:
                env.reset()
            returns.append(play_list(env, actions, f"episode {episode}"))
    return Verdict(tuple(returns), tuple(len(actions) for actions in lists.actions))


def play_list(env: CheckedEnv, actions: NDArray[np.generic], name: str) -> float:
    """The return of one episode, from its actions."""
    total, over = 0.0, False
    for t, action in enumerate(map(handed, actions), 1):
        if over:
            raise ConfigError(f"{name} is over after {t - 1} of its {len(actions)} actions")
        space = env.stock.action_space
        if not space.contains(action):
            raise ConfigError(f"{name}: action {t} is {action}, not one of {space}")
        _, reward, terminated, truncated = env.step(action)
        total += reward
        over = terminated or truncated
    if not over:
        raise ConfigError(f"{name} is not over after its {len(actions)} actions")
    return total


def write(path: Path, lists: ActionLists) -> None:
    """Write action lists as JSON, from which `read` gets every number back to the bit."""
    document: dict[str, Any] = {
        "env_id": lists.env_id,
        "seed": lists.seed,
        "actions": [episode.tolist() for episode in lists.actions],
    }
    if lists.kwargs:
        document["env_kwargs"] = dict(lists.kwargs)
    if lists.time_limit is not None:
        document["time_limit"] = lists.time_limit
    replace_text(path, json.dumps(document))


def read(path: Path) -> ActionLists:
    """Action lists from a file that `write`, or another program, wrote.

    Raises:
        ConfigError: another kind of file, a list whose entries cannot be actions, or an environment
            that would import a module nobody has agreed to.
    """
    try:
        document = json.loads(read_text(path))
        env_id, seed, lists = document["env_id"], document["seed"], document["actions"]
        kwargs, time_limit = document.get("env_kwargs", {}), document.get("time_limit")
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refusal(path, " ".join(str(error).split())[:200]) from None
    if type(seed) is not int or seed < 0 or not isinstance(lists, list) or not lists:
        raise refusal(path, "want a seed from 0 up and at least one episode")
    if not isinstance(kwargs, dict):
        raise refusal(path, "want env_kwargs by name")
    values = {"env.id": str(env_id), "env.time_limit": time_limit}
    values |= {f"{KWARGS}.{name}": value for name, value in kwargs.items()}
    try:
        Origin.folder(path.parent).require(values)
        config = configure(values, base=TrainConfig()).env
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    with closing(make_env(config)) as env:
        space = env.action_space
    numbered = enumerate(lists, 1)
    actions = tuple(to_actions(path, k, episode, space) for k, episode in numbered)
    return ActionLists(config.id, seed, actions, config.kwargs, config.time_limit)


def to_actions(
    path: Path, number: int, episode: object, space: gym.Space[Any]
) -> NDArray[np.generic]:
    """One episode's list as `env.step` takes its entries."""
    try:
        raw = np.array(episode)
    except ValueError:  # lists of unlike length
        raw = np.array(None)
    shape = space.shape or ()
    if raw.dtype.kind not in "if" or raw.shape[1:] != shape or raw.ndim != len(shape) + 1:
        raise refusal(path, f"episode {number} is no list of actions of {space}")
    with np.errstate(over="ignore", invalid="ignore"):
        actions = raw.astype(space.dtype)
    if actions.dtype.kind == "i" and not np.array_equal(actions, raw):
        raise refusal(path, f"episode {number} holds numbers that are none of {space}")
    return actions


def refusal(path: Path, why: str) -> ConfigError:
    """A file does not hold action lists."""
    return ConfigError(f"{path}: expected JSON with env_id, seed and actions: {why}")


def record_command(args: argparse.Namespace) -> None:
    """Write the actions of a trained policy."""
    policy, config = saved_policy(args)
    out = args.out or inside(args.run, args.run / "actions.json")
    require_parent("--out", out)
    lists = record(policy, config.env, seed=args.seed, episodes=args.episodes)
    write(out, lists)
    lengths = ", ".join(str(len(actions)) for actions in lists.actions)
    print(f"{config.env.id}: {args.episodes} episodes of {lengths} actions -> {out}")


def judge_command(args: argparse.Namespace) -> None:
    """Print the return of each recorded episode, and the tier of their mean."""
    agree(Origin.folder(args.file.parent), args.trust_env)
    lists = read(args.file)
    verdict = judge(lists)
    judged = zip(verdict.returns, verdict.lengths, strict=True)
    for episode, (total_reward, length) in enumerate(judged, 1):
        print(f"episode {episode}: return {total_reward:.1f} in {length} steps")
    line = (
        f"{lists.env_id}: return {verdict.return_mean:.1f} over {len(verdict.returns)} episodes "
        f"after reset(seed={lists.seed})"
    )
    if lists.env_id.startswith("LunarLander"):
        line += f", tier {verdict.tier} of 4: {TIERS[verdict.tier]}"
    print(line)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of `python -m examples.homework`."""
    parser = Parser(prog="python -m examples.homework", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "Write a trained policy's actions in consecutive episodes after one reset(seed=...)."
    command: Parser = commands.add_parser("record", help=text, description=text)
    add_policy(command)
    command.add_argument("--episodes", type=between(1, 100_000), default=EPISODES, metavar="N")
    command.add_argument("--seed", type=reset_seed, default=SEED, help=f"[{SEED}]")
    command.add_argument("--out", type=Path, metavar="FILE", help="[DIR/actions.json]")
    command.set_defaults(run_command=record_command)
    text = "Play recorded actions: their returns, and the tier of the homework."
    command = commands.add_parser("judge", help=text, description=text)
    command.add_argument("file", type=Path, metavar="FILE", help="what record wrote")
    add_trust(command)
    command.set_defaults(run_command=judge_command)
    return parser.parse_args(argv)


@filtered()
def main(argv: Sequence[str]) -> int:
    """Run a command; the exit code."""
    torch.set_num_threads(1)  # before the first op: sums depend on the number of threads
    try:
        args = parse(argv)
        args.run_command(args)
    except (ConfigError, EnvFault, OSError) as error:
        message = reason(error) if isinstance(error, OSError) else " ".join(str(error).split())
        print("homework:", message, file=sys.stderr)
        return 1 if isinstance(error, EnvFault) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
