"""A run on disk: config, curve and weights in one folder, which appears when it is complete.

Until then its files are in DIR.unfinished, with the state from which the run can be resumed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lander.checkpoint import read, save, write
from lander.config import TrainConfig
from lander.dotted import configure, flatten, to_toml
from lander.errors import ConfigError
from lander.files import inside, write_aside
from lander.metrics import CURVES
from lander.terminal import program
from lander.trainer import Progress, State, TrainResult
from lander.trust import Origin

STATE: Final = "training.pt"
CHECKPOINTS: Final = "checkpoints"

Row = Mapping[str, float]
"""A line of curve.csv: env_steps, and an update's point of each curve."""


class RunFolder:
    """The folder of one run, from its first checkpoint to its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origin = Origin.folder(folder)
        self.unfinished = folder.parent / f"{folder.name}.unfinished"
        self.curve: list[Row] = []
        self.resumed_at = 0
        """Environment steps done before this process."""

    def require_new(self) -> None:
        """Refuse a folder that holds something, before hours of training are spent on it.

        Raises:
            ConfigError: `folder` holds something, or cannot be created.
        """
        folder = self.folder
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ConfigError(f"--out {folder} exists already: name a new folder")
        if folder.resolve() == Path.cwd():
            raise ConfigError("--out cannot be the current folder: name a new one")
        if self.unfinished.exists():
            raise ConfigError(
                f"--out {folder} has an unfinished run: resume it with {program('lander')} "
                f"resume {folder}, or remove {self.unfinished}"
            )
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"--out {folder}: cannot create {folder.parent}: {error.strerror}"
            ) from None

    def add(self, progress: Progress) -> None:
        """Keep an update's point of each curve."""
        self.curve.append({"env_steps": progress.env_steps, **progress.metrics})

    def write_state(self, progress: Progress, config: TrainConfig) -> None:
        """Write the state to resume from; at a checkpoint also the policy in a file of its own."""
        state = progress.state()
        checkpoints = self.unfinished / CHECKPOINTS
        checkpoints.mkdir(parents=True, exist_ok=True)
        if progress.evaluation is not None:
            save(checkpoints / f"{progress.env_steps}.pt", state["policy"], config)
        (self.unfinished / "config.toml").write_text(to_toml(config))
        write_curve(self.unfinished / "curve.csv", self.curve)
        curve = [dict(row) for row in self.curve]
        write(self.unfinished / STATE, {"training": state, "curve": curve})

    def read_state(self) -> tuple[TrainConfig, State]:
        """Config and state of an unfinished run; its curve is read too.

        Raises:
            ConfigError: no state to resume from, or an environment that needs consent.
        """
        path = self.unfinished / STATE
        if not path.is_file():
            finished = (self.folder / "policy.pt").is_file()
            reason = "the run is finished" if finished else f"no file {path}"
            raise ConfigError(f"nothing to resume at {self.folder}: {reason}")
        inside(self.unfinished.parent, self.unfinished)
        for other in self.unfinished.rglob("*"):  # a resumed run writes to any of them
            inside(self.unfinished, other)
        saved = read(path)
        try:
            state: State = saved["training"]
            config = configure(state["config"], base=TrainConfig())
            self.curve = list(saved["curve"])
            self.resumed_at = int(state["env_steps"])
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not a state of this program: {error!r}") from None
        try:
            self.origin.require(flatten(config))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        return config, state

    @property
    def can_resume(self) -> bool:
        """Whether a state to resume from is on disk."""
        return (self.unfinished / STATE).is_file()

    def finish(self, result: TrainResult) -> None:
        """Write config.toml, curve.csv, policy.pt (last) and best.pt (best checkpoint)."""
        aside, config = self.unfinished, result.config
        aside.mkdir(exist_ok=True)
        (aside / "config.toml").write_text(to_toml(config))
        write_curve(aside / "curve.csv", self.curve)
        save(aside / "policy.pt", result.policy.state_dict(), config)
        save(aside / "best.pt", result.best_policy.state_dict(), config)
        aside.rename(self.folder)
        (self.folder / STATE).unlink(missing_ok=True)


def policy_path(folder: Path, *, best: bool, env_steps: int | None) -> Path:
    """The last policy of a finished run, its best, or the checkpoint after `env_steps`.

    Raises:
        ConfigError: no such checkpoint; the message names the existing ones.
    """
    if env_steps is None:
        return folder / ("best.pt" if best else "policy.pt")
    path = folder / CHECKPOINTS / f"{env_steps}.pt"
    if not path.is_file():
        stems = [other.stem for other in path.parent.glob("*.pt")]
        steps = sorted(int(stem) for stem in stems if stem.isdecimal())
        raise ConfigError(f"{folder} has no checkpoint {env_steps}: {steps or 'none'}")
    return path


def write_curve(path: Path, curve: list[Row]) -> None:
    """Write one row per update and one column per curve, returns in raw environment units."""
    with write_aside(path) as aside, aside.open("w", newline="") as file:
        rows = csv.DictWriter(file, ["env_steps", *CURVES])
        rows.writeheader()
        rows.writerows(curve)
