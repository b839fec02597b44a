"""Whole updates of a training, and how much of their time the environments take."""

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
from numpy.typing import NDArray

from lander.config import TrainConfig
from lander.dotted import configure
from lander.resolve import resolve
from lander.trainer import Training, make_vector_env
from lander.vector import Step, VectorEnv
from tests.bench.process import QUICK, one_core

STEPS: Final = 32_768
"""Steps that are timed, rounded up to whole updates: two of rl-zoo's."""
BUDGET: Final = 100_000_000
"""A budget out of reach: schedules stay constant, no evaluation is due."""
WARM_UPDATES: Final = 3
WARM_GRADIENTS: Final = 200
"""Gradient steps before timing begins: lander/graph.py needs 20 to record ours, the version before
needed 150."""
METHOD: Final = "step"


class Stopwatch:
    """The time inside the environments' `step`."""

    def __init__(self, envs: VectorEnv) -> None:
        self.seconds = 0.0
        self._step = envs.step
        setattr(envs, METHOD, self.step)

    def step(self, actions: NDArray[np.generic], copies: NDArray[np.intp] | None = None) -> Step:
        """Call the environments' own method."""
        started = time.perf_counter()
        step = self._step(actions, copies)
        self.seconds += time.perf_counter() - started
        return step


def whole_updates(config: TrainConfig, *, quick: bool) -> dict[str, float]:
    """Collect and learn, without evaluation, after a warm-up.

    Raises:
        RuntimeError: training does not call `step`, so that the time inside it is unknown.
    """
    config = resolve(replace(config, total_steps=BUDGET, checkpoints=1)).config
    size = config.env.num_envs * config.ppo.rollout_steps
    gradients = config.ppo.update_epochs * (size // config.ppo.minibatch_size)
    warm = 1 if quick else max(WARM_UPDATES, ceil(WARM_GRADIENTS / gradients))
    updates = 1 if quick else ceil(STEPS / size)
    with closing(make_vector_env(config.env)) as envs:
        stopwatch = Stopwatch(envs)
        training = Training(config, envs)
        for _ in range(warm):
            training.update()
        stopwatch.seconds = 0.0
        started = time.perf_counter()
        for _ in range(updates):
            training.update()
        seconds = time.perf_counter() - started
    if not stopwatch.seconds:
        raise RuntimeError("training does not step through VectorEnv.step: nothing to time")
    return {"steps": updates * size, "seconds": seconds, "env_seconds": stopwatch.seconds}


def main(argv: Sequence[str]) -> None:
    """VALUES: take one sample with these fields, as JSON."""
    one_core()
    values, *flags = argv
    fields: dict[str, Any] = json.loads(values)
    config = configure(fields, base=TrainConfig())
    print(json.dumps(whole_updates(config, quick=QUICK in flags)))


if __name__ == "__main__":
    main(sys.argv[1:])
