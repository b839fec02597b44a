"""python -m tests.old_store COMMIT OUT: a small store that the code of a commit wrote, as text.

The commands of that commit run two studies in a temporary folder: `old`, whose trials end in every
way there is and whose winner is confirmed, and `late`, whose only trial ends while the database of
MLflow is locked, so that its record waits in the outbox. What they leave is written to OUT: both
databases
as SQL, the files that records need, and no name of the machine, its user or a folder on it.
`restored` makes a store of it again.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.processes import ROOT, python_m, starting, until
from tests.studies import LATE, OLD

DATABASES: Final = ("optuna.db", "mlflow.db")
FOLDER: Final = "/somewhere/mlruns"
"""Stands for the folder in which the store was written."""
TEXTS: Final = {"", ".json", ".jsonl", ".toml", ".txt", ".yaml"}
"""Endings of files that are kept, among them those of a model's description."""
LEFT_OUT: Final = "left out\n"
"""All of any other file: weights are no text, and training makes them again."""


def build(commit: str, out: Path) -> None:
    """Write the store of a commit to a folder, which must not exist yet."""
    with TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        check_out(commit, work / "code")
        (work / "old.toml").write_text(OLD)
        (work / "late.toml").write_text(LATE)
        environ = os.environ | {"PYTHONPATH": str(work / "code"), "OMP_NUM_THREADS": "1"}
        run_all(work, environ)
        write(work, out)


def check_out(commit: str, folder: Path, *, root: Path = ROOT) -> None:
    """The files of a commit of the repository at `root`."""
    command = ["git", "archive", "--format=tar", commit]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def run_all(work: Path, environ: Mapping[str, str]) -> None:
    """Both studies, by commands in the folder `work`."""

    def command(module: str, *args: str) -> None:
        done = python_m(module, *args, cwd=work, environ=environ)
        assert done.returncode == 0, done.stdout + done.stderr

    run = ("sweeps", "run", "--study", "old.toml", "--workers", "1")
    command(*run, "--trials", "2")
    command(*run, "--trials", "8", "--hours", "1e-9")  # there is work, which nobody does yet
    interrupt(work, environ, signal.SIGINT)
    interrupt(work, environ, signal.SIGKILL)
    command(*run)
    command("analysis", "confirm", "--study", "old", "--top", "1", "--seeds", "2")
    command("sweeps", "run", "--study", "late.toml", "--hours", "1e-9")
    leave_undelivered(work, environ)


def interrupt(work: Path, environ: Mapping[str, str], number: int) -> None:
    """Resume the sweep `old` with one worker, and end this by a signal during a trial."""
    with starting() as start:
        args = ("work", "--study", "old", "--store", work / "mlruns")
        worker = start("sweeps", *args, environ=environ)
        until(lambda: states(work, "old").count("RUNNING") == 1, worker)
        worker.send_signal(number)
        worker.communicate()


def leave_undelivered(work: Path, environ: Mapping[str, str]) -> None:
    """Run the trial of `late` while MLflow's database is locked, and kill its worker at the end."""
    with starting() as start, closing(sqlite3.connect(work / "mlruns" / "mlflow.db")) as mlflow:
        args = ("work", "--study", "late", "--store", work / "mlruns")
        worker = start("sweeps", *args, environ=environ)
        until(lambda: list(work.glob("mlruns/spool/late-*/records.jsonl")), worker)
        mlflow.execute("BEGIN EXCLUSIVE")
        until(lambda: states(work, "late") == ["COMPLETE"], worker)
        worker.kill()
        worker.communicate()


def write(work: Path, out: Path) -> None:
    """Both databases as SQL, and the files that are kept, without anything of this machine."""
    store = work / "mlruns"
    out.mkdir(parents=True)
    for name in DATABASES:
        with closing(sqlite3.connect(store / name)) as database:
            text = "\n".join(database.iterdump())
        (out / name).with_suffix(".sql").write_text(scrubbed(text, work) + "\n")
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        if not is_kept(path.relative_to(store)):
            continue
        copy = out / path.relative_to(store)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(scrubbed(path.read_text(), work) if path.suffix in TEXTS else LEFT_OUT)


def is_kept(name: Path) -> bool:
    """All of the outbox, and of a trial what a receipt and the doctor ask for."""
    if name.parts[0] == "artifacts":
        return "models" not in name.parts and (name.suffix == ".toml" or name.name == "policy.pt")
    return name.parts[0] == "spool"


def scrubbed(text: str, work: Path) -> str:
    """A text without folders, host, user, boot and namespace of this machine."""
    text = text.replace(str(work / "mlruns"), FOLDER).replace(str(work), str(Path(FOLDER).parent))
    host = re.escape(socket.gethostname())
    text = re.sub(rf"\b{host}:(\d+):\d+:[0-9a-f-]{{36}}:\d+:", r"host:\1:1:boot:1:", text)
    user = re.escape(getpass.getuser())
    return re.sub(rf"('mlflow\.user','){user}'|(','){user}(',)", r"\1\2user\3'", text)


def restored(source: Path, folder: Path) -> None:
    """Make a store of what `build` wrote, as if its folder had been moved to `folder`."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.sql"))
    for name in DATABASES:
        with closing(sqlite3.connect(folder / name)) as database:
            database.executescript((source / name).with_suffix(".sql").read_text())


def states(work: Path, study: str) -> list[str]:
    """The states of a study's trials in Optuna's database."""
    query = (
        "SELECT state FROM trials JOIN studies USING (study_id) "
        "WHERE study_name = ? ORDER BY number"
    )
    with closing(sqlite3.connect(work / "mlruns" / "optuna.db", timeout=60)) as optuna:
        return [state for (state,) in optuna.execute(query, (study,))]


def main(argv: Sequence[str]) -> int:
    """COMMIT OUT; 0."""
    commit, out = argv
    build(commit, Path(out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
