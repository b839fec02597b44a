"""How long a training takes until it lands: the first evaluation with a mean return of 200."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from lander.config import TrainConfig
from lander.dotted import configure
from lander.evaluation import ActFn, play, policy_act_fn
from lander.policy import make_policy
from lander.resolve import resolve
from lander.seeds import seed_range
from lander.trainer import Training, make_vector_env
from tests.bench.process import (
    QUICK,
    Options,
    envpool_installed,
    interleaved,
    one_core,
    origin,
)
from tests.bench.settings import describe, rollout_size, setting, stable_baselines
from tests.bench.sides import Side

SOLVED: Final = 200.0
EPISODES: Final = 20
EVALUATION_SEED: Final = 5_000_000
"""Reset seeds that neither side uses otherwise."""
APART: Final = 4096
"""The least number of steps between evaluations."""
CAP: Final = 1_000_000
"""The budget of Stable-Baselines3; ours has its own."""
QUICK_STEPS: Final = 8192
SB3_SEEDS: Final = 3
"""Training seeds of Stable-Baselines3 at most: each takes as long as fifty of ours."""


@dataclass(frozen=True, slots=True)
class Update:
    """The state of a training after one more update."""

    env_steps: int
    seconds: float
    """Seconds since the update before."""
    pilot: ActFn


Updates = Generator[Update, None, None]


def contenders(options: Options) -> list[tuple[str, Side]]:
    """Ours first, so that every training of theirs follows one of ours."""
    ours = [("gymnasium", side) for side in options.sides]
    pooled = [("envpool", options.now)] if envpool_installed() else []
    return [*ours, ("sb3", options.now), *pooled]


def settings(*, quick: bool) -> dict[str, TrainConfig]:
    """Ours as shipped, theirs as rl-zoo tuned it."""
    if quick:
        short = replace(setting("ours", quick=True), total_steps=QUICK_STEPS)
        return {"ours": short, "sb3": setting("rl-zoo", quick=True)}
    return {"ours": TrainConfig(), "sb3": setting("rl-zoo")}


def run(options: Options) -> dict[str, Any]:
    """Every contender with training seed 1, then with 2, and so on."""
    samples: list[dict[str, Any]] = []
    for seed, (contender, side) in interleaved(options.seeds, contenders(options)):
        if contender == "sb3" and seed > SB3_SEEDS:
            continue
        sample = side.measure("solve", contender, seed, *options.flags)
        samples.append({"seed": seed, "contender": contender, "side": side.name} | sample)
        how = "solved" if sample["solved"] else "not solved"
        print(
            f"solve    seed {seed}/{options.seeds}  {contender:<10} {side.name:<7} {how} in "
            f"{sample['seconds']:.1f} s, {sample['env_steps']:,} steps",
            flush=True,
        )
    used = settings(quick=options.quick)
    described = {name: describe(config) for name, config in used.items()}
    return origin(options) | {"settings": described, "samples": samples}


def ours(config: TrainConfig) -> Updates:
    """A training of this project, its own checkpoints left out of the time."""
    started = time.perf_counter()
    config = resolve(config).config
    with closing(make_vector_env(config.env)) as envs:
        training = Training(config, envs)
        while training.env_steps < config.budget:
            progress = training.update()
            seconds = time.perf_counter() - started
            if progress.evaluation is not None:
                seconds -= progress.evaluation.seconds
            policy = make_policy(config, generator=torch.Generator())
            policy.load_state_dict(progress.state()["policy"])
            yield Update(progress.env_steps, seconds, policy_act_fn(policy))
            started = time.perf_counter()


def theirs(config: TrainConfig, *, cap: int) -> Updates:
    """A training of Stable-Baselines3, an update at a time."""
    started = time.perf_counter()
    size = rollout_size(config)
    model = stable_baselines(config, seed=config.seed)

    def pilot(obs: NDArray[np.float32]) -> NDArray[np.generic]:
        actions, _ = model.predict(obs, deterministic=True)
        return np.asarray(actions)

    with closing(model.get_env()):
        while model.num_timesteps + size <= cap:
            # continues where the last call ended: rl-zoo's step size is constant, so that its view
            # of the budget does not matter
            model.learn(size, reset_num_timesteps=False)
            yield Update(model.num_timesteps, time.perf_counter() - started, pilot)
            started = time.perf_counter()


def first_landing(updates: Updates, env_id: str, *, episodes: int) -> dict[str, Any]:
    """Train until the mean return of an evaluation reaches 200, or to the end."""
    seeds = seed_range(EVALUATION_SEED, episodes)
    began, seconds, last, solved = time.perf_counter(), 0.0, 0, False
    curve: list[tuple[int, float]] = []
    env_steps = 0
    with closing(updates):
        for update in updates:
            seconds += update.seconds
            env_steps = update.env_steps
            if env_steps - last < APART:
                continue
            last = env_steps
            mean = play(update.pilot, env_id, seeds=seeds).return_mean
            curve.append((env_steps, round(mean, 1)))
            if mean >= SOLVED:
                solved = True
                break
    return {
        "solved": solved,
        "env_steps": env_steps,
        "seconds": seconds,
        "seconds_with_evaluation": time.perf_counter() - began,
        "curve": curve,
    }


def main(argv: Sequence[str]) -> None:
    """CONTENDER SEED: run one training."""
    one_core()
    contender, seed, *flags = argv
    quick = QUICK in flags
    side = "sb3" if contender == "sb3" else "ours"
    config = replace(settings(quick=quick)[side], seed=int(seed))
    if side == "sb3":
        updates = theirs(config, cap=QUICK_STEPS if quick else CAP)
    else:
        updates = ours(configure({"env.backend": contender}, base=config))
    episodes = 2 if quick else EPISODES
    print(json.dumps(first_landing(updates, config.env.id, episodes=episodes)))


if __name__ == "__main__":
    main(sys.argv[1:])
