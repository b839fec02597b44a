"""`sweeps try` queues a trial of given values: checked as a study file, trained as any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from optuna.trial import TrialState

from lander.errors import ConfigError
from sweeps.endings import ending
from sweeps.lifecycle.given import point_of, read_values
from sweeps.lifecycle.start import start_sweep
from sweeps.reproduce.reproduce import reproduce
from sweeps.run.objective import trial_configs
from sweeps.run.worker import work
from sweeps.schema import GIVEN, NOTE, REASON, RETRY_OF, RUN_ID, STOPPED, Ending, Reason
from sweeps.store.store import Store
from sweeps.study.space import defaults
from sweeps.study.study import Study, read_study
from sweeps.sweep import open_sweep
from tests.studies import CONDITIONS, MINI, QUICK, WRITTEN, changed
from tests.sweeps.conftest import Command

RATE = "ppo.learning_rate"


def study_of(text: str) -> Study:
    return read_study(text, source="study.toml")


def point(text: str, *values: str) -> dict[str, object]:
    study = study_of(text)
    return point_of(study, read_values(study, values), like=None)


def test_fields_that_are_left_out_have_the_values_of_the_base() -> None:
    study = study_of(MINI)
    base = defaults(study.space, study.base)
    assert point(MINI) == base
    assert point(MINI, f"{RATE}=0.004", "env.bins=3") == base | {RATE: 0.004, "env.bins": 3}
    # on the scale on which it is searched
    assert point(MINI, "ppo.gae_lambda=0.95")["1 - ppo.gae_lambda"] == 1 - 0.95


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        (MINI, ["ppo.learning_rate"], "want FIELD=VALUE"),
        (MINI, ["ppo.learning_rat=0.1"], "did you mean ppo.learning_rate?"),
        (MINI, ["ppo.gamma=0.9"], "ppo.gamma is not searched: it is 0.999 in all of mini"),
        (MINI, [f"{RATE}=0.5"], "0.5 is not among those searched, { low = 0.0003, high = 0.01"),
        (MINI, [f"{RATE}=fast"], "ppo.learning_rate: "),
        (MINI, [f"{RATE}=nan"], "ppo.learning_rate: "),
        (MINI, ["ppo.update_epochs=2.5"], "ppo.update_epochs: "),
        (MINI, ["env.bins=4"], r"env.bins: 4 is not among those searched, { choices = \[3, 5, 7"),
        (MINI, ["env.bins=3", "env.bins=5"], "env.bins has two values"),
        (WRITTEN, ["env.bins=4"], "step = 2"),
        # it acts with the head of the base only, and the head is given
        (CONDITIONS, ["policy.head=gaussian", "env.bins=3"], "env.bins acts only with"),
        (CONDITIONS, ["policy.final_std=0.1"], "policy.final_std acts only with policy.std"),
    ],
)
def test_values_are_checked_against_the_space_and_the_base(
    text: str, values: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message.replace("{", r"\{")) as caught:
        point(text, *values)
    assert "\n" not in str(caught.value)


def test_a_list_may_be_written_as_a_file_has_it() -> None:
    lists = "choices = [[64, 64], [32, 32]]"
    text = changed(
        QUICK,
        {'"ppo.update_epochs" = { low = 1, high = 2 }': f'"policy.hidden_sizes" = {{ {lists} }}'},
    )
    for value in ("32,32", "[32,32]", "[32, 32]"):
        assert point(text, f"policy.hidden_sizes={value}")["policy.hidden_sizes"] == "32,32"


def test_a_given_value_takes_out_the_fields_that_it_switches_off() -> None:
    assert point(CONDITIONS)["env.bins"] == 7
    given = point(CONDITIONS, "policy.head=gaussian", "policy.std=decayed", "policy.final_std=0.1")
    assert given == {
        "policy.head": "gaussian",
        "policy.std": "decayed",
        "policy.final_std": 0.1,
    }


def test_the_other_fields_may_be_those_of_a_trial() -> None:
    study = study_of(MINI)
    like = defaults(study.space, study.base) | {RATE: 0.002, "1 - ppo.gae_lambda": 0.0123456789}
    given = point_of(study, read_values(study, ["env.bins=3"]), like=like)
    assert given == like | {"env.bins": 3}


@pytest.fixture(scope="module")
def over(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a sweep of three trained trials."""
    folder = Path(shutil.copytree(empty, tmp_path_factory.mktemp("try") / "store"))
    start_sweep(study_of(QUICK), Store(folder), trials=None, command=["run"])
    work(Store(folder), "mini", index=0, seconds=None)
    return folder


def test_a_sweep_that_is_over_gets_one_more_trial_which_reproduces(
    over: Path, command: Command
) -> None:
    store, values = Store(over), (f"{RATE}=0.004", "ppo.update_epochs=2")
    said = command("try", *values, "--study", "mini", "--store", over)
    assert said.returncode == 0
    assert "trial 3 of mini" in said.stdout
    assert "was used up, and grows by one: 4 trials" in said.stdout
    assert "no worker is running: " in said.stdout
    trials = open_sweep(store, "mini").read_trials()
    assert (trials.budget, trials.total, trials.left) == (4, 4, 1)
    # the command that ran the sweep trains it, and asks for no trial less
    resumed = start_sweep(study_of(QUICK), store, trials=None, command=["run"])
    assert resumed.read_trials().left == 1
    work(store, "mini", index=0, seconds=None)
    sweep = open_sweep(store, "mini")
    trial = sweep.read_trials().all[3]
    assert trial.state.is_finished()
    (config,) = trial_configs(trial, sweep.study)
    assert (config.ppo.learning_rate, config.ppo.update_epochs) == (0.004, 2)
    tags = store.runs().get_run(str(trial.user_attrs[RUN_ID])).data.tags
    assert tags[GIVEN] == trial.user_attrs[GIVEN] == "by hand"
    assert "Queued by hand" in tags[NOTE]
    assert reproduce(store, "mini", "3", say=lambda _: None) == "PASS"
    lines = command("trials", "--study", "mini", "--store", over).stdout.splitlines()
    assert [line.split(",")[1] for line in lines] == ["origin", "", "", "", "by hand"]

    # the same again: another training seed, one score
    again = command("try", "--from", "3", "--study", "mini", "--store", over)
    assert "trial 3 had these values: their scores are averaged" in again.stdout
    assert (
        open_sweep(store, "mini").read_trials().all[4].system_attrs["fixed_params"] == trial.params
    )


def test_a_trial_that_is_queued_before_the_end_is_one_of_the_budget(
    store: Store, command: Command
) -> None:
    sweep = start_sweep(study_of(MINI), store, trials=3, command=["run"])
    said = command("try", "env.bins=3", "--study", "mini", "--store", store.folder)
    assert "stays 3 trials, this one among them" in said.stdout
    assert "a worker takes it" not in said.stdout
    with pytest.warns(UserWarning, match="Heartbeat"):
        first, given, new = (sweep.optuna.ask() for _ in range(3))
    assert first.params == {}
    assert trial_configs(given, sweep.study)[0].env.bins == 3
    assert GIVEN not in new.user_attrs
    running = command("try", "env.bins=5", "--study", "mini", "--store", store.folder)
    assert "a worker takes it" in running.stdout
    assert "grows by one: 4 trials" in running.stdout


def test_a_retry_of_a_given_trial_is_given_too(store: Store, command: Command) -> None:
    sweep = start_sweep(study_of(MINI), store, trials=3, command=["run"])
    command("try", "env.bins=3", "--study", "mini", "--store", store.folder)
    with pytest.warns(UserWarning, match="Heartbeat"):
        _, given = sweep.optuna.ask(), sweep.optuna.ask()
    given.set_user_attr(REASON, Reason.INTERRUPTED)
    sweep.optuna.tell(given, state=TrialState.FAIL)
    with pytest.warns(UserWarning, match="Heartbeat"):
        retry = sweep.optuna.ask()
    assert retry.user_attrs[RETRY_OF] == given.number
    assert retry.user_attrs[GIVEN] == "by hand"
    assert trial_configs(retry, sweep.study)[0].env.bins == 3
    assert ending(sweep.read_trials().all[given.number]) == Ending.INTERRUPTED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            changed(QUICK, {'name = "mini"': 'name = "mini"\nsampler = "grid"'}).replace(
                "{ low = 3e-4, high = 1e-2, log = true }", "{ choices = [0.003, 0.001] }"
            ),
            "mini is a grid, which tries all of its points",
        ),
        (changed(QUICK, {"trials = 3": "points = 2"}), "mini trains the points of its file"),
    ],
)
def test_nothing_is_queued_where_the_file_names_every_trial(
    store: Store, command: Command, text: str, message: str
) -> None:
    sweep = start_sweep(study_of(text), store, trials=None, command=["run"])
    before = len(sweep.read_trials().all)
    refused = command("try", f"{RATE}=0.003", "--study", "mini", "--store", store.folder)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert message in refused.stderr
    assert len(sweep.read_trials().all) == before


def test_the_other_fields_may_be_those_of_a_run_of_the_same_sweep(
    over: Path, store: Store, command: Command
) -> None:
    first = open_sweep(Store(over), "mini").read_trials().all[1]
    run_id = str(first.user_attrs[RUN_ID])
    said = command("try", "--from", run_id[:10], "--study", "mini", "--store", over)
    assert (said.returncode, said.stderr) == (0, "")
    queued = open_sweep(Store(over), "mini").read_trials().all[-1]
    assert queued.system_attrs["fixed_params"] == first.params
    other = study_of(changed(QUICK, {'name = "mini"': 'name = "other"'}))
    start_sweep(other, Store(over), trials=None, command=["run"])
    refused = command("try", "--from", run_id[:10], "--study", "other", "--store", over)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "is trial 1 of mini: --from takes one of other" in refused.stderr


def test_of_a_sweep_that_has_stopped_it_is_said_that_nothing_begins(
    store: Store, command: Command
) -> None:
    sweep = start_sweep(study_of(MINI), store, trials=None, command=["run"])
    sweep.optuna.set_user_attr(STOPPED, "trials have run for hours = 1")
    said = command("try", "env.bins=3", "--study", "mini", "--store", store.folder).stdout
    assert "none begins, trials have run for hours = 1: change [stop] in the study file" in said
    assert "worker" not in said


def test_to_try_nothing_is_refused(store: Store, command: Command) -> None:
    start_sweep(study_of(MINI), store, trials=None, command=["run"])
    refused = command("try", "--study", "mini", "--store", store.folder)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "nothing to try: name a field" in refused.stderr
