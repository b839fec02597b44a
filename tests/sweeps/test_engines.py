"""A database file that is replaced on disk is the one that is read and written from then on."""

from __future__ import annotations

import shutil
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError

from sweeps.store.store import Store


def test_a_process_sees_the_database_that_replaced_the_one_it_opened(
    store: Store, empty: Path
) -> None:
    optuna.create_study(study_name="before", storage=store.trials())
    runs = store.runs()
    runs.create_experiment("before")
    replace(store, empty, "optuna.db")
    replace(store, empty, "mlflow.db")
    assert store.study_names() == []
    assert [experiment.name for experiment in store.runs().search_experiments()] == ["Default"]
    optuna.create_study(study_name="after", storage=store.trials())
    store.runs().create_experiment("after")
    again = Store(store.folder)
    assert again.study_names() == ["after"]
    assert [experiment.name for experiment in again.runs().search_experiments()] == [
        "after",
        "Default",
    ]
    assert "before" not in [experiment.name for experiment in runs.search_experiments()]


def replace(store: Store, other: Path, name: str) -> None:
    """Another file under the same name, as `mv` puts it there."""
    aside = store.folder / f"{name}.copy"
    shutil.copy(other / name, aside)
    aside.replace(store.folder / name)


def test_a_lost_database_is_not_recreated_by_a_process_that_had_it_open(
    store: Store,
) -> None:
    trials = store.trials()
    optuna.create_study(study_name="before", storage=trials)
    (store.folder / "optuna.db").unlink()
    with pytest.raises(StorageInternalError) as raised:
        optuna.load_study(study_name="before", storage=trials)
    assert f"{store.folder}/optuna.db is gone" in str(raised.value.__cause__)
    assert not (store.folder / "optuna.db").exists()
