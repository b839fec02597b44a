"""One record that cannot be delivered never blocks the others: it is set aside and named, and the
rest arrives once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.record.delivery import close_run, deliver_all, strays, undelivered
from sweeps.record.entries import Batch, End, File, RunBegun, SavedModel, as_line, read_entry
from sweeps.record.outbox import OUTBOXES, RECORDS, Outbox, outbox_path
from sweeps.schema import NOTE, RUN_ID
from tests.sweeps.faithful import FakeMlflow, FakeRun, FakeStore

SECRET = "not for MLflow"
NO_RECORDS: Sequence[bytes] = (
    b"",
    b"\0\0\0\0",
    b"\xff\xfe\x80",
    b"garbage",
    b"[]",
    b"null",
    b"[" * 5000,
    b"{}",
    b'{"kind": "of a newer version", "x": 1}',
    b'{"kind": ["batch"]}',
    b'{"kind": "batch", "points": [["loss", NaN, 1, 1]]}',
    b'{"kind": "batch", "points": [["loss", 1e999, 1, 1]]}',
    b'{"kind": "batch", "points": [["loss", "1", 1, 1]]}',
    b'{"kind": "batch", "points": [["loss", 1.0, 1]]}',
    b'{"kind": "batch", "points": [["loss", 1.0, 1, 99999999999999999999]]}',
    b'{"kind": "batch", "points": [["loss", 1.0, 1, true]]}',
    b'{"kind": "batch", "tags": {"a": 1}}',
    b'{"kind": "batch", "tags": {"a": "\\ud800"}}',
    b'{"kind": "batch", "extra": 1}',
    b'{"kind": "end", "status": "FINISHED"}',
    b'{"kind": "end", "status": "WON", "time": 1}',
    b'{"kind": "run", "experiment_id": "1"}',
    b'{"kind": "known_run", "run_id": "of another trial"}',
    b'{"kind": "file"}',
    b'{"kind": "file", "path": 3}',
    b'{"kind": "file", "path": "missing.png"}',
    b'{"kind": "file", "path": "."}',
    b'{"kind": "file", "path": "../../secret"}',
    b'{"kind": "file", "path": "a\\u0000b"}',
    b'{"kind": "file", "path": "' + b"x" * 5000 + b'"}',
    b'{"kind": "model", "path": "missing", "params": {}, "points": [], "step": 1}',
)
"""Lines that nobody can deliver."""


def spooled(store: FakeStore, number: int) -> Outbox:
    """The whole record of a trial, as its worker leaves it while MLflow is away."""
    spool = Outbox(outbox_path(store.store, "mini", number), store.runs(), link=lambda _: None)
    tags = {"n": str(number), "sweeps.record": spool.key(7)}
    spool.write(RunBegun("1", f"trial-{number}", 7, tags))
    spool.write(Batch(params={"lr": str(number)}))
    (spool.folder / "config.toml").write_text(f"config {number}")
    spool.write(File("config.toml"))
    for step in (256, 512):
        spool.points([(name, step + number, 1, step) for name in ("loss", "return")])
    (spool.folder / "seed_0").mkdir()
    (spool.folder / "seed_0" / "policy.pt").write_text(f"weights {number}")
    spool.write(File("seed_0/policy.pt"))
    spool.write(Batch(tags={"state": "COMPLETE"}))
    spool.write(End("FINISHED", 9))
    return spool


def finished(trials: int) -> dict[tuple[str, int], FrozenTrial]:
    by_key = {}
    for number in range(trials):
        by_key["mini", number] = trial = create_trial(state=TrialState.COMPLETE, value=1.0)
        trial.number = number
    return by_key


@pytest.fixture
def mlflow() -> FakeMlflow:
    return FakeMlflow()


@pytest.fixture
def store(tmp_path: Path, mlflow: FakeMlflow) -> FakeStore:
    """Two trials have ended, nothing of them has arrived."""
    (tmp_path / "secret").write_text(SECRET)
    store = FakeStore(tmp_path / "store", finished(2), mlflow)
    spooled(store, 0)
    spooled(store, 1)
    return store


def expected(number: int) -> FakeRun:
    """What MLflow has of a trial when all of it has arrived."""
    return FakeRun(
        run_id="",
        tags={
            "n": str(number),
            "sweeps.record": f"mini-{number:04d} 7",
            "name": f"trial-{number}",
            "state": "COMPLETE",
        },
        params={"lr": str(number)},
        points={
            (name, step + number, 1, step) for step in (256, 512) for name in ("loss", "return")
        },
        files={
            "config.toml": f"config {number}".encode(),
            "seed_0/policy.pt": f"weights {number}".encode(),
        },
        status="FINISHED",
    )


def arrived(mlflow: FakeMlflow, number: int) -> FakeRun:
    """The one run of a trial."""
    (run,) = (run for run in mlflow.runs.values() if run.tags["n"] == str(number))
    return FakeRun("", run.tags, run.params, run.points, run.files, run.status)


def lines_of(folder: Path) -> list[bytes]:
    return (folder / RECORDS).read_bytes().splitlines()


def test_a_description_that_was_published_meanwhile_stays(
    store: FakeStore, mlflow: FakeMlflow
) -> None:
    outbox = Outbox(outbox_path(store.store, "mini", 0), store.runs(), link=lambda _: None)
    outbox.write(Batch(tags={NOTE: "at its end", "late": "yes"}))
    assert outbox.deliver()  # again, as far as this process knows
    (run,) = mlflow.runs.values()
    assert run.tags[NOTE] == "at its end"
    run.tags[NOTE] = "published"
    assert Outbox(outbox.folder, store.runs(), link=lambda _: None).deliver()
    assert (run.tags[NOTE], run.tags["late"]) == ("published", "yes")


@pytest.mark.parametrize("line", NO_RECORDS, ids=lambda line: repr(line[:50]))
@pytest.mark.parametrize("index", [1, 5, 99])
def test_a_line_that_is_no_record_is_set_aside_and_the_rest_arrives(
    store: FakeStore,
    mlflow: FakeMlflow,
    capsys: pytest.CaptureFixture[str],
    line: bytes,
    index: int,
) -> None:
    folder = outbox_path(store.store, "mini", 0)
    lines = lines_of(folder)
    lines.insert(index, line)
    (folder / RECORDS).write_bytes(b"".join(line + b"\n" for line in lines))
    assert deliver_all(store.store) == ""
    assert [arrived(mlflow, 0), arrived(mlflow, 1)] == [expected(0), expected(1)]
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("sweeps: warning: 1 of the records of mini-0000 cannot be delivered")
    assert f"set aside as {folder}.refused; correct it and rename it to mini-0000, " in warning
    assert lines_of(folder.with_name("mini-0000.refused"))[1:] == [line]
    assert not undelivered(store.store)
    assert deliver_all(store.store) == ""
    assert capsys.readouterr().err == ""


def test_a_record_of_an_unknown_run_is_set_aside_and_the_next_arrives(
    store: FakeStore, mlflow: FakeMlflow, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = outbox_path(store.store, "mini", 0)
    _, *rest = lines_of(folder)
    (folder / RECORDS).write_bytes(b"".join(line + b"\n" for line in (b"\0\0\0", *rest)))
    assert deliver_all(store.store) == ""
    assert [run.tags["n"] for run in mlflow.runs.values()] == ["1"]
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"{len(rest) + 1} of the records of mini-0000 cannot be delivered" in warning
    aside = folder.with_name("mini-0000.refused")
    assert lines_of(aside) == [b"\0\0\0", *rest]
    assert (aside / "config.toml").read_text() == "config 0"


def test_a_damaged_first_line_costs_nothing_where_the_trial_knows_its_run(
    store: FakeStore, mlflow: FakeMlflow
) -> None:
    folder = outbox_path(store.store, "mini", 0)
    mlflow.runs["known"] = FakeRun("known", expected(0).tags)
    trial = store.find("mini", 0)
    assert trial is not None
    trial.user_attrs[RUN_ID] = "known"
    (folder / RECORDS).write_bytes(
        b"".join(line + b"\n" for line in (b"\0\0\0", *lines_of(folder)[1:]))
    )
    assert deliver_all(store.store) == ""
    assert arrived(mlflow, 0) == expected(0)
    first, line = lines_of(folder.with_name("mini-0000.refused"))
    assert json.loads(first) == {"kind": "known_run", "run_id": "known"}
    assert line == b"\0\0\0"


EARLIER = (
    '{"kind": "run", "experiment_id": "1", "name": "trial-0", "start": 7, '
    '"tags": {"n": "0", "sweeps.record": "mini-0000 7"}}',
    '{"kind": "batch", "params": {"lr": "0"}}',
    '{"kind": "file", "path": "config.toml"}',
    '{"kind": "batch", "points": [["loss", 256, 1, 256], ["return", 256, 1, 256]]}',
    '{"kind": "batch", "points": [["loss", 512, 1, 512], ["return", 512, 1, 512]]}',
    '{"kind": "file", "path": "seed_0/policy.pt"}',
    '{"kind": "batch", "tags": {"state": "COMPLETE"}}',
    '{"kind": "end", "status": "FINISHED", "time": 9}',
)
"""The record of trial 0 as every earlier version wrote it."""


def test_a_record_is_written_as_earlier_versions_did_and_so_theirs_arrive(
    store: FakeStore, mlflow: FakeMlflow
) -> None:
    folder = outbox_path(store.store, "mini", 0)
    assert folder == store.folder / "spool" / "mini-0000"
    assert (folder / "records.jsonl").read_text() == "".join(f"{line}\n" for line in EARLIER)
    assert deliver_all(store.store) == ""
    assert arrived(mlflow, 0) == expected(0)


def test_a_model_is_written_as_earlier_versions_did() -> None:
    entry = SavedModel("policy", {"lr": "1"}, (("loss", 0.5, 1, 512),), 512)
    line = as_line(entry)
    assert line == (
        b'{"kind": "model", "path": "policy", "params": {"lr": "1"}, '
        b'"points": [["loss", 0.5, 1, 512]], "step": 512}\n'
    )
    assert read_entry(line) == entry


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_no_chart_can_show_is_never_written(store: FakeStore, number: float) -> None:
    outbox = Outbox(store.folder / "spool" / "mini-0007", store.runs(), link=print)
    with pytest.raises(ValueError, match="not JSON compliant"):
        outbox.points([("loss", number, 1, 256)])
    assert outbox.is_empty


def remove(path: Path) -> None:
    path.unlink()


def link_out(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parents[3] / "secret")


def link_parent(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()
    outside = path.parents[4] / "outside"
    outside.mkdir()
    (outside / path.name).write_text(SECRET)
    path.parent.symlink_to(outside)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("damage", [remove, link_out, link_parent, make_folder, make_pipe, loop])
def test_a_file_that_cannot_be_sent_is_set_aside_and_the_rest_arrives(
    store: FakeStore,
    mlflow: FakeMlflow,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
) -> None:
    folder = outbox_path(store.store, "mini", 0)
    damage(folder / "seed_0" / "policy.pt")
    assert deliver_all(store.store) == ""
    without = expected(0)
    del without.files["seed_0/policy.pt"]
    assert [arrived(mlflow, 0), arrived(mlflow, 1)] == [without, expected(1)]
    (warning,) = capsys.readouterr().err.splitlines()
    assert "1 of the records of mini-0000 cannot be delivered to MLflow (Undeliverable: " in warning
    assert "policy.pt" in warning
    (_, line) = lines_of(folder.with_name("mini-0000.refused"))
    assert json.loads(line) == {"kind": "file", "path": "seed_0/policy.pt"}


def test_what_was_set_aside_is_delivered_once_it_is_corrected_and_renamed(
    store: FakeStore, mlflow: FakeMlflow, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = outbox_path(store.store, "mini", 0)
    (folder / "config.toml").unlink()
    deliver_all(store.store)
    aside = folder.with_name("mini-0000.refused")
    (aside / "config.toml").write_text("config 0")
    aside.rename(folder)
    capsys.readouterr()
    assert deliver_all(store.store) == ""
    assert capsys.readouterr().err == ""
    assert arrived(mlflow, 0) == expected(0)
    assert len(mlflow.runs) == 2
    assert not folder.exists()


def unreadable_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lstat = Path.lstat

    def refuse(path: Path) -> os.stat_result:
        if folder in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", refuse)


def folder_is_link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rename(folder.parents[2] / f"outside {folder.name}")
    folder.symlink_to(folder.parents[2] / f"outside {folder.name}")


def folder_is_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def records_are_link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / RECORDS).rename(folder.parents[2] / "elsewhere")
    (folder / RECORDS).symlink_to(folder.parents[2] / "elsewhere")


def records_are_pipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / RECORDS).unlink()
    os.mkfifo(folder / RECORDS)


def records_are_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / RECORDS).unlink()
    (folder / RECORDS).mkdir()


def is_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("mini-0001"), folder)


WHOLE = [
    unreadable_folder,
    folder_is_link,
    folder_is_file,
    records_are_link,
    records_are_pipe,
    records_are_folder,
    is_copy,
]


@pytest.mark.parametrize("damage", WHOLE)
def test_an_unreadable_folder_is_set_aside_and_the_next_arrives(
    store: FakeStore,
    mlflow: FakeMlflow,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    folder = outbox_path(store.store, "mini", 0)
    folder.with_name("mini-0000.refused").mkdir()
    folder.with_name("mini-0000.refused.2").symlink_to("nowhere")
    with monkeypatch.context() as patch:
        damage(folder, patch)
        assert deliver_all(store.store) == ""
    (run,) = mlflow.runs.values()
    assert arrived(mlflow, 1) == expected(1)
    assert run.tags["n"] == "1"
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"set aside as {folder}.refused.3; " in warning
    assert os.path.lexists(folder.with_name("mini-0000.refused.3"))
    assert not os.path.lexists(folder)


def test_the_end_of_a_lost_trial_is_recorded_despite_an_unreadable_record(
    store: FakeStore, mlflow: FakeMlflow
) -> None:
    trial = store.find("mini", 0)
    assert trial is not None
    mlflow.runs["known"] = FakeRun("known", expected(0).tags)
    trial.user_attrs[RUN_ID] = "known"
    folder = outbox_path(store.store, "mini", 0)
    (folder / RECORDS).unlink()
    (folder / RECORDS).mkdir()
    close_run(store.store, "mini", trial, reason="worker lost twice")
    assert deliver_all(store.store) == ""
    run = mlflow.runs["known"]
    assert (run.status, run.tags["sweeps.reason"]) == ("FAILED", "worker lost twice")


STRAYS = ("note.txt", "mini-0", "mini-00000", "mini-0000 (copy)", "mini-0009", "other-0000", "-")
"""What a spool may hold besides: copies under another name, records of another database."""


def test_what_belongs_to_no_trial_stays_as_it_is_and_the_doctor_names_it(
    store: FakeStore, mlflow: FakeMlflow, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = store.folder / OUTBOXES
    for name in STRAYS[1:]:
        shutil.copytree(spool / "mini-0000", spool / name)
    (spool / STRAYS[0]).write_text("mine")
    (spool / "loop").symlink_to("loop")
    (spool / os.fsdecode(b"\xff-0000")).mkdir()
    assert deliver_all(store.store) == ""
    assert [arrived(mlflow, 0), arrived(mlflow, 1)] == [expected(0), expected(1)]
    assert len(mlflow.runs) == 2
    assert capsys.readouterr().err == ""
    left = {path.name for path, _ in strays(store.store)}
    assert left == {*STRAYS, "loop", os.fsdecode(b"\xff-0000")}


# at random


GARBAGE = st.sampled_from(NO_RECORDS)
TRIALS = st.integers(0, 2)
LINES = st.integers(0, 8)
DAMAGES = st.one_of(
    st.tuples(st.just("insert"), TRIALS, LINES, GARBAGE),
    st.tuples(st.just("replace"), TRIALS, LINES, GARBAGE),
    st.tuples(st.just("double"), TRIALS, LINES, LINES),
    st.tuples(st.just("cut"), TRIALS, st.integers(1, 300)),
    st.tuples(
        st.just("file"),
        TRIALS,
        st.sampled_from(["config.toml", "seed_0/policy.pt"]),
        st.sampled_from([remove, link_out, make_folder, make_pipe, loop]),
    ),
    st.tuples(st.just("taken"), TRIALS, st.sampled_from(["file", "folder", "link"])),
    st.tuples(st.just("stray"), TRIALS, st.sampled_from(STRAYS)),
    st.tuples(st.just("whole"), TRIALS, st.sampled_from([folder_is_link, records_are_folder])),
)
OUTAGES = st.lists(st.sampled_from(["", "", "before", "after"]), max_size=12)


def damage(folder: Path, kind: str, *how: Any) -> None:
    """Do one of `DAMAGES` to the record of a trial, as far as it is still there."""
    if kind == "taken":
        aside = folder.with_name(folder.name + ".refused")
        if os.path.lexists(aside):
            return
        if how[0] == "link":
            aside.symlink_to("gone")
        elif how[0] == "folder":
            aside.mkdir()
        else:
            aside.touch()
    elif kind == "stray":
        if folder.is_dir() and not os.path.lexists(folder.with_name(how[0])):
            shutil.copytree(folder, folder.with_name(how[0]), symlinks=True, copy_function=keep)
    elif not (folder / RECORDS).is_file() or folder.is_symlink():
        return
    elif kind == "whole":
        how[0](folder, pytest.MonkeyPatch())
    elif kind == "file":
        name, act = how
        if (folder / name).is_file() and not (folder / name).is_symlink():
            act(folder / name)
    elif kind == "cut":
        os.truncate(folder / RECORDS, max(0, (folder / RECORDS).stat().st_size - how[0]))
    else:
        lines = (folder / RECORDS).read_bytes().split(b"\n")
        first, rest = min(how[0], len(lines) - 1), lines[-1:]
        lines = lines[:-1]
        if kind == "insert":
            lines.insert(first, how[1])
        elif lines and kind == "replace":
            lines[min(first, len(lines) - 1)] = how[1]
        elif lines:  # a copy behind the line
            line = lines[min(first, len(lines) - 1)]
            lines.insert(max(min(first, len(lines) - 1) + 1, how[1]), line)
        (folder / RECORDS).write_bytes(b"\n".join(lines + rest))


def keep(source: str, target: str) -> None:
    """Copy a file; a pipe is left out."""
    if Path(source).is_file():
        shutil.copy(source, target)


def survivors(folder: Path, whole: Sequence[bytes]) -> list[dict[str, Any]]:
    """The records of an undamaged trial that are still there, with the files they name."""
    if folder.is_symlink() or not (folder / RECORDS).is_file():
        return []
    lines = (folder / RECORDS).read_bytes().split(b"\n")[:-1]
    left = [json.loads(line) for line in whole if line in lines]
    if "run" not in [record["kind"] for record in left]:
        return []
    return [record for record in left if "path" not in record or intact(folder / record["path"])]


def intact(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def check_a_damaged_spool(damages: Sequence[tuple[Any, ...]], outages: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()) as output:
        (Path(folder) / "secret").write_text(SECRET)
        mlflow = FakeMlflow(outages)
        store = FakeStore(Path(folder) / "store", finished(3), mlflow)
        whole = [lines_of(spooled(store, number).folder) for number in range(3)]
        folders = [outbox_path(store.store, "mini", number) for number in range(3)]
        for kind, number, *how in damages:
            damage(folders[number], kind, *how)
        rest = [survivors(folders[number], whole[number]) for number in range(3)]
        names = {path.name for path in (store.folder / OUTBOXES).iterdir()}
        for _ in range(len(outages) + 1):
            if not deliver_all(store.store):
                break
        assert not undelivered(store.store)
        assert len(mlflow.runs) == sum(bool(records) for records in rest)
        for number, records in enumerate(rest):
            if records:
                require(arrived(mlflow, number), records)
        aside = {path.name for path in (store.folder / OUTBOXES).iterdir()} - names - {".lock"}
        assert len(aside) == len(output.getvalue().splitlines())
        assert all(".refused" in name for name in aside)
        assert SECRET not in str(mlflow.runs)


def require(run: FakeRun, records: Sequence[dict[str, Any]]) -> None:
    """All of these have arrived, and nothing else."""
    batches = [record for record in records if record["kind"] == "batch"]
    points = [tuple(point) for batch in batches for point in batch.get("points", ())]
    assert run.points == set(points)
    assert run.params == {k: v for batch in batches for k, v in batch.get("params", {}).items()}
    assert ("state" in run.tags) == any("tags" in batch for batch in batches)
    assert set(run.files) == {record["path"] for record in records if record["kind"] == "file"}
    assert (run.status == "FINISHED") == any(record["kind"] == "end" for record in records)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(DAMAGES, max_size=5), OUTAGES)
def test_of_a_spool_damaged_at_random_all_the_rest_arrives_once(
    damages: list[tuple[Any, ...]], outages: list[str]
) -> None:
    check_a_damaged_spool(damages, outages)


@pytest.mark.slow
@settings(
    max_examples=1_000,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(DAMAGES, max_size=8), OUTAGES)
def test_of_a_spool_damaged_at_random_many_times_all_the_rest_arrives_once(
    damages: list[tuple[Any, ...]], outages: list[str]
) -> None:
    check_a_damaged_spool(damages, outages)
