"""What a person sees of a sweep: before it begins, while it runs, and at its end."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console

import sweeps.commands
from lander.terminal import listed
from sweeps.__main__ import main
from sweeps.commands import conclude
from sweeps.confirm import minutes_of
from sweeps.hints import hint
from sweeps.lifecycle.creation import create
from sweeps.run.header import header
from sweeps.run.live import ASCII, sparkline
from sweeps.run.progress import ProgressTable, tally
from sweeps.run.supervisor import outcome
from sweeps.schema import ENDED, POINT, REASON, RETRY_OF, RETURNS, STARTED, Reason
from sweeps.scores import base_among, expected, promise
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.study.space import brief
from sweeps.study.study import TUNED, read_study
from sweeps.sweep import Sweep, open_sweep
from tests.processes import python_c
from tests.studies import QUICK, changed

STUDY = read_study(QUICK, source="quick.toml")
BEGAN = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
DEFAULTS: Mapping[str, Any] = {"ppo.learning_rate": 0.003, "ppo.update_epochs": 1}


def trial(
    number: int,
    reports: Sequence[float],
    value: float | None = None,
    *,
    state: TrialState = TrialState.COMPLETE,
    params: Mapping[str, Any] | None = None,
    reason: str | None = None,
) -> FrozenTrial:
    """A trial of the quick study that took a minute."""
    attributes: dict[str, Any] = {STARTED: BEGAN.isoformat()}
    if state.is_finished():
        attributes[ENDED] = (BEGAN + timedelta(minutes=1)).isoformat()
    if value is not None:
        attributes[RETURNS] = [[value]]
    own = {"ppo.learning_rate": 0.001 + number / 10_000, "ppo.update_epochs": 2}
    made = create_trial(
        state=state,
        value=value,
        params=dict(own if params is None else params),
        distributions={name: range_.distribution for name, range_ in STUDY.space.items()},
        user_attrs=attributes | ({} if reason is None else {REASON: reason}),
        intermediate_values=dict(enumerate(reports, 1)),
    )
    made.number = number
    return made


TRIALS = (
    trial(0, [20.0, 100.0], 100.0, params=DEFAULTS),
    trial(1, [30.0, 150.0], 150.0),
    trial(2, [-8.25], -8.25, state=TrialState.PRUNED),
    trial(3, [], state=TrialState.FAIL, reason="diverged: update 1"),
    trial(4, [42.0], state=TrialState.RUNNING),
)

BEST, BASE = (promise(one.trial.number, one.likely) for one in expected(TRIALS))
"""As status, report and MLflow's note say it: trial 1, promised 150.0, ..; trial 0, .."""


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProgressTable]:
    """A table of ten trials that was made 65 seconds ago, when nothing was trained."""
    now = [1_000.0]
    with monkeypatch.context() as patch:
        patch.setattr("sweeps.run.progress.time.monotonic", lambda: now[0])
        table = ProgressTable(STUDY, trials=10, look="make ui")
        table.summary([])
        now[0] += 65
        yield table


def screen(
    table: ProgressTable,
    *,
    width: int,
    height: int,
    encoding: str = "utf-8",
    trials: Sequence[FrozenTrial] = TRIALS,
) -> list[str]:
    """The lines of a terminal of this size."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, force_terminal=True, color_system=None, width=width, height=height)
    console.print(table.frame(trials))
    file.flush()
    return [line.rstrip() for line in raw.getvalue().decode(encoding).splitlines()]


def test_a_small_terminal_shows_result_history_and_last_trials(table: ProgressTable) -> None:
    bar, *lines = screen(table, width=80, height=24)
    assert bar.startswith("progress  ━")
    assert bar.endswith(" 4 of 10, 40%  1:05, 1:10 left")
    assert (len(bar), bar.count("━")) == (80, 16)
    assert lines == [
        "trials    1 running, 2 finished, 1 pruned, 1 failed; 6 steps/s",
        f"best      {BEST}",
        f"defaults  {BASE}",
        "history   ▁█ best score 100.0 to 150.0",
        "look      make ui",
        "",
        "trial    state          return  checkpoint    learning_rate  update_epochs",
        "4        running          42.0  1 of 2        0.0014         2",
        "3        failed              -  0 of 2        0.0013         2",
        "2        pruned           -8.2  1 of 2        0.0012         2",
        "1        finished        150.0  2 of 2        0.0011         2",
        "0        finished        100.0  2 of 2        0.003          1",
    ]


def test_once_all_trials_have_ended_the_screen_says_what_goes_on() -> None:
    flying = "now       flying the best policies on fresh episodes"
    ended = [trial for trial in TRIALS if trial.state.is_finished()]
    table = ProgressTable(STUDY, trials=4)
    assert flying in screen(table, width=80, height=24, trials=ended)
    assert flying not in screen(table, width=80, height=24, trials=ended[:3])
    confirming = ProgressTable(replace(STUDY, confirms=True), trials=4)
    assert flying not in screen(confirming, width=80, height=24, trials=ended)
    failed = [trial for trial in ended if trial.state == TrialState.FAIL]
    nothing_to_fly = ProgressTable(STUDY, trials=len(failed))
    assert flying not in screen(nothing_to_fly, width=80, height=24, trials=failed)


def test_columns_and_lines_decide_how_much_is_shown(table: ProgressTable) -> None:
    narrow = screen(table, width=52, height=10)
    assert [line.split()[0] for line in narrow[-3:]] == ["trial", "4", "3"]
    assert "learning_rate" not in "".join(narrow)
    assert max(map(len, narrow)) == 52
    assert narrow[1] == "trials    1 running, 2 finished, 1 pruned, 1 failed…"
    assert narrow[0].endswith(" 4 of 10, 40%  1:05, 1:10 left")
    wide = screen(table, width=160, height=24)
    assert wide[0].count("━") == 32


def test_a_terminal_without_blocks_gets_other_characters(table: ProgressTable) -> None:
    assert screen(table, width=80, height=24, encoding="ascii")[4].startswith("history   _@ best")


def test_a_word_of_another_person_cannot_steer_the_table() -> None:
    assert brief("a\x1b[2J") == "a\\x1b[2J"
    assert [brief(value) for value in (None, 0.123456, 7, True)] == ["-", "0.1235", "7", "True"]


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([0, 1, 2, 7], 40, "_.-@"),
        ([0, 1, 2, 7], 2, "_@"),  # the last of each half: 1 and 7
        ([5.0, 5.0], 40, "__"),
        ([-3.0], 40, "_"),
    ],
)
def test_a_sparkline_has_the_heights_of_its_values(
    values: Sequence[float], width: int, line: str
) -> None:
    assert sparkline(values, levels=ASCII, width=width) == line


def test_plain_lines_name_the_same_numbers(table: ProgressTable) -> None:
    line = "  ".join(f"{name} {value}" for name, value in table.summary(TRIALS).items())
    assert line == (
        "elapsed 1:05  running 1  finished 2  pruned 1  failed 1  of 10  "
        f"best {BEST}  steps/s 6  ETA 1:10"
    )


def test_the_base_is_trial_0_or_its_retry() -> None:
    lost = trial(0, [], state=TrialState.FAIL, params=DEFAULTS, reason=Reason.INTERRUPTED)
    again = trial(7, [1.0, 90.0], 90.0, params=DEFAULTS)
    again.user_attrs[RETRY_OF] = 0
    other = trial(1, [1.0, 95.0], 95.0)
    for trials in ((lost, other, again), (other, again)):
        base = base_among(trials, expected(trials))
        assert base is not None
        assert base.trial.number == 7
    assert base_among([lost, other], expected([lost, other])) is None
    assert base_among([], []) is None


# before it begins


def rows(text: str, tmp_path: Path, **options: Any) -> dict[str, str]:
    file = tmp_path / "x.toml"
    file.write_text(text)
    asked: dict[str, Any] = {"trials": None, "workers": 2, "remote": False} | options
    return dict(header(str(file), Store(tmp_path / "store"), **asked))


def test_the_header_says_study_budget_workers_and_store(tmp_path: Path) -> None:
    assert rows(QUICK, tmp_path) == {
        "study": "mini: 3 trials on CartPole-v1",
        "searched": "ppo.learning_rate, ppo.update_epochs (sampler tpe)",
        "steps": "128 in each training",
        "workers": "2 on this machine",
        "store": f"{tmp_path / 'store'}, new: its databases take some seconds",
    }


def test_the_header_says_which_steps_are_trained(tmp_path: Path) -> None:
    text = changed(QUICK, {"total_steps = 128": "total_steps = 200"})
    assert rows(text, tmp_path)["steps"] == (
        "192 in each training: the 3 whole rollouts of 64 in total_steps = 200"
    )
    searched = changed(text, {"[space]": '[space]\n"ppo.rollout_steps" = { choices = [16, 32] }'})
    assert rows(searched, tmp_path)["steps"] == "200 in each training"


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ({"trials": 1}, "1 on this machine"),
        ({"workers": 0}, "none: those started by `work` are watched"),
        ({"remote": True}, "2 on Ray"),
        ({"remote": True, "workers": None}, "one per core of the Ray cluster"),
    ],
)
def test_the_header_says_where_workers_run(
    tmp_path: Path, options: dict[str, Any], workers: str
) -> None:
    assert rows(QUICK, tmp_path, **options)["workers"] == workers


def test_the_header_of_a_study_with_points_counts_them(tmp_path: Path) -> None:
    head, _, _ = QUICK.partition("[space]")
    text = changed(head, {"trials = 3": "training_seeds = 5"}) + (
        '[points."a"]\n"ppo.gamma" = 0.9\n[points."b"]\n"ppo.gamma" = 0.99\n'
    )
    shown = rows(text, tmp_path)
    assert shown["study"] == "mini: 10 trials on CartPole-v1"
    assert shown["points"] == "2, each under 5 training seeds"


def test_the_header_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, json; from pathlib import Path; from sweeps.store.store import Store;"
        "from sweeps.run.header import header;"
        "header('lander', Store(Path('x')), trials=None, workers=None, remote=False);"
        "print(json.dumps(sorted({'torch', 'gymnasium', 'mlflow', 'rich'} & set(sys.modules))))"
    )
    assert json.loads(python_c(code)) == []


def test_the_header_comes_before_any_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def run(*_: object) -> int:
        seen.append(capsys.readouterr().out.split()[1])
        assert not (tmp_path / "store").exists()
        return 0

    monkeypatch.setattr(sweeps.commands, "run", run)
    assert main(["run", "--study", "smoke", "--workers", "0", "--store", f"{tmp_path}/store"]) == 0
    assert seen == ["smoke:"]


# at its end


def test_an_ended_sweep_is_counted_in_one_line() -> None:
    lost = trial(5, [], state=TrialState.FAIL, reason=Reason.INTERRUPTED)
    assert tally(TRIALS) == "2 finished, 1 pruned, 1 failed"
    assert tally([*TRIALS, lost]) == "2 finished, 1 pruned, 1 failed, 1 interrupted"
    over, running = Trials(TRIALS[:4], budget=4), Trials(TRIALS, budget=6)
    counts = "2 finished, 1 pruned, 1 failed"
    assert outcome(over, finished=True, seconds=65) == f"done in 1:05; {counts}"
    assert outcome(running, finished=True, seconds=65) == f"stopped after 1:05; {counts}, 2 left"
    assert outcome(running, finished=False, seconds=65) == (
        f"interrupted after 1:05; {counts}, 2 left"
    )


@pytest.fixture
def ended(store: Store) -> Sweep:
    study = create(STUDY, store, command=["run"])
    for one in TRIALS[:4]:
        study.add_trial(one)
    return open_sweep(store, "mini")


def test_the_summary_has_the_result_first(ended: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    conclude(ended, ended.read_trials(), workers=2)
    best, base, caveat, params, *rest = capsys.readouterr().out.splitlines()
    assert best == f"best      {BEST}"
    assert base == f"defaults  {BASE}"
    assert caveat.strip() == "one training each: the difference may be luck"
    assert params == "with      ppo.learning_rate 0.0011, ppo.update_epochs 2"
    assert [line.split()[0] for line in rest if line[:1].strip()] == [
        "pruner",
        "look",
        "check",
        "repeat",
        "health",  # a trial has failed
    ]
    # it ended at the first of two reports, after a minute
    assert rest[0] == "pruner    ended 1 trial, which saved about 60 s; none was audited yet"
    (takes,) = (line for line in rest if "trainings" in line)  # 40 of a minute each, by two workers
    assert takes.strip() == "is it better, or was it lucky? 40 trainings, about 20 min"


def test_a_summary_that_no_page_follows_says_how_to_get_one(
    ended: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    conclude(ended, ended.read_trials(), report=False)
    command = hint("report", ended.store.folder, study="mini")
    assert f"\nreport    {command}\n" in capsys.readouterr().out


def test_the_time_of_a_confirmation_is_rounded_up() -> None:
    assert minutes_of(40, each=60.0, workers=2) == 20
    assert minutes_of(40, each=60.1, workers=2) == 21
    assert minutes_of(1, each=1.0, workers=4) == 1


def test_the_best_of_a_confirmation_is_a_candidate_not_a_trial() -> None:
    repeated = [trial(number, [], 94.5, params=DEFAULTS) for number in (4, 5)]
    for one in repeated:
        one.user_attrs[POINT] = 12
    assert ProgressTable(STUDY, trials=2).summary(repeated)["best"] == "trial 12, 94.5 of 2"
    for one in repeated:
        one.user_attrs[POINT] = TUNED
    best = ProgressTable(STUDY, trials=2).summary(repeated)["best"]
    assert best == "the tuned defaults, 94.5 of 2"


def test_a_sweep_whose_best_trial_is_the_base_says_so(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    study = create(STUDY, store, command=["run"])
    study.add_trial(TRIALS[0])
    capsys.readouterr()
    conclude(open_sweep(store, "mini"), Trials(study.trials, budget=1))
    best, which, *_ = capsys.readouterr().out.splitlines()
    assert best.startswith("best      trial 0, promised 100.0, expect 100")
    assert which == "          which trains the defaults"


def test_a_list_is_cut_between_items_where_a_terminal_is_narrow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert list(listed("x", ["a b", "c d"], end=" (e)")) == [("x", "a b, c d (e)")]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((20, 9)))
    assert list(listed("x", ["aaa bb", "cc dd", "e f"], end=" (g)")) == [
        ("x", "aaa bb,"),
        ("", "cc dd,"),
        ("", "e f (g)"),
    ]
