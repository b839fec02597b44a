"""A store that version 0.1 wrote opens, names the version whose bits it holds, and resumes;
`tests.old_store` built it."""

from __future__ import annotations

from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import pytest

from analysis.confirm.judgement import judgement_of
from lander.errors import ConfigError
from sweeps.__main__ import main
from sweeps.lifecycle.start import start_sweep
from sweeps.record.provenance import environment_changes, package_version
from sweeps.reproduce.code import older_version
from sweeps.run.worker import work
from sweeps.schema import RUN_ID
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import open_sweep
from tests.old_store import restored
from tests.processes import ROOT
from tests.races import begun_race
from tests.studies import OLD

FIXTURE = ROOT / "tests" / "fixtures" / "store-0.1"
TRIALS = """\
trial,state,value,expected_return,expected_return_error,reports,seconds,env_steps,cpu_seconds,peak_memory,joules,seeds,ppo.learning_rate,ppo.gamma
0,finished,17.5,17.5,135.09996299037243,3,24.364378,12288,,,,8411699,0.001,0.999
1,failed,,,,0,1.157785,0,,,,1898245334,1e+37,0.9110950589145754
2,interrupted,,,,0,6.630942,0,,,,1613061882,0.01,0.9652721376339264
3,lost,,,,0,45.723606,0,,,,1613061882,,
4,finished,235.0,235.0,135.09996299037243,3,21.080941,12288,,,,1613061882,0.01,0.9652721376339264
5,pruned,36.0,,,2,4.479621,8192,,,,804048494,0.01,0.9736795717098523
6,failed,,,,0,1.861359,0,,,,913970131,1e+37,0.9458868098803038
7,failed,,,,0,2.293658,0,,,,1262370631,1e+37,0.9200525759545264
8,pruned,27.0,,,1,3.172804,4096,,,,440791116,0.01,0.990097341988716
9,pruned,59.0,,,2,5.831895,8192,,,,807890675,0.01,0.9263051218635553
"""


@dataclass(frozen=True)
class Moved:
    """The store in a new folder, and what the doctor printed of it there."""

    store: Store
    doctor: str

    def said(self, *argv: str, code: int = 0) -> str:
        """What a command prints."""
        with redirect_stdout(StringIO()) as output:
            assert main([*argv, "--store", str(self.store.folder)]) == code, output.getvalue()
        return output.getvalue()


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Moved:
    folder = tmp_path_factory.mktemp("old") / "mlruns"
    restored(FIXTURE, folder)
    store = Store(folder)
    return Moved(store, Moved(store, "").said("doctor"))


def test_the_doctor_updates_its_paths_and_then_nothing_is_wrong(moved: Moved) -> None:
    assert moved.doctor.count("its artifact paths now begin with") == 3
    assert "not repaired" not in moved.doctor
    assert moved.said("doctor").startswith("nothing is wrong")


def test_the_record_that_waited_in_its_outbox_is_uploaded(moved: Moved) -> None:
    (trial,) = open_sweep(moved.store, "late").read_trials().all
    run = moved.store.runs().get_run(trial.user_attrs[RUN_ID])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["final/return_mean"] == trial.value == 9.0
    assert not list(moved.store.folder.glob("spool/late*"))


def test_every_trial_has_the_ending_the_score_and_the_parameters_it_had(moved: Moved) -> None:
    assert moved.said("trials", "--study", "old") == TRIALS
    assert "confirmed: trial 4" in moved.said("status")


@pytest.mark.parametrize("study", ["old", "old@confirm"])
def test_a_trial_reproduces_or_the_version_that_trained_it_is_named(
    moved: Moved, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = open_sweep(moved.store, study).read_trials().all[0]
    tags = moved.store.runs().get_run(trial.user_attrs[RUN_ID]).data.tags
    code = main(["reproduce", "--study", study, "--trial", "0", "--store", str(moved.store.folder)])
    output = capsys.readouterr().out
    assert output.count("recorded") >= 10
    if code == 0:
        assert "PASS: 10 recorded numbers, every one bit-equal" in output
    else:
        assert "version.lander-sweeps: recorded 0.1.0, here " in output
        assert all(difference in output for difference in environment_changes(tags))
        assert "computes other bits: to reproduce the trial, use lander-sweeps 0.1.0" in output


def test_a_commit_names_a_version_better_than_its_number() -> None:
    tags = {"version.lander-sweeps": "0.0.1", "mlflow.source.git.commit": "abc"}
    line = "lander-sweeps 0.0.1 computes other bits: to reproduce the trial, use commit abc"
    assert older_version(tags) == [line]
    assert older_version({}) == []
    assert older_version({"version.lander-sweeps": package_version("lander-sweeps")}) == []


def test_the_sweep_is_resumed_with_more_trials(moved: Moved) -> None:
    study = read_study(OLD, source="old.toml")
    sweep = start_sweep(study, moved.store, trials=9, command=["run"])
    work(moved.store, "old", index=0, seconds=None)
    trials = sweep.read_trials()
    assert [len(trials.all), len(trials.counted)] == [11, 9]
    assert trials.all[-1].state.is_finished()
    assert "not repaired" not in moved.said("doctor")


def test_its_confirmation_is_no_race_and_a_race_starts_beside_it(moved: Moved) -> None:
    with pytest.raises(ConfigError, match="old@confirm is of an earlier version, whose seeds both"):
        judgement_of(moved.store, "old")
    confirmation = open_sweep(moved.store, "old@confirm")
    before = len(confirmation.read_trials().all)
    begun_race(moved.store, "old", top=1, trainings=18)
    judgement = judgement_of(moved.store, "old")
    assert judgement.waiting == confirmation.read_trials().left
    assert len(confirmation.read_trials().all) == before + judgement.waiting
