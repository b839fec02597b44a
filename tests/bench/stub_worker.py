"""A worker whose trials cost what the harness costs: a stub replaces training."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Final, ParamSpec, TypeVar

import numpy as np

import sweeps.run.objective
from lander.dotted import configure
from lander.resolve import Resolved
from lander.trainer import Progress, TrainResult, train
from sweeps.record.recorder import MlflowRecorder
from sweeps.run.worker import work
from sweeps.store.store import Store, quiet
from tests.bench.growth import REPORTS, WARM, study
from tests.bench.load import STUDY
from tests.bench.process import one_core

PARTS: Final[dict[str, tuple[str, ...]]] = {
    "ask": ("optuna.Study.ask",),
    "sampler": ("sweeps.run.objective.suggest",),
    "reports": (
        "sweeps.run.objective.Objective._is_behind",
        "sweeps.run.objective.Objective._report",
    ),
    "estimate": ("sweeps.run.objective.EarlierScores.of", "sweeps.run.objective.earlier_scores"),
    "record": (
        "sweeps.record.outbox.Outbox.write",
        "sweeps.record.outbox.Outbox.deliver",
        "sweeps.record.recorder.save",
    ),
    "tell": ("optuna.Study.tell",),
    "look around": ("sweeps.run.worker.requeue_lost",),
    "memory": ("sweeps.run.worker.give_back_memory",),
}
"""What a worker calls in each part of a trial, in this version or an earlier one."""

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
        """Time what a worker calls."""
        for part, names in PARTS.items():
            for owner, attribute in existing(names):
                setattr(owner, attribute, self.part(part, getattr(owner, attribute)))


def existing(names: Iterable[str]) -> Iterator[tuple[object, str]]:
    """Owner and attribute of each dotted name that this version has."""
    for name in names:
        owner_name, _, attribute = name.rpartition(".")
        try:
            owner = resolve_name(owner_name)
        except (ImportError, AttributeError):
            continue
        if hasattr(owner, attribute):
            yield owner, attribute


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
