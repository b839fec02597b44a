"""Builds a store that was made to harm its readers, by code, links, names and paths."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lander.config import EnvConfig, TrainConfig
from lander.dotted import flatten
from sweeps.lifecycle.start import start_sweep
from sweeps.record.recorder import MlflowRecorder
from sweeps.run.worker import work
from sweeps.schema import BASE, RUN_ID
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import open_sweep
from tests.studies import ONE_TRIAL, changed

MODULE = "payload"
ID = f"{MODULE}:Env-v0"
PAYLOAD = """
import pathlib
import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

pathlib.Path(__file__).with_name("PWNED").touch()
gymnasium.register("Env-v0", CartPoleEnv, max_episode_steps=20)
"""
FORGED = "x\x1b]0;owned\x07\x1b[2J\nhonest: 999 complete\u202e"
"""A study's name, and a reason, that would steer a terminal."""
NAMES = ("honest", "module", "record", "away", "linked", "named")
"""Studies: as it should be; a text, and records, that name a module; places outside; links; a name
that is a path."""
PATH = "../../victim/x"
"""The name of the last one, in the database."""


@dataclass(frozen=True)
class Hostile:
    """The store, and a folder that must stay untouched."""

    store: Store
    victim: Path
    """The reader's own folder."""

    @property
    def mark(self) -> Path:
        """The file that the store's code creates when it runs."""
        return self.store.folder / "PWNED"

    def bystanders(self) -> dict[str, bytes]:
        """All files of the reader's, by name."""
        files = (path for path in sorted(self.victim.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.victim)): path.read_bytes() for path in files}


def named(name: str) -> str:
    return changed(ONE_TRIAL, {'"one"': f'"{name}"'})


def build(empty: Path, folder: Path) -> Hostile:
    """Ordinary sweeps of one trial each, tampered with afterwards."""
    store = Store(Path(shutil.copytree(empty, folder / "store")))
    victim = folder / "victim"
    victim.mkdir()
    (victim / "secret.toml").write_text("a secret of the reader's\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowRecorder, "summary", lambda *_, **__: None)  # no picture, no model
        for name in NAMES:
            study = read_study(named(name), source=name)
            start_sweep(study, store, trials=1, command=["run"])
            work(store, name, index=0, seconds=None)
    runs = {
        name: str(open_sweep(store, name).read_trials().all[0].user_attrs[RUN_ID]) for name in NAMES
    }
    parents = {name: open_sweep(store, name).run_id for name in NAMES}
    files = {name: store.artifacts / name / runs[name] / "artifacts" for name in NAMES}
    (store.folder / f"{MODULE}.py").write_text(PAYLOAD)
    tamper_optuna(store.folder / "optuna.db")
    bad = flatten(TrainConfig(env=EnvConfig(id=ID)))
    torch.save({"config": bad, "weights": {}}, files["record"] / "policy.pt")
    text = (files["record"] / "config.toml").read_text()
    (files["record"] / "config.toml").write_text(text.replace("CartPole-v1", ID))
    for link in (files["linked"] / "config.toml", files["linked"] / "policy.pt"):
        link.unlink()
        link.symlink_to(victim / "secret.toml")
    parent = store.artifacts / "linked" / parents["linked"] / "artifacts"
    (parent / "picture.png").symlink_to(victim / "secret.toml")
    (parent / "report").symlink_to(victim)
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as connection, connection:
        for run in (runs["away"], parents["away"]):
            connection.execute(
                "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (victim.as_uri(), run)
            )
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE name = 'away'", (victim.as_uri(),)
        )
    return Hostile(store, victim)


def tamper_optuna(file: Path) -> None:
    """A text that names a module; a study, and a reason, that would steer a terminal."""
    with closing(sqlite3.connect(file)) as connection, connection:
        ids = dict(connection.execute("SELECT study_name, study_id FROM studies"))
        text = named("module").replace("CartPole-v1", ID)
        connection.execute(
            "UPDATE study_user_attributes SET value_json = ? WHERE study_id = ? AND key = ?",
            (json.dumps(text), ids["module"], "study.toml"),
        )
        connection.execute(  # and the base that is kept with it
            "UPDATE study_user_attributes SET value_json = replace(value_json, 'CartPole-v1', ?) "
            "WHERE study_id = ? AND key = ?",
            (ID, ids["module"], BASE),
        )
        connection.execute("UPDATE studies SET study_name = ? WHERE study_name = 'named'", (PATH,))
        connection.execute("INSERT INTO studies (study_name) VALUES (?)", (FORGED,))
        connection.execute(
            "INSERT INTO study_directions (direction, study_id, objective) "
            "SELECT 'MAXIMIZE', study_id, 0 FROM studies WHERE study_name = ?",
            (FORGED,),
        )
