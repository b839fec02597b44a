"""The seeds of one trial, trained by several workers of a host: the record stays the same."""

from __future__ import annotations

import fcntl
import shutil
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

import sweeps.run.handover
import sweeps.run.objective
import sweeps.run.sharing
from lander.agent import Divergence
from lander.checkpoint import read, write
from lander.evaluation import nothing
from lander.resolve import Resolved, resolve
from lander.trainer import State, TrainResult, ignore, train
from sweeps.doctor.doctor import examine
from sweeps.endings import Expired, seconds
from sweeps.lifecycle.losses import requeue_lost
from sweeps.lifecycle.start import start_sweep
from sweeps.optuna_private import id_of, stored
from sweeps.record.outbox import OUTBOXES
from sweeps.run import supervisor
from sweeps.run.forecast import Cost, takes
from sweeps.run.handover import replay, trained
from sweeps.run.header import header
from sweeps.run.objective import Claim, trial_configs
from sweeps.run.sharing import (
    folder_of,
    help_another,
    is_shared,
    locked,
    result_path,
    running_here,
    sharing,
)
from sweeps.run.supervisor import run_trials_left
from sweeps.run.worker import work
from sweeps.schema import (
    COST,
    COST_CPU,
    COST_HELPED,
    ENDED,
    REASON,
    RUN_ID,
    SEED_SCORES,
    STARTED,
    TRAINING_SEEDS,
    TRIAL_STATE,
    WORKER,
    Reason,
)
from sweeps.store.store import Store
from sweeps.store.worker_id import parse_worker, this_worker
from sweeps.study.space import defaults
from sweeps.study.study import Study, read_study
from sweeps.sweep import Sweep, open_sweep
from tests.processes import Start, output_of, until
from tests.studies import ENDLESS, MINI, QUICK, SHORT, changed

pytestmark = pytest.mark.filterwarnings("ignore:WilcoxonPruner is experimental")

SEEDS = 3
OF_THIS_RUN = {STARTED, ENDED, WORKER, RUN_ID, COST}
"""Attributes of a trial that say when and where it ran."""


def shared_text(text: str, *lines: str, trials: int = 1) -> str:
    """A study whose trials have three seeds, with more lines in its first table."""
    before = next(line for line in text.splitlines() if line.startswith("trials = "))
    settings = [f"trials = {trials}", f"seeds_per_trial = {SEEDS}", *lines]
    return changed(text, {before: "\n".join(settings)})


def study_of(text: str) -> Study:
    return read_study(text, source="mini.toml")


PLAIN = shared_text(MINI, 'pruner = "none"')
VARIED = changed(
    shared_text(MINI, 'pruner = "none"', 'training_score = "area"'),
    {
        '"env.bins" = 7': '"env.obs_norm" = true\n"policy.std" = "decayed"\nfinal_policy = "best"',
        '"env.bins"          = { choices = [3, 5, 7] }': "",
    },
)
"""Policies with statistics and a schedule, of which not the last one counts."""
SMALL = shared_text(QUICK, 'pruner = "none"')
LONG = shared_text(ENDLESS, 'pruner = "none"')


# -- the record ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """All that is recorded of trial 0, but for when and where it ran, and how long that took."""

    state: TrialState
    values: Sequence[float] | None
    params: dict[str, Any]
    reports: dict[int, float]
    attributes: dict[str, Any]
    tags: dict[str, str | None]
    logged: dict[str, str]
    """Parameters in MLflow."""
    curves: dict[str, list[tuple[int, float]]]
    files: dict[str, bytes]


def record_of(store: Store, folder: Path) -> Record:
    """Trial 0 of `mini`; its artifacts are fetched to a new folder."""
    trial, client = open_sweep(store, "mini").read_trials().all[0], store.runs()
    run = client.get_run(trial.user_attrs[RUN_ID])
    folder.mkdir()
    client.download_artifacts(run.info.run_id, "", str(folder))
    names = [name for name in run.data.metrics if "cost/" not in name and "time/" not in name]
    curves = {name: client.get_metric_history(run.info.run_id, name) for name in names}
    return Record(
        trial.state,
        trial.values,
        trial.params,
        trial.intermediate_values,
        {name: value for name, value in trial.user_attrs.items() if name not in OF_THIS_RUN},
        {name: run.data.tags.get(name) for name in (TRAINING_SEEDS, TRIAL_STATE, REASON)},
        run.data.params,
        {name: [(point.step, point.value) for point in curve] for name, curve in curves.items()},
        {str(p.relative_to(folder)): content(p) for p in folder.rglob("*") if p.is_file()},
    )


def content(file: Path) -> bytes:
    """The bytes of a file; of weights those of their numbers, as tensors may share memory."""
    if file.suffix != ".pt":
        return file.read_bytes()
    saved = read(file)
    weights = (name.encode() + each.numpy().tobytes() for name, each in saved["weights"].items())
    return repr(saved["config"]).encode() + b"".join(weights)


def started(store: Store, text: str) -> Sweep:
    return start_sweep(study_of(text), store, trials=None, command=["run"])


def with_helper(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """When an owner begins a training, first let a helper train under every seed that it can get;
    the seeds that owners train under themselves."""
    owned: list[int] = []

    def train_after_help(config: Resolved, **hooks: Any) -> TrainResult:
        owned.append(config.config.seed)
        while help_another(open_sweep(store, "mini"), check=nothing):
            pass
        return train(config, **hooks)

    monkeypatch.setattr(sweeps.run.objective, "train", train_after_help)
    return owned


def nothing_of(_sweep: Sweep) -> None:
    """The default of `before`."""


@dataclass(frozen=True)
class Twice:
    """Runs a sweep of one trial twice: its worker is alone, then another one helps."""

    alone: Store
    helped: Store
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, text: str, *, before: Callable[[Sweep], object] = nothing_of) -> Record:
        """The record, which must be the same both times."""
        for store in (self.alone, self.helped):
            before(started(store, text))
            if store is self.helped:
                owned = with_helper(store, self.monkeypatch)
            work(store, "mini", index=0, seconds=None)
        alone, helped = (
            record_of(store, self.folder / name)
            for name, store in (("alone", self.alone), ("helped", self.helped))
        )
        assert helped == alone
        assert owned == [int(str(alone.tags[TRAINING_SEEDS]).split(", ")[0])]
        assert contents(self.helped) == [".lock"]
        return helped


@pytest.fixture
def twice(store: Store, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Twice:
    other = Store(Path(shutil.copytree(empty, tmp_path / "other")))
    return Twice(store, other, tmp_path, monkeypatch)


def contents(store: Store) -> list[str]:
    """What the folder of the outboxes holds."""
    return sorted(path.name for path in (store.folder / OUTBOXES).iterdir())


@pytest.mark.parametrize("text", [PLAIN, VARIED], ids=["plain", "varied"])
def test_a_trial_that_was_helped_has_the_record_of_one_that_was_not(
    twice: Twice, text: str
) -> None:
    record = twice(text)
    assert (record.state, len(record.attributes[SEED_SCORES])) == (TrialState.COMPLETE, SEEDS)
    assert {f"seed_{seed}/policy.pt" for seed in range(SEEDS)} <= record.files.keys()
    assert {f"seed_{seed}/eval/return_mean" for seed in range(SEEDS)} <= record.curves.keys()


def test_a_trial_pruned_where_its_helper_was_first_has_the_same_record(
    twice: Twice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def should_prune(trial: optuna.Trial) -> bool:
        return 3 in stored(trial).intermediate_values

    monkeypatch.setattr(optuna.Trial, "should_prune", should_prune)
    record = twice(SMALL)
    assert (record.state, list(record.reports)) == (TrialState.PRUNED, [1, 2, 3])
    assert {"seed_1/policy.pt", "landing.gif"} <= record.files.keys()


def test_a_trial_that_wilcoxon_prunes_between_seeds_has_the_same_record(twice: Twice) -> None:
    text = changed(
        shared_text(QUICK, 'pruner = "wilcoxon"', trials=2),
        {"final_episodes = 1": "final_episodes = 4"},
    )

    def with_better(sweep: Sweep) -> None:
        space, base = sweep.study.space, sweep.study.base
        better = create_trial(
            params=defaults(space, base),
            distributions={range_.parameter: range_.distribution for range_ in space.values()},
            value=1e6,
            intermediate_values=dict.fromkeys(range(1, sweep.study.reports + 1), 1e6),
        )
        sweep.optuna.add_trial(better)

    record = twice(text, before=with_better)
    assert (record.state, list(record.reports)) == (TrialState.PRUNED, [1, 2, 3, 4])
    assert [name for name in record.files if name.endswith("policy.pt")] == ["seed_0/policy.pt"]


def test_what_helpers_spend_is_part_of_the_cost_and_of_the_seconds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(resolved: Resolved, *, check: Callable[[], None]) -> State:
        return trained(resolved, check=check) | {"seconds": 1e6, "cpu_seconds": 1e5}

    clock = count()  # ticks whenever the objective looks at it
    ticking = SimpleNamespace(monotonic=lambda: float(next(clock)))
    monkeypatch.setattr(sweeps.run.objective, "time", ticking)
    monkeypatch.setattr(sweeps.run.sharing, "trained", slow)
    started(store, f"{SMALL}\n[constraints]\nseconds = 10\n")
    with_helper(store, monkeypatch)
    work(store, "mini", index=0, seconds=None)
    (trial,) = open_sweep(store, "mini").read_trials().all
    metrics = store.runs().get_run(trial.user_attrs[RUN_ID]).data.metrics
    assert metrics[COST_HELPED] == 2 * (1e6 - 1)  # it waited for each
    assert 0 <= metrics[COST_CPU] - 2e5 < 1e4
    assert trial.constraints["seconds"] == 1 + 2e6 - 10  # its own training, and two others
    ended_at, began_at = (
        datetime.fromisoformat(trial.user_attrs[name]) for name in (ENDED, STARTED)
    )
    assert seconds(trial) == (ended_at - began_at).total_seconds() + metrics[COST_HELPED]


def test_a_training_for_another_worker_says_how_long_it_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, processor = iter([100.0, 107.0]), iter([5.0, 8.5])
    handover = sweeps.run.handover
    monkeypatch.setattr(handover, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(handover, "cpu_seconds", lambda: next(processor))
    resolved = resolve(study_of(SMALL).base)
    done = trained(resolved, check=nothing)
    assert (done["seconds"], done["cpu_seconds"]) == (7.0, 3.5)
    final = replay(done, resolved, on_update=ignore).final
    assert final.seconds == done["final"]["seconds"] > 0


# -- who trains under which seed -------------------------------------------------------------------


@dataclass(frozen=True)
class Begun:
    """A trial that this process has begun, as a worker of its own, and whose seeds it shares."""

    sweep: Sweep
    trial: optuna.Trial
    owner: ExitStack
    """Closed when the trial ends."""

    @property
    def folder(self) -> Path:
        return folder_of(self.sweep.store, "mini", self.trial.number)

    def share(self) -> Claim:
        """Share its seeds, and begin with the first."""
        shared = sharing(self.trial, SEEDS, store=self.sweep.store)
        claim = self.owner.enter_context(shared)
        assert claim(0, nothing) is None
        return claim

    def help(self, check: Callable[[], None] = nothing) -> bool:
        return help_another(self.sweep, check=check)

    def results(self) -> list[str]:
        """What helpers have written."""
        return sorted(path.name for path in self.folder.glob("*.pt"))

    def is_free(self, seed: int) -> bool:
        """Whether nobody has locked a seed."""
        lock = locked(self.folder / str(seed))
        if lock is not None:
            lock.close()
        return lock is not None


def unexpected() -> None:
    """A check at which a helper would wait, or train."""
    raise AssertionError("nobody waits")


def begin(store: Store, text: str, owner: ExitStack) -> Begun:
    sweep = started(store, text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # heartbeats without `optimize`
        trial = sweep.optuna.ask()
    begun = Begun(sweep, trial, owner)
    begun.folder.parent.mkdir(parents=True)
    return begun


@pytest.fixture
def begun(store: Store) -> Generator[Begun]:
    """One with short trainings."""
    with ExitStack() as owner:
        begun = begin(store, SMALL, owner)
        trial_configs(begun.trial, begun.sweep.study)
        yield begun


def test_a_helper_takes_the_last_seed_that_nobody_has_begun(begun: Begun) -> None:
    claim = begun.share()
    assert [begun.help(), begun.results()] == [True, ["2.pt"]]
    assert [begun.help(), begun.results()] == [True, ["1.pt", "2.pt"]]
    assert not begun.help(unexpected)  # the first is the owner's
    configs = trial_configs(begun.trial, begun.sweep.study)
    for seed in (1, 2):
        done = claim(seed, nothing)
        assert done is not None
        again = replay(done, resolve(configs[seed]), on_update=ignore).policy.state_dict()
        weights = train(configs[seed]).policy.state_dict()
        assert all(again[name].equal(weights[name]) for name in weights)


def test_two_helpers_never_train_under_one_seed(begun: Begun) -> None:
    begun.share()
    meanwhile: list[list[str]] = []

    def second() -> None:
        if not meanwhile:
            meanwhile.append([])
            assert begun.help()
            meanwhile.append(begun.results())
            assert not begun.help(unexpected)

    assert begun.help(second)
    assert meanwhile[1] == ["1.pt"]
    assert begun.results() == ["1.pt", "2.pt"]


def test_what_the_owner_has_begun_no_helper_takes_even_once_it_is_done(begun: Begun) -> None:
    claim = begun.share()
    assert claim(1, nothing) is claim(2, nothing) is None
    assert not begun.help(unexpected)
    assert begun.results() == []


def test_an_owner_waits_for_its_helper_and_can_be_interrupted_meanwhile(begun: Begun) -> None:
    claim, calls = begun.share(), list[int]()
    helper = locked(begun.folder / "2")
    assert helper is not None

    def expire() -> None:
        raise Expired

    with pytest.raises(Expired):
        claim(2, expire)

    def finish() -> None:
        calls.append(1)
        write(result_path(begun.folder / "2"), {"env_steps": 7})
        helper.close()

    assert claim(2, finish) == {"env_steps": 7}
    assert calls == [1]


def test_a_helper_that_is_interrupted_leaves_its_seed_to_others(begun: Begun) -> None:
    begun.share()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begun.help(interrupt)
    assert begun.results() == []
    assert begun.is_free(2)


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_an_owner_trains_itself_what_it_cannot_read(begun: Begun, content: bytes) -> None:
    claim = begun.share()
    result_path(begun.folder / "2").write_bytes(content)
    assert claim(2, nothing) is None


def test_an_owner_meets_the_error_of_its_helper_itself(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[int] = []

    def diverge(resolved: Resolved, *, check: Callable[[], None]) -> State:
        met.append(resolved.config.seed)
        raise Divergence("update 1: loss is nan")

    monkeypatch.setattr(sweeps.run.sharing, "trained", diverge)
    claim = begun.share()
    assert [begun.help() for _ in range(3)] == [True, True, False]
    configs = trial_configs(begun.trial, begun.sweep.study)
    assert met == [configs[2].seed, configs[1].seed]
    assert claim(1, nothing) is claim(2, nothing) is None


def test_a_helper_stops_when_the_trial_ends_and_nothing_is_left(
    begun: Begun, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def end() -> None:
        calls.append(1)
        begun.owner.close()

    begun.share()
    assert begun.help(end)
    assert calls == [1]
    assert capsys.readouterr().out == ""
    assert list(begun.folder.parent.iterdir()) == []
    assert not is_shared(begun.folder)


def test_a_helper_that_is_done_after_the_trial_has_ended_writes_nothing(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(resolved: Resolved, *, check: Callable[[], None]) -> State:
        begun.owner.close()
        return {"env_steps": 7}

    monkeypatch.setattr(sweeps.run.sharing, "trained", too_late)
    begun.share()
    assert begun.help()
    assert list(begun.folder.parent.iterdir()) == []


def test_a_helper_has_the_versions_and_the_commit_of_the_owner(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun.share()
    monkeypatch.setattr(sweeps.run.sharing, "code", lambda: b"another version")
    assert not begun.help(unexpected)
    assert begun.results() == []


def test_two_who_look_do_not_take_each_other_for_the_owner(begun: Begun) -> None:
    begun.folder.mkdir()
    (begun.folder / "0").touch()
    looking = locked(begun.folder / "0", fcntl.LOCK_SH)
    assert looking is not None
    with looking:
        assert not is_shared(begun.folder)


def test_a_helper_waits_for_a_trial_that_has_just_begun(store: Store) -> None:
    with ExitStack() as owner:
        begun = begin(store, SMALL, owner)

        def share() -> None:
            if not begun.folder.exists():
                trial_configs(begun.trial, begun.sweep.study)  # only now it has its parameters
                begun.share()

        assert begun.help(share)
        assert begun.results() == ["2.pt"]


def test_a_helper_reads_the_parameters_once_they_are_all_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as owner:
        begun = begin(store, SMALL, owner)
        without = running_here(begun.sweep)
        monkeypatch.setattr(sweeps.run.sharing, "running_here", lambda _: without)
        trial_configs(begun.trial, begun.sweep.study)
        claim = begun.share()
        assert begun.help()
        assert claim(2, nothing) is not None


def test_nobody_waits_for_a_trial_that_nobody_here_will_share(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, trial_id = begun.sweep.store.trials(), id_of(begun.trial)
    worker = parse_worker(this_worker())
    for other in (replace(worker, host="another"), replace(worker, started="1")):
        storage.set_trial_user_attr(trial_id, WORKER, str(other))
        assert not begun.help(unexpected)
    storage.set_trial_user_attr(trial_id, WORKER, this_worker())
    with pytest.raises(AssertionError, match="nobody waits"):
        begun.help(unexpected)
    one = study_of(changed(SMALL, {f"seeds_per_trial = {SEEDS}": "seeds_per_trial = 1"}))
    assert not help_another(replace(begun.sweep, study=one), check=unexpected)


# -- processes -------------------------------------------------------------------------------------


def test_a_killed_helper_leaves_its_seed_to_the_owner(store: Store, start: Start) -> None:
    with ExitStack() as owner:
        begun = begin(store, LONG, owner)
        trial_configs(begun.trial, begun.sweep.study)
        claim = begun.share()
        helper = start("sweeps", "work", "--study", "mini", "--store", store.folder)
        until(lambda: not begun.is_free(2), helper)
        assert begun.is_free(1)
        helper.kill()
        assert claim(2, nothing) is None


def test_a_killed_owner_is_helped_no_more_and_leaves_nothing(store: Store, start: Start) -> None:
    sweep = started(store, LONG)
    owner = start("sweeps", "work", "--study", "mini", "--store", store.folder)
    folder = folder_of(store, "mini", 0)
    until(lambda: is_shared(folder), owner)
    calls: list[int] = []

    def kill() -> None:
        calls.append(1)
        if len(calls) == 3:
            owner.kill()
            owner.wait()

    assert help_another(sweep, check=kill)
    assert len(calls) == 3
    assert list(folder.glob("*.pt")) == []
    assert not help_another(sweep, check=unexpected)
    requeue_lost(sweep)
    (lost,) = sweep.read_trials().all
    assert lost.user_attrs[REASON] == Reason.LOST
    assert contents(store) == [".lock"]
    assert not [finding for finding in examine(store, dry_run=True) if not finding.repaired]


def test_two_workers_share_one_trial(store: Store, tmp_path: Path, start: Start) -> None:
    file = tmp_path / "mini.toml"
    text = shared_text(SHORT, 'pruner = "none"')
    file.write_text(changed(text, {"total_steps = 4_096": "total_steps = 8_192"}))
    run = start("sweeps", "run", "--study", file, "--store", store.folder, "--workers", "2")
    output = output_of(run)
    assert "starting mini: 1 trials to go, workers: 2" in output
    owner, helper = sorted(path.read_text() for path in (store.folder / "logs").iterdir())
    assert owner == ""
    assert helper.startswith("mini: trained under seed 2 of trial 0, for its worker\n")
    (trial,) = open_sweep(store, "mini").read_trials().all
    assert trial.state == TrialState.COMPLETE
    assert COST_HELPED in store.runs().get_run(trial.user_attrs[RUN_ID]).data.metrics
    assert contents(store) == [".lock"]
    assert not list(examine(store, dry_run=True))


# -- how many workers ------------------------------------------------------------------------------


@dataclass
class Idle:
    """A launcher of workers that end at once."""

    slots: int
    started: list[int] = field(default_factory=list)
    remote = False
    ended = True
    failure = ""

    def start(self, sweep: Sweep, *, index: int, seconds: float | None) -> Idle:
        self.started.append(index)
        return self

    def interrupt(self) -> None: ...

    def kill(self) -> None: ...


@pytest.mark.parametrize(("slots", "workers"), [(2, 2), (8, 3)])
def test_as_many_workers_start_as_there_are_trainings_left_and_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch, slots: int, workers: int
) -> None:
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.0)
    launcher = Idle(slots)
    assert run_trials_left(started(store, SMALL), launcher=launcher, workers=None)
    assert launcher.started == list(range(workers))


def test_the_header_and_the_forecast_count_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mini.toml"
    file.write_text(SMALL)
    rows = dict(header(str(file), Store(tmp_path), trials=None, workers=2, remote=False))
    assert rows["workers"] == "2 on this machine"
    monkeypatch.setattr("sweeps.run.forecast.usable_cores", lambda: 2)
    cost = Cost(whole=(12.0, 30.0), each=(12.0, 30.0), source="a probe")
    # of three trainings two run side by side, and one may be alone
    assert cost.sweep(1, workers=2, seeds=3) == (6.0, 15.0 + 5.0)
    said = takes(study_of(SMALL), cost, left=1, workers=2)
    assert said == "about 6 to 20 s on 2 workers, 12 to 30 s a trial: by a probe"
