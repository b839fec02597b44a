"""Environments alone: stepped with random actions that were drawn before, and nothing else."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final

import torch

from lander.config import TrainConfig
from lander.dotted import configure
from lander.policy import make_policy
from lander.resolve import resolve
from lander.trainer import make_vector_env
from lander.vector import SerialVectorEnv, VectorEnv
from tests.bench.process import QUICK, one_core

STEPS: Final = 32_768
WARM_STEPS: Final = 4096


def environments(kind: str, config: TrainConfig) -> VectorEnv:
    """Those that a training uses, or stock Gymnasium's in a plain loop."""
    if kind == "stock":
        return SerialVectorEnv(config.env, config.env.num_envs, time_limit=config.env.time_limit)
    return make_vector_env(config.env)


def random_steps(kind: str, config: TrainConfig, *, quick: bool) -> dict[str, float]:
    """Step them with actions of a uniform policy with the config's head."""
    num_envs = config.env.num_envs
    warm, turns = (1, 8) if quick else (WARM_STEPS // num_envs, STEPS // num_envs)
    generator = torch.Generator().manual_seed(0)
    head = make_policy(config, generator=generator).head
    shape = (warm + turns, num_envs, head.action_dims)
    drawn = torch.randint(head.outputs // head.action_dims, shape, generator=generator)
    actions = [head.to_env(rows).numpy() for rows in drawn]
    with closing(environments(kind, config)) as envs:
        envs.reset(range(num_envs))
        for rows in actions[:warm]:
            envs.step(rows)
        started = time.perf_counter()
        for rows in actions[warm:]:
            envs.step(rows)
        return {"steps": turns * num_envs, "seconds": time.perf_counter() - started}


def main(argv: Sequence[str]) -> None:
    """KIND VALUES: take one sample with these fields, as JSON; KIND is training or stock."""
    one_core()
    kind, values, *flags = argv
    config = resolve(configure(json.loads(values), base=TrainConfig())).config
    print(json.dumps(random_steps(kind, config, quick=QUICK in flags)))


if __name__ == "__main__":
    main(sys.argv[1:])
