"""A worker whose trials cost what the harness costs: a stub is in the place of training."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
import optuna

import sweeps.record.recorder
import sweeps.run.objective
import sweeps.run.worker
from lander.dotted import configure
from lander.resolve import Resolved
from lander.trainer import Progress, TrainResult, train
from sweeps.record.outbox import Outbox
from sweeps.record.recorder import MlflowRecorder
from sweeps.run.objective import Objective
from sweeps.run.worker import work
from sweeps.store.store import Store, quiet
from tests.bench.growth import REPORTS, WARM, study
from tests.bench.load import STUDY
from tests.bench.process import one_core

PARTS: Final[tuple[tuple[Any, str, str], ...]] = (
    (optuna.Study, "ask", "ask"),
    (sweeps.run.objective, "suggest", "sampler"),
    (Objective, "_report", "reports"),
    (sweeps.run.objective, "earlier_scores", "estimate"),
    (Outbox, "write", "record"),
    (Outbox, "deliver", "record"),
    (sweeps.record.recorder, "save", "record"),
    (optuna.Study, "tell", "tell"),
    (sweeps.run.worker, "requeue_lost", "look around"),
    (sweeps.run.worker, "give_back_memory", "memory"),
)
"""Owner and name of what a worker calls, and the part to which its time is added."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Clock:
    """Where the time of a worker goes, after its first trials."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        """The times at which trials were asked for."""
        self.parts: defaultdict[str, float] = defaultdict(float)

    def part(self, name: str, call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """The call, whose time is added to that of a part."""

        @wraps(call)
        def timed(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            if name == "ask":
                self.marks.append(time.perf_counter())
                if len(self.marks) == WARM + 1:
                    self.parts.clear()
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.parts[name] += time.perf_counter() - started

        return timed

    def install(self) -> None:
        """Time what a worker calls; an earlier version may lack some of it."""
        for owner, attribute, name in PARTS:
            if hasattr(owner, attribute):
                setattr(owner, attribute, self.part(name, getattr(owner, attribute)))


def rehearse() -> Callable[..., TrainResult]:
    """A stub of `train` that repeats the progress of a tiny real training, with other numbers."""
    seen: list[Progress] = []
    tiny = {"total_steps": 4_096, "checkpoints": 2, "eval_episodes": 1, "final_episodes": 20}
    config = configure(tiny, base=study().base)
    result = train(config, on_update=seen.append)
    last = next(progress for progress in reversed(seen) if progress.evaluation is not None)
    assert last.evaluation is not None
    evaluation = last.evaluation
    rng = np.random.default_rng(os.getpid())

    def stub(
        resolved: Resolved, *, on_update: Callable[[Progress], None], **_: object
    ) -> TrainResult:
        config = resolved.config
        for checkpoint in range(1, REPORTS + 1):
            # better than all before it, and so never pruned
            returns = tuple(rng.normal(time.time(), 1e-3, size=len(evaluation.returns)))
            seen = replace(evaluation, returns=returns)
            steps = checkpoint * config.total_steps // REPORTS
            on_update(replace(last, checkpoint=checkpoint, env_steps=steps, evaluation=seen))
        final = replace(result.final, returns=tuple(rng.normal(1_000, 9.0, size=20)))
        return replace(result, config=config, env_steps=config.total_steps, final=final)

    return stub


def nothing(*_: object, **__: object) -> None:
    """Replaces GIF and model, which cost the same in any store."""


def main(argv: list[str]) -> None:
    """STORE NUMBER WORKERS: run trials until none is left, with a stub of training."""
    quiet()
    if argv[2] == "1":
        one_core()
    stubs = ((sweeps.run.objective, "train", rehearse()), (MlflowRecorder, "summary", nothing))
    for owner, name, stub in stubs:
        setattr(owner, name, stub)
    clock = Clock()
    clock.install()
    store = Store(Path(argv[0]))
    store.runs().search_experiments(max_results=1)  # the first query of a process sets MLflow up
    print("ready", flush=True)
    sys.stdin.readline()
    begin = time.time()
    work(store, STUDY, index=int(argv[1]), seconds=None)
    marks = clock.marks
    figures = {
        "begin": begin,
        "end": time.time(),
        "all": len(marks) - 1,
        "count": max(0, len(marks) - 1 - WARM),
        "seconds": marks[-1] - marks[min(WARM, len(marks) - 1)],
        "parts": dict(clock.parts),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
