"""A whole training as a trial makes it, and how much of its time evaluation takes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Final

from lander.config import TrainConfig
from lander.dotted import configure
from lander.trainer import Progress, train
from tests.bench.process import QUICK, one_core

QUICK_FIELDS: Final = {
    "total_steps": 4096,
    "checkpoints": 2,
    "eval_episodes": 2,
    "final_episodes": 2,
}


def timed_training(config: TrainConfig) -> dict[str, float]:
    """Train once: all seconds, and those of evaluations during it and after its last update."""
    ended = [time.perf_counter()]

    def note(progress: Progress) -> None:
        ended.append(time.perf_counter())

    result = train(config, on_update=note)
    end = time.perf_counter()
    checkpoints = sum(evaluation.seconds for evaluation in result.checkpoints)
    return {
        "steps": result.env_steps,
        "seconds": end - ended[0],
        "evaluation_seconds": checkpoints + end - ended[-1],
    }


def main(argv: Sequence[str]) -> None:
    """VALUES: train once with these fields, as JSON."""
    one_core()
    values, *flags = argv
    fields = json.loads(values) | (QUICK_FIELDS if QUICK in flags else {})
    print(json.dumps(timed_training(configure(fields, base=TrainConfig()))))


if __name__ == "__main__":
    main(sys.argv[1:])
