"""python -m tests.paths [CHECKOUT]: through which files a hyperparameter, a trial and a metric go.

The commands of a checkout create, train and publish a sweep of one trial, while every call
of a function of its packages is watched. A file is a station of a path whenever one of its
functions is handed the thing, or gets it back from a call:

- `ppo.clip_range`, from the study file to the charts of the sweep's run: its value, its range, a
  table that holds nothing else; or the function's own code names the field, whatever it is handed.
  A configuration or a table of all fields that is only passed on makes no station;
- the trial, from `work` to its end: Optuna's object for it;
- `policy/clip_fraction`, from the update to MLflow: a table with it, the progress of a training
  that has such a table, its points, a line of the outbox; or the function's own code names it.

Each step from file to file counts once, however often it is taken. A path of n files has at least
n - 1 steps; every further one turns back to a file that was left before.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import CO_VARARGS, CO_VARKEYWORDS
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType
from typing import Any, Final

PACKAGES: Final = ("lander", "sweeps", "analysis")
VALUE: Final = 0.2123
"""The value of `ppo.clip_range`, and of nothing else."""
FIELD: Final = "clip_range"
METRIC: Final = "policy/clip_fraction"
MANY: Final = 100
"""A list is searched up to here."""
NAME: Final = "traced"
STUDY: Final = f"""
[study]
name = "{NAME}"
trials = 1
sampler = "random"
pruner = "none"

[base]
"env.id" = "CartPole-v1"
"env.num_envs" = 2
"ppo.rollout_steps" = 32
"ppo.minibatch_size" = 64
"ppo.update_epochs" = 1
"ppo.clip_range" = {VALUE}
total_steps = 128
checkpoints = 1
eval_episodes = 1
final_episodes = 1

[space]
"ppo.clip_range" = {{ low = {VALUE}, high = 0.9 }}
"""


def is_field(value: Any) -> bool:
    """The hyperparameter's value or range, or a table of it alone."""
    if isinstance(value, float):
        return value == VALUE
    if isinstance(value, dict):
        return [*value] == [f"ppo.{FIELD}"]
    if type(value).__name__ not in {"Range", "FloatDistribution"}:
        return False
    return bool(getattr(value, "distribution", value).low == VALUE)


def is_trial(value: Any) -> bool:
    """Optuna's trial, running or not."""
    return type(value).__name__ in {"Trial", "FrozenTrial"}


def is_metric(value: Any) -> bool:
    """A table, a text, a point, or a progress that has a table with the metric."""
    if isinstance(value, dict | str):
        return METRIC in value
    if isinstance(value, list | tuple):
        return is_point(value) or any(map(is_point, value[:MANY]))
    return type(value).__name__ == "Progress" and METRIC in value.metrics


def is_point(value: Any) -> bool:
    """A point of the metric's curve, as the outbox or as MLflow holds it."""
    if isinstance(value, list | tuple):
        return isinstance(next(iter(value), None), str) and value[0] == METRIC
    return type(value).__name__ == "Metric" and bool(value.key == METRIC)


@dataclass(frozen=True)
class Thing:
    """What is followed."""

    holds: Callable[[Any], bool]
    """Whether a value is it, or holds it."""
    word: str | None
    """Its name in the code of a function."""
    commands: frozenset[str]
    """The commands on its path."""


THINGS: Final = {
    f"ppo.{FIELD}": Thing(is_field, FIELD, frozenset({"run", "work"})),
    "trial": Thing(is_trial, None, frozenset({"work"})),
    METRIC: Thing(is_metric, METRIC, frozenset({"work"})),
}


class Watch:
    """A profile function: Python calls it at every call and return; it notes the stations."""

    def __init__(self, root: Path, thing: Thing) -> None:
        self._prefixes = tuple(f"{root / package}{os.sep}" for package in PACKAGES)
        self._root, self._holds, self._word = root, thing.holds, thing.word
        self.stations: list[str] = []

    def __call__(self, frame: FrameType, event: str, result: Any) -> None:
        code = frame.f_code
        if not self._is_product(code):
            return
        if event == "call":
            values = [frame.f_locals.get(name) for name in arguments(code)]
            if names(code, self._word) or any(map(self._holds, values)):
                self._note(code)
        elif event == "return" and self._holds(result):
            self._note(code)
            if frame.f_back is not None and self._is_product(frame.f_back.f_code):
                self._note(frame.f_back.f_code)

    def _is_product(self, code: CodeType) -> bool:
        return code.co_filename.startswith(self._prefixes) and code.co_filename.endswith(".py")

    def _note(self, code: CodeType) -> None:
        file = str(Path(code.co_filename).relative_to(self._root))
        if self.stations[-1:] != [file]:
            self.stations.append(file)


def arguments(code: CodeType) -> Sequence[str]:
    """The names of a function's arguments."""
    starred = sum(bool(code.co_flags & flag) for flag in (CO_VARARGS, CO_VARKEYWORDS))
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + starred]


def names(code: CodeType, word: str | None) -> bool:
    """Whether a function's own code names a word, as an attribute or as a text."""
    return word is not None and (word in code.co_names or word in code.co_consts)


def follow(root: Path, thing: Thing) -> list[str]:
    """The stations of one thing, in order, while this process runs the commands of a checkout."""
    import_all(root)  # what runs once per import is no step of any path
    main: Callable[[list[str]], int] = importlib.import_module("sweeps.__main__").main
    watch = Watch(root, thing)
    with TemporaryDirectory() as folder:
        for argv in commands(Path(folder)):
            watched = watching(watch) if argv[0] in thing.commands else contextlib.nullcontext()
            with contextlib.redirect_stdout(io.StringIO()), watched:
                code = main(argv)
            assert code == 0, argv
    return watch.stations


@contextlib.contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Have all calls inside watched, those of threads that begin there too."""
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def import_all(root: Path) -> None:
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if not path.name.startswith("__"):
                parts = path.relative_to(root).with_suffix("").parts
                importlib.import_module(".".join(parts))


def commands(folder: Path) -> Iterator[list[str]]:
    """Create the sweep, train its trial, publish it."""
    file, store = folder / f"{NAME}.toml", ["--store", str(folder / "mlruns")]
    file.write_text(STUDY)
    yield ["run", "--study", str(file), *store, "--no-report", "--hours", "1e-9"]
    yield ["work", "--study", NAME, *store]
    yield ["run", "--study", str(file), *store, "--no-report"]


def follow_apart(root: Path, thing: str) -> list[str]:
    """The same in a process of its own, whose packages are those of the checkout."""
    program = (
        f"import runpy; print(runpy.run_path({__file__!r})['as_json']({str(root)!r}, {thing!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"the path of {thing} ended with {done.returncode}")
    return [str(file) for file in json.loads(done.stdout.splitlines()[-1])]


def as_json(root: str, thing: str) -> str:
    """For a process that has only this file."""
    return json.dumps(follow(Path(root), THINGS[thing]))


def turns_back(stations: Sequence[str]) -> list[tuple[str, str]]:
    """The different steps to a file that was left before."""
    steps = dict.fromkeys(pairwise(stations))
    first = {later: (earlier, later) for earlier, later in reversed(list(steps))}
    return [step for step in steps if step != first[step[1]] or step[1] == stations[0]]


def main(argv: Sequence[str]) -> int:
    """Print the paths in a checkout; 0."""
    (root,) = (Path(name).resolve() for name in argv or ["."])
    for thing in THINGS:
        stations = follow_apart(root, thing)
        back = turns_back(stations)
        print(f"{thing}: {len(set(stations))} files, {len(back)} turns back")
        for file in dict.fromkeys(stations):
            turns = [later for earlier, later in back if earlier == file]
            print(f"  {file}{' back to ' if turns else ''}{', '.join(turns)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
