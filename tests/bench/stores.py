"""A store for `growth`, written by the version that it is measured with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

from sweeps.store.database import sqlite_url
from sweeps.store.database_files import MLFLOW_FILE
from sweeps.store.store import Store, quiet
from tests.bench.growth import add, finished, study
from tests.bench.load import fill

BACKEND: Final = "MLFLOW_BACKEND_STORE_URI"
"""Of an MLflow server: its database is filled directly."""


def main(argv: Sequence[str]) -> None:
    """STORE fill SIZE, STORE add TRIALS or STORE count: how many trials it then has, or shall have,
    or has finished."""
    quiet()
    folder, verb, *words = argv
    store = Store(Path(folder))
    if verb == "fill":
        url, trials = os.environ.get(BACKEND), int(words[0])
        runs = make_url(url) if url else sqlite_url(store.folder / MLFLOW_FILE)
        fill(store, study(), trials=trials, runs=runs)
    elif verb == "add":
        trials = add(store, int(words[0]))
    else:
        trials = len(finished(store))
    print(json.dumps({"trials": trials}))


if __name__ == "__main__":
    main(sys.argv[1:])
