"""Receipts by the id of a run, on another machine, and of code that no commit has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from scipy import stats

from lander.errors import ConfigError
from sweeps.record import provenance, uncommitted
from sweeps.record.uncommitted import keep_changes, patch
from sweeps.reproduce.code import code_lines
from sweeps.reproduce.seeds import Fresh, from_confirmation, from_sweep
from sweeps.schema import RUN_ID
from sweeps.store.store import Store
from sweeps.sweep import Sweep, open_sweep, open_trial
from tests.processes import ROOT
from tests.sweeps.conftest import Command

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def sweep(finished: Store) -> Sweep:
    return open_sweep(finished, "tiny")


def run_of(sweep: Sweep, number: int) -> str:
    return str(sweep.read_trials().all[number].user_attrs[RUN_ID])


# --- by the id of a run ---


def test_a_trial_is_named_by_its_run_or_how_that_begins(sweep: Sweep) -> None:
    for number in (0, 1):
        run_id = run_of(sweep, number)
        for begin in (run_id, run_id[:10]):
            opened, trial = open_trial(sweep.store, "of another name", begin)
            assert (opened.study.name, trial.number) == ("tiny", number)


def test_a_run_that_is_no_trial_and_one_that_is_not_known_are_refused(sweep: Sweep) -> None:
    with pytest.raises(ConfigError, match=f"run {sweep.run_id}, tiny, is not that of a trial"):
        open_trial(sweep.store, "tiny", sweep.run_id)
    with pytest.raises(ConfigError, match="has an id that begins with abcdef"):
        open_trial(sweep.store, "tiny", "abcdef" * 3)


def test_a_beginning_that_two_runs_share_is_refused(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sweep.store.runs()
    runs = client.search_runs([sweep.experiment_id])
    monkeypatch.setattr(type(client), "search_runs", lambda *_, **__: runs)
    with pytest.raises(ConfigError, match="several runs have ids that begin with abcdef: give"):
        open_trial(sweep.store, "tiny", "abcdef")


def test_up_to_seven_digits_are_a_number(sweep: Sweep) -> None:
    with pytest.raises(ConfigError, match="a number from 0 to 1 or the id of a run, got"):
        open_trial(sweep.store, "tiny", "1234567")
    with pytest.raises(ConfigError, match="has an id that begins with 12345678"):
        open_trial(sweep.store, "tiny", "12345678")


def test_a_replay_is_named_by_its_run_as_the_trial_it_repeats(
    sweep: Sweep, command: Command
) -> None:
    options = ("--store", sweep.store.folder)
    done = command("reproduce", "--trial", run_of(sweep, 1)[:12], *options)
    assert (done.returncode, "tiny trial 1 (complete)" in done.stdout) == (0, True)
    assert "PASS: " in done.stdout
    query = "tags.`sweeps.role` = 'replay'"
    (replay,) = sweep.store.runs().search_runs([sweep.experiment_id], query)
    assert open_trial(sweep.store, "tiny", replay.info.run_id)[1].number == 1
    exported = command("export", "--trial", run_of(sweep, 1), *options)
    assert exported.stdout == command("export", "--study", "tiny", "--trial", 1, *options).stdout


# --- on another machine ---


def test_p_is_that_of_a_welch_test_with_a_known_middle() -> None:
    fresh = Fresh(200.0, 30.0, 10.0, 8, "by hand")
    expected = 2 * stats.t.sf(50 / (30**2 + 10**2) ** 0.5, 8)
    assert fresh.p([150.0]) == pytest.approx(expected, rel=1e-12)
    assert fresh.p([200.0]) == 1
    # the mean of four trainings varies half as much
    assert fresh.p([150.0] * 4) == pytest.approx(2 * stats.t.sf(50 / (15**2 + 10**2) ** 0.5, 8))
    certain = Fresh(9.0, 0.0, 0.0, 3, "all equal")
    assert (certain.p([9.0]), certain.p([8.0])) == (1, 0)


def test_of_two_trials_nothing_says_what_seeds_do(sweep: Sweep) -> None:
    trial = sweep.read_trials().all[0]
    assert from_confirmation(sweep, trial) is None
    assert from_sweep(sweep, trial) is None


@pytest.fixture
def elsewhere(sweep: Sweep) -> Sweep:
    """A sweep whose trial 1 was recorded with other vector instructions, and another number."""
    run_id = run_of(sweep, 1)
    sweep.store.runs().set_tag(run_id, "cpu.capability", "VSX")
    before = sweep.store.runs().get_run(run_id).data.metrics["final/return_mean"]
    (point,) = sweep.store.runs().get_metric_history(run_id, "final/return_mean")
    sweep.store.runs().log_metric(
        run_id, "final/return_mean", before + 1, timestamp=2**42, step=point.step
    )
    return sweep


def test_what_cannot_be_judged_fails_and_says_what_would_help(
    elsewhere: Sweep, command: Command
) -> None:
    done = command("reproduce", "--trial", run_of(elsewhere, 1), "--store", elsewhere.store.folder)
    assert done.returncode == 1
    assert "FAIL: first difference: final/return_mean at " in done.stdout
    assert "whether training seeds do as much is not known: too few trainings; " in done.stdout
    assert "cpu.capability: recorded VSX, here " in done.stdout


@pytest.mark.parametrize(("middle", "verdict", "code"), [(0.0, "CONSISTENT", 3), (1e4, "FAIL", 1)])
def test_a_replay_elsewhere_is_judged_by_what_seeds_do(
    elsewhere: Sweep,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    middle: float,
    verdict: str,
    code: int,
) -> None:
    fresh = Fresh(middle, 100.0, 10.0, 9, "by hand")
    monkeypatch.setattr("sweeps.reproduce.reproduce.fresh_trainings", lambda *_: fresh)
    done = command("reproduce", "--trial", run_of(elsewhere, 1), "--store", elsewhere.store.folder)
    assert done.returncode == code
    assert f"{verdict}: first difference: final/return_mean at " in done.stdout
    where = "inside" if code == 3 else "outside"
    assert f": {where} of what training seeds do, {middle:.0f} +- 100 (by hand), p " in done.stdout
    query = "tags.`sweeps.role` = 'replay'"
    (replay,) = elsewhere.store.runs().search_runs([elsewhere.experiment_id], query)
    assert replay.data.tags["sweeps.verdict"] == verdict


# --- code that no commit has ---


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, in which this package seems to be."""
    folder = tmp_path / "checkout"
    file = folder / "sweeps" / "record" / "provenance.py"
    file.parent.mkdir(parents=True)
    file.write_text("one\ntwo\nthree\n")
    (folder / "other.txt").write_text("a\n \nb\n")
    (folder / "picture.bin").write_bytes(b"\0\1\2")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        in_git(folder, *words)
    monkeypatch.setattr(provenance, "HERE", file)
    return folder


def in_git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_clean_checkout_has_no_changes(checkout: Path) -> None:
    tags = provenance.source_tags([])
    assert not tags["mlflow.source.git.commit"].endswith("-dirty")
    assert uncommitted.uncommitted_changes(tags) is None


def test_kept_changes_bring_the_code_back_to_the_byte(
    checkout: Path, sweep: Sweep, tmp_path: Path
) -> None:
    (checkout / "sweeps" / "record" / "provenance.py").write_text("one\n2\nthree\n")
    (checkout / "other.txt").write_text("a\n \nb\nlast without an end")
    tags, warnings = provenance.source_tags([]), list[str]()
    kept = keep_changes(sweep.store.runs(), sweep.run_id, tags, warnings)
    assert warnings == []
    recorded = {**tags, **kept}
    clone = tmp_path / "clone"
    in_git(tmp_path, "clone", "-q", str(checkout), str(clone))
    in_git(checkout, "commit", "-qam", "second")
    first, stash_or_checkout, apply = code_lines(sweep, recorded)
    commit = tags["mlflow.source.git.commit"].removesuffix("-dirty")
    assert first.startswith(f"the recorded code is commit {commit[:12]} with uncommitted changes, ")
    assert stash_or_checkout.strip() == f"git checkout {commit}"
    line = apply.strip().removesuffix("  # read it first: it is code")
    subprocess.run(["sh", "-euc", line], cwd=clone, check=True)
    for name in ("other.txt", "sweeps/record/provenance.py"):
        assert (clone / name).read_bytes() == (checkout / name).read_bytes()
    (checkout / "other.txt").write_text("again")
    assert [line.strip() for line in code_lines(sweep, recorded)][1] == "git stash"


def test_the_same_code_is_not_worth_a_line(checkout: Path, sweep: Sweep) -> None:
    (checkout / "other.txt").write_text("changed\n")
    tags = provenance.source_tags([])
    assert list(code_lines(sweep, tags))[-1] == "its uncommitted changes were not kept"
    kept = keep_changes(sweep.store.runs(), sweep.run_id, tags, [])
    assert list(code_lines(sweep, {**tags, **kept})) == []


def test_a_record_cannot_smuggle_a_command_into_the_lines(sweep: Sweep) -> None:
    evil = {"mlflow.source.git.commit": "x; rm -rf ~", "sweeps.uncommitted": "../../evil"}
    assert list(code_lines(sweep, evil)) == []
    evil["mlflow.source.git.commit"] = SHA + "-dirty"
    lines = list(code_lines(sweep, evil))
    assert not any("evil" in line for line in lines)


def difference(name: str, *lines: str) -> str:
    head = f"diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n"
    return head + "".join(f"{line}\n" for line in lines)


def test_secrets_in_a_patch_are_masked_and_it_says_so() -> None:
    kept = patch(difference("a.py", "-old", '+password = "hunter2"'), commit=SHA)
    assert "hunter2" not in kept
    assert "+password = ***" in kept
    assert "# Secrets are masked with ***" in kept
    assert "masked" not in patch(difference("a.py", "-old", "+new"), commit=SHA)


def test_a_patch_leaves_out_whole_files_and_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = difference("small.py", "-a", "+b"), difference("large.csv", "+" + "1" * 500)
    binary = "diff --git a/p.bin b/p.bin\nBinary files a/p.bin and b/p.bin differ\n"
    monkeypatch.setattr(uncommitted, "LARGEST", 400)
    kept = patch(large + binary + small, commit=SHA)
    assert f"# Left out: large.csv ({len(large)} characters)\n" in kept
    assert "# Left out: p.bin (binary)\n" in kept
    assert kept.endswith(small)
    assert kept.count("diff --git") == 1


def test_a_worker_names_the_patch_on_every_run_and_keeps_it_once(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.lifecycle.start import start_sweep
    from sweeps.run.worker import work
    from sweeps.study.study import read_study
    from tests.studies import TINY

    dirty = {"mlflow.source.git.commit": f"{SHA}-dirty", "sweeps.command": "work"}
    monkeypatch.setattr("sweeps.run.worker.source_tags", lambda _: dict(dirty))
    monkeypatch.setattr(uncommitted, "git_bytes", lambda *_: difference("a.py", "+b").encode())
    store = Store(Path(shutil.copytree(empty, tmp_path / "store")))
    sweep = start_sweep(read_study(TINY, source="tiny.toml"), store, trials=None, command=["run"])
    work(store, "tiny", index=0, seconds=None)
    client = store.runs()
    (kept,) = client.list_artifacts(sweep.run_id, "uncommitted")
    text = Path(client.download_artifacts(sweep.run_id, kept.path)).read_text()
    assert text.endswith(difference("a.py", "+b"))
    trials = open_sweep(store, "tiny").read_trials().all
    tags = [client.get_run(str(trial.user_attrs[RUN_ID])).data.tags for trial in trials]
    assert [each["sweeps.uncommitted"] for each in tags] == [kept.path] * 2
    assert tmp_path != ROOT
