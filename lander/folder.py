"""A finished run on disk: config, curve, weights and GIF in one folder."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

from lander.checkpoint import save
from lander.fields import ConfigError, to_toml
from lander.gif import save_landing
from lander.metrics import CURVES
from lander.trainer import Progress, TrainResult


def require_new(folder: Path) -> None:
    """Refuse a folder that holds something, before hours of training are spent on it.

    Raises:
        ConfigError: `folder` holds something, or there is no place for it.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"--out {folder} exists already: name a new folder")
    if folder.resolve() == Path.cwd():
        raise ConfigError("--out cannot be the current folder: name a new one")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {folder}: cannot create {folder.parent}: {error.strerror}"
        ) from None


def write_run(folder: Path, result: TrainResult, curve: Sequence[Progress]) -> None:
    """config.toml, curve.csv, policy.pt (last), best.pt (best checkpoint), landing.gif.

    Written beside `folder` and renamed, so that the folder is complete or absent.
    """
    aside = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (aside / "config.toml").write_text(to_toml(result.config))
        write_curve(aside / "curve.csv", curve)
        save(aside / "policy.pt", result.policy, result.config)
        save(aside / "best.pt", result.best_policy, result.config)
        save_landing(aside / "landing.gif", result.config.env.id, result.final)
        aside.chmod(0o755)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def write_curve(path: Path, curve: Sequence[Progress]) -> None:
    """One row per update, one column per curve, returns in raw environment units."""
    with path.open("w", newline="") as file:
        rows = csv.DictWriter(file, ["env_steps", *CURVES])
        rows.writeheader()
        rows.writerows({"env_steps": point.env_steps, **point.metrics} for point in curve)
