"""How many environment steps a second of training takes in, and stepping alone reaches."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from math import ceil
from typing import Any, Final

import numpy as np

from lander.config import TrainConfig
from lander.dotted import configure
from lander.env import spaces
from lander.resolve import resolve
from lander.trainer import Training, make_vector_env
from tests.bench.process import (
    QUICK,
    Options,
    envpool_installed,
    interleaved,
    measure,
    one_core,
    origin,
)
from tests.bench.settings import SETTINGS, describe, rollout_size, setting, stable_baselines

STEPS: Final = 32_768
"""Steps that are timed, rounded up to whole updates: two of rl-zoo's."""
BUDGET: Final = 100_000_000
"""A budget out of reach: schedules stay constant, no evaluation is due."""
WARM_UPDATES: Final = 3
WARM_GRADIENTS: Final = 200
"""Gradient steps before timing begins: after 150 of them lander/graph.py captures ours."""
WARM_STEPS: Final = 4096
"""Steps of the environments alone."""

Sample = dict[str, float]


def contenders() -> list[str]:
    """The contenders at each setting."""
    backends = ["gymnasium", "envpool"] if envpool_installed() else ["gymnasium"]
    return ["sb3", *backends, *(f"env-{backend}" for backend in backends)]


def run(options: Options) -> dict[str, Any]:
    """Every contender at every setting, again in every round."""
    pairs = [(name, contender) for name in SETTINGS for contender in contenders()]
    samples: list[dict[str, Any]] = []
    for turn, (name, contender) in interleaved(options.rounds, pairs):
        sample = measure("speed", contender, name, *options.flags)
        samples.append({"round": turn, "setting": name, "contender": contender} | sample)
        rate = sample["steps"] / sample["seconds"]
        label = f"{turn}/{options.rounds}  {name:<7} {contender:<14}"
        print(f"speed    {label} {rate:>9,.0f} steps/s", flush=True)
    described = {name: describe(setting(name, quick=options.quick)) for name in SETTINGS}
    return origin() | {"quick": options.quick, "settings": described, "samples": samples}


def ours(config: TrainConfig, *, quick: bool) -> Sample:
    """Whole updates of this project."""
    config = resolve(replace(config, total_steps=BUDGET, checkpoints=1)).config
    size = rollout_size(config)
    gradients = config.ppo.update_epochs * (size // config.ppo.minibatch_size)
    warm = 1 if quick else max(WARM_UPDATES, ceil(WARM_GRADIENTS / gradients))
    updates = 1 if quick else ceil(STEPS / size)
    with closing(make_vector_env(config.env)) as envs:
        training = Training(config, envs)
        for _ in range(warm):
            training.update()
        started = time.perf_counter()
        for _ in range(updates):
            training.update()
        return {"steps": updates * size, "seconds": time.perf_counter() - started}


def theirs(config: TrainConfig, *, quick: bool) -> Sample:
    """Whole updates of Stable-Baselines3."""
    size = rollout_size(config)
    steps = size if quick else size * ceil(STEPS / size)
    model = stable_baselines(config, seed=config.seed)
    with closing(model.get_env()):
        model.learn(size)
        started = time.perf_counter()
        model.learn(steps, reset_num_timesteps=False)
        return {"steps": steps, "seconds": time.perf_counter() - started}


def environment(config: TrainConfig, *, quick: bool) -> Sample:
    """The training environments under random actions, drawn before."""
    num_envs = config.env.num_envs
    warm, turns = (1, 8) if quick else (WARM_STEPS // num_envs, STEPS // num_envs)
    _, space = spaces(config.env.id)
    space.seed(0)
    draws = [[space.sample() for _ in range(num_envs)] for _ in range(warm + turns)]
    actions = np.array(draws)
    with closing(make_vector_env(config.env)) as envs:
        envs.reset(range(num_envs))
        for rows in actions[:warm]:
            envs.step(rows)
        started = time.perf_counter()
        for rows in actions[warm:]:
            envs.step(rows)
        return {"steps": turns * num_envs, "seconds": time.perf_counter() - started}


def main(argv: Sequence[str]) -> None:
    """CONTENDER SETTING: take one sample."""
    one_core()
    contender, name, *flags = argv
    quick = QUICK in flags
    config = setting(name, quick=quick)
    if contender == "sb3":
        sample = theirs(config, quick=quick)
    else:
        function = environment if contender.startswith("env-") else ours
        backend = {"env.backend": contender.removeprefix("env-")}
        sample = function(configure(backend, base=config), quick=quick)
    print(json.dumps(sample))


if __name__ == "__main__":
    main(sys.argv[1:])
