"""What a sweep was started as: kept with it, and compared with what it is resumed as."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from mlflow.artifacts import load_text
from optuna.trial import create_trial

import lander.options
import sweeps.study.space
import sweeps.study.stored
import sweeps.study.study
from lander.config import TrainConfig
from lander.dotted import flatten, from_toml
from lander.errors import ConfigError
from sweeps import commands as programs
from sweeps.lifecycle.start import start_sweep
from sweeps.schema import BASE, BASE_FILE, DEFINITION
from sweeps.store.store import Store
from sweeps.study.space import defaults
from sweeps.study.study import Study, read_study
from sweeps.sweep import Sweep, open_sweep
from tests.races import begun_race
from tests.studies import study_text

RATES = '"ppo.learning_rate" = { low = 3e-4, high = 1e-2, log = true }'


def kept(*, study: str = "", base: str = "", space: str = RATES) -> str:
    base = f'"env.id" = "CartPole-v1"\n{base}'
    return study_text("kept", settings=f"trials = 3\n{study}", base=base, space=space)


def study_of(*, study: str = "", base: str = "") -> Study:
    return read_study(kept(study=study, base=base), source="kept.toml")


def start(store: Store, study: Study, *, trials: int | None = None) -> Sweep:
    return start_sweep(study, store, trials=trials, command=["run"])


def finished(sweep: Sweep, params: Mapping[str, Any] | None = None) -> None:
    """A trial of these parameters, or of those of trial 0, with a score."""
    space = sweep.study.space
    ranges = {range_.parameter: range_.distribution for range_ in space.values()}
    params = params or defaults(space, sweep.study.base)
    sweep.optuna.add_trial(create_trial(params=dict(params), distributions=ranges, value=1.0))


Later = Callable[..., None]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Code of a later version, in which some defaults are others."""
    today = TrainConfig

    def change(**ppo: Any) -> None:
        def config() -> TrainConfig:
            base = today()
            return replace(base, ppo=replace(base.ppo, **ppo))

        for module in (sweeps.study.study, sweeps.study.space, sweeps.study.stored, lander.options):
            monkeypatch.setattr(module, "TrainConfig", config)

    return change


def test_the_resolved_base_is_kept_with_the_study_and_with_its_run(store: Store) -> None:
    sweep = start(store, study_of())
    kept = sweep.optuna.user_attrs[BASE]
    assert kept["policy.head"] == "categorical"
    assert kept["ppo.kl_stop"] is None
    assert kept.keys() == flatten(TrainConfig()).keys()
    store.runs()
    text = load_text(f"runs:/{sweep.run_id}/{BASE_FILE}")
    assert from_toml(text, source=BASE_FILE) == sweep.study.base


def test_a_changed_default_is_named_on_resume_with_a_remedy_that_works(
    store: Store, later: Later
) -> None:
    finished(start(store, study_of()))
    later(update_epochs=20, kl_stop=0.5)
    with pytest.raises(ConfigError) as caught:
        start(store, study_of())
    message = str(caught.value)
    assert "ppo.update_epochs: 10 then, 20 now (default changed)" in message
    assert "ppo.kl_stop: None then, 0.5 now (default changed)" in message
    lines = '"ppo.kl_stop" = "none" and "ppo.update_epochs" = 10'
    assert sorted(lines.split(" and ")) == sorted(
        message.partition("put ")[2].partition(" under [base] to resume")[0].split(" and ")
    )
    assert message.endswith("with --warm-start kept it begins with the best trials of this one")
    resumed = start(store, study_of(base=lines.replace(" and ", "\n")))
    assert resumed.study.base.ppo.update_epochs == 10


def test_what_the_file_says_is_no_changed_default(store: Store) -> None:
    start(store, study_of(base='"ppo.update_epochs" = 5'))
    with pytest.raises(ConfigError, match=r"ppo.update_epochs: 5 then, 10 now\): give it another"):
        start(store, study_of())


def test_workers_export_and_confirm_use_the_base_that_was_kept(
    store: Store, later: Later, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = start(store, study_of())
    finished(begun)
    later(update_epochs=20, n_step=7)  # one that acts, one that does nothing here
    assert open_sweep(store, "kept").study.base.ppo.update_epochs == 10
    args = Namespace(store=store.folder, study="kept", trial="1", framework=None)
    assert programs.export(args) == 0
    assert from_toml(capsys.readouterr().out, source="export").ppo.update_epochs == 10
    other = defaults(begun.study.space, begun.study.base) | {"ppo.learning_rate": 2e-3}
    finished(begun, other)
    begun_race(store, "kept", top=1, trainings=4)
    confirmation = open_sweep(store, "kept@confirm").study
    assert confirmation.base.ppo.update_epochs == 10
    assert confirmation.base.final_seeds == "choice"
    # stood at its default, and still does: what does nothing would be refused elsewhere
    assert confirmation.base.ppo.n_step == 7


def test_a_changed_default_of_a_searched_field_leaves_trial_0(store: Store, later: Later) -> None:
    start(store, study_of(), trials=2)
    later(learning_rate=9e-3)
    resumed = start(store, study_of(), trials=3)
    assert resumed.study.base.ppo.learning_rate == 3e-3


def test_a_sweep_that_keeps_no_base_is_read_with_the_defaults_of_today(
    store: Store, later: Later
) -> None:
    sweep = start(store, study_of())
    forget(sweep, BASE)
    later(update_epochs=20)
    assert open_sweep(store, "kept").study.base.ppo.update_epochs == 20
    assert start(store, study_of()).read_trials().left == 3


def forget(sweep: Sweep, key: str) -> None:
    """As a sweep of the version before: without this attribute."""
    from optuna.storages._rdb.models import StudyUserAttributeModel
    from sqlalchemy import delete
    from sqlalchemy.orm import Session

    with Session(sweep.store.trials().engine) as session, session.begin():
        session.execute(delete(StudyUserAttributeModel).where(StudyUserAttributeModel.key == key))


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ("text", "sweeps.base must be a table of fields, got 'text'"),
        ({"ppo.later": 1}, 'unknown field "ppo.later"'),
        ({"ppo.gamma": 2.0}, "ppo.gamma: input should be less than or equal to 1"),
    ],
)
def test_a_damaged_base_is_said_in_one_line(store: Store, kept: object, message: str) -> None:
    sweep = start(store, study_of())
    sweep.optuna.set_user_attr(BASE, kept)
    with pytest.raises(ConfigError) as caught:
        open_sweep(store, "kept")
    assert str(caught.value).startswith(f"kept in {store.folder}: {message}")


def test_wilcoxon_reports_episodes_and_so_is_another_study(store: Store) -> None:
    three = "seeds_per_trial = 3\n"
    start(store, study_of(study=f'{three}pruner = "median"'))
    start(store, study_of(study=f'{three}pruner = "none"'))
    with pytest.raises(ConfigError, match=r"\(pruner: not wilcoxon then, wilcoxon now\)"):
        start(store, study_of(study=f'{three}pruner = "wilcoxon"'))


def test_a_study_that_was_accepted_once_is_read_without_being_judged_again(store: Store) -> None:
    """A sweep of the version before, in which three of four sizes fit nothing."""
    sweep = start(store, study_of())
    sizes = '"ppo.minibatch_size" = { low = 509, high = 512 }'
    old = kept(study=f"seed = {2**40}", space=f"{sizes}\nfinal_episodes = {{ low = 1, high = 20 }}")
    with pytest.raises(ConfigError):
        read_study(old, source="old.toml")
    sweep.optuna.set_user_attr(DEFINITION, old)
    assert list(open_sweep(store, "kept").study.space) == ["ppo.minibatch_size", "final_episodes"]
