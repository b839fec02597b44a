"""The report: it says what is recorded, loads nothing, believes no text, and never gives up."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState, create_trial

import analysis.load
import analysis.report.records
import analysis.report.report
import analysis.stats
import sweeps.__main__
import sweeps.commands
import sweeps.run.objective
import sweeps.study.study
from analysis.__main__ import IN_SWEEPS, main
from analysis.confirm.judgement import judgement_of
from analysis.confirm.record import conclude
from analysis.confirm.words import tables, verdict
from analysis.report.contact_sheet import Pilot
from analysis.report.document import Block, Picture, html
from analysis.report.figures import flights_part, pilots
from analysis.report.records import Records, read_records
from analysis.report.report import SECTIONS, compose, outcome, write_report
from analysis.report.result import brief, measured, next_step, question, result_part, searched
from analysis.report.tables import budget_part
from analysis.stats import Estimate, mean_estimate
from lander.resolve import Resolved
from lander.seeds import TEST_SEED
from lander.trainer import Progress, TrainResult, train
from sweeps.endings import covered
from sweeps.hints import CHECKOUT, hint
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.best_policy import publish_best_policy
from sweeps.publish.markdown import line, plain_table
from sweeps.run.worker import work
from sweeps.schema import BUDGET, RETURNS, RUN_ID, SEED_SCORES, TimePart
from sweeps.scores import final_means, last_return, mean, ranked, seed_scores
from sweeps.store.best_policy import recorded_policy
from sweeps.store.store import Store, quiet
from sweeps.store.trials import Trials
from sweeps.study.ranges import read_range
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.races import begun_race
from tests.studies import REPORTED, TINY, changed

torch.set_num_threads(1)
quiet()

FAILS = 2
"""Number of the trial that breaks down."""
HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> | `b|` [c](http://evil.example) *d*"
)
SHOWN = f"RuntimeError: {HOSTILE}".replace("`", "")
"""What a reader sees of it: backticks mark code."""


class Page(HTMLParser):
    """A page as a reader sees it, and all that it would load or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.outside: list[tuple[str, str]] = []
        """Attributes outside of drawings."""
        self.style = ""
        self.script = ""
        self.marks: list[tuple[str, str]] = []
        """Trial and title of every mark in a chart."""
        self.text: dict[str, str] = {}
        """By section."""
        self.paragraphs: list[str] = []
        self.tables: dict[str, list[list[list[str]]]] = {}
        """By section."""
        self._open: list[str] = []
        self._section = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if "svg" not in self._open:
            self.outside += [(name, value or "") for name, value in attrs]
        if ("class", "mark") in attrs:
            self.marks.append((str(dict(attrs)["data-trial"]), ""))
        if tag not in {"img", "link", "meta", "wbr"}:
            self._open.append(tag)
        tables = self.tables.setdefault(self._section, [])
        if tag == "h2":
            self._section = ""
        elif tag == "table":
            tables.append([])
        elif tag == "tr":
            tables[-1].append([])
        elif tag in {"td", "th"}:
            tables[-1][-1].append("")
        elif tag in {"p", "figcaption"}:
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "svg" in self._open:
            if "title" in self._open:
                trial, title = self.marks[-1]
                self.marks[-1] = trial, title + data
            return
        if "style" in self._open:
            self.style += data
        elif "script" in self._open:
            self.script += data
        elif "h2" in self._open:
            self._section += data
        else:
            self.text[self._section] = self.text.get(self._section, "") + data
        if "td" in self._open or "th" in self._open:
            self.tables[self._section][-1][-1][-1] += data
        elif "p" in self._open or "figcaption" in self._open:
            self.paragraphs[-1] += data

    def values(self, *names: str) -> list[str]:
        """Of attributes."""
        return [value for name, value in self.attributes if name in names]


def read_plain(markdown: str) -> str:
    """Without the marks of code, links and escapes."""
    shown = re.sub(r"\[(\d+)\]\(http[^)]*\)", r"\1", markdown)
    return re.sub(r"\\(\W)|`", lambda match: match[1] or "", shown)


def tables_of(markdown: str) -> dict[str, list[list[list[str]]]]:
    """By section, as `Page.tables`, an empty head left out."""
    tables: dict[str, list[list[list[str]]]] = {}
    for part in markdown.split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        tables[title] = []
        for block in re.findall(r"(?:^\|.*\n)+", body + "\n", flags=re.MULTILINE):
            lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
            cells = [[read_plain(cell).strip() for cell in line] for line in lines]
            tables[title].append([row for row in cells[:1] if any(row)] + cells[2:])
    return tables


@dataclass(frozen=True)
class Written:
    """A report as files."""

    page: Page
    html: str
    markdown: str
    folder: Path
    records: Records


def written(store: Store) -> Written:
    """Write the report of `tiny` and read it."""
    records = read_records(store, "tiny")
    html, markdown = (path.read_text() for path in write_report(records))
    return Written(Page(html), html, markdown, store.folder / "reports", records)


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Nothing here looks at how wide a bootstrap's interval is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis.stats, "RESAMPLES", 99)
        yield


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Five trials of two trainings each; one of them fails, and its reason is an attack."""
    store = Store(tmp_path_factory.mktemp("report") / "store")
    study = read_study(REPORTED, source="tiny")
    begun = start_sweep(study, store, trials=5, command=["run", "<b>tiny"])
    begun.optuna.enqueue_trial({"policy.head": "gaussian"})  # which has no bins
    trainings = 0

    def sometimes(
        config: Resolved, *, on_update: Callable[[Progress], None], check: Callable[[], None]
    ) -> TrainResult:
        nonlocal trainings
        trainings += 1
        if trainings == 2 * FAILS + 1:
            raise RuntimeError(HOSTILE)
        return train(config, on_update=on_update, check=check)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeps.run.objective, "train", sometimes)
        work(store, "tiny", index=0, seconds=None)
    sweep = open_sweep(store, "tiny")
    publish_best_policy(store.runs(), sweep, sweep.read_trials(), [])
    return sweep


@pytest.fixture(scope="module")
def report(swept: Sweep) -> Written:
    """Before anybody confirmed anything."""
    return written(swept.store)


@pytest.fixture(scope="module")
def confirmed(swept: Sweep, report: Written) -> Written:
    """The same sweep, its best trial and the defaults confirmed under two seeds."""
    store = swept.store
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeps.study.study, "TEST_EPISODES", 4)
        begun_race(store, "tiny", top=1, trainings=4)
        work(store, "tiny@confirm", index=0, seconds=None)
    conclude(store, "tiny")
    return written(store)


def test_every_trial_stands_there_with_its_value_as_recorded(swept: Sweep, report: Written) -> None:
    head, *rows = report.page.tables["All trials"][0]
    assert head[:4] == ["trial", "state", "score", "of the budget"]
    head = [*head[:4], *(name.split()[-1] for name in head[4:])]  # after its name for people
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4"]
    for trial, row in zip(swept.read_trials().all, rows, strict=True):
        cells = dict(zip(head, row, strict=True))
        value = last_return(trial)
        assert cells["score"] == ("" if value is None else f"{value:.1f}")
        assert cells["state"] == ("failed" if trial.number == FAILS else "finished")
        assert cells["of the budget"] == ("0%" if trial.number == FAILS else "100%")
        for name, range_ in swept.study.space.items():
            recorded = trial.params.get(range_.parameter)
            wanted = "not used" if recorded is None else brief(range_.to_field(recorded))
            assert cells[name] == wanted


def test_a_field_that_did_nothing_is_not_used(report: Written) -> None:
    head, *lines = report.page.tables["All trials"][0]
    head_column, bins_column = head.index("head policy.head"), head.index("bins env.bins")
    used = {(line[head_column], line[bins_column] == "not used") for line in lines}
    assert used == {("categorical", False), ("gaussian", True)}


def test_the_page_loads_nothing_and_runs_only_its_own_script(report: Written) -> None:
    page = report.page
    run = f"http://127.0.0.1:5000/#/experiments/{report.records.sweep.experiment_id}/runs/"
    for value in page.values("src", "href", "srcset", "poster", "data", "action", "background"):
        assert value.startswith(("data:image/", "#", run)) or value == "data:,"  # an empty icon
    for value in page.values("xlink:href", "clip-path"):
        assert value.startswith(("#", "url(#", "data:image/png"))  # a colour bar is pixels
    digest = b64encode(sha256(page.script.encode()).digest()).decode()
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert len(re.findall("<script", report.html)) == 1
    drawn = {"svg", "g", "path", "use", "defs", "clippath", "rect", "title", "image"}
    assert page.tags - drawn <= {
        *("button", "script"),
        *("html", "head", "link", "meta", "title", "style", "body", "nav", "a", "section"),
        *("h1", "h2"),
        *("p", "pre", "code", "wbr", "strong", "div", "figure", "figcaption", "img"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [name for name, _ in page.outside if name == "style"]
    assert "url(" not in page.style
    assert "@import" not in page.style


def test_what_people_look_for_first_stands_first() -> None:
    titles = list(SECTIONS)
    assert titles[:4] == ["Result", "Flights", "Best against the defaults", "History"]
    assert titles[-3:] == ["Seeds", "Budget and time", "Origin"]


def test_every_mark_of_a_trial_says_which_it_is(report: Written) -> None:
    trials = {trial.number: trial for trial in report.records.counted}
    assert {int(number) for number, _ in report.page.marks} == set(trials)
    assert Counter(number for number, _ in report.page.marks)["0"] >= 3  # history, slices, lines
    for number, title in report.page.marks:
        first, *parameters = title.split("\n")
        if int(number) == FAILS:
            assert first == f"trial {number}: failed"
        else:
            assert first == f"trial {number}: score {last_return(trials[int(number)]):.1f}"
        assert len(parameters) == len(report.records.sweep.study.space)
        assert parameters[0].startswith("learning rate ")


def test_every_trial_leads_to_its_run(report: Written) -> None:
    runs = {str(trial.user_attrs[RUN_ID]) for trial in report.records.counted}
    links = [value for value in report.page.values("href") if "/runs/" in value]
    assert {link.rpartition("/")[2] for link in links} == runs


def test_a_page_can_be_shared(report: Written, swept: Sweep) -> None:
    for text in (report.html, report.markdown):
        assert str(swept.store.folder) not in text
        assert str(Path.home()) + "/" not in text
        assert str(CHECKOUT) not in text
    assert len(report.html) < 3_000_000
    assert "prefers-color-scheme: dark" in report.page.style
    ids = report.page.values("id")
    assert len(ids) == len(set(ids))


def test_a_pruned_trial_has_no_score_in_any_words() -> None:
    trial = create_trial(state=TrialState.PRUNED, value=12.34, intermediate_values={1: 12.34})
    assert outcome(trial) == "pruned, 12.3 at its last checkpoint"


def test_every_link_within_the_page_leads_somewhere(report: Written) -> None:
    links = [value for value in report.page.values("href") if value.startswith("#")]
    assert len(links) == len(SECTIONS)
    assert {link.removeprefix("#") for link in links} <= set(report.page.values("id"))


def test_the_health_of_a_sweep_stands_on_its_page(report: Written) -> None:
    shown = report.page.text["Health"]
    assert "1 finding in 5 trials." in shown
    assert "1 of 5 trials failed or diverged, in no particular part of the space." in shown
    assert f"The first, trial {FAILS}: RuntimeError: <script>alert(1)</script>" in shown
    assert "Not examined: noise (it takes " in shown


def test_the_words_of_an_error_are_shown_and_never_obeyed(report: Written) -> None:
    assert report.page.tables["Failures"][0] == [["trial", "reason"], [str(FAILS), SHOWN]]
    assert "onerror" not in [name for name, _ in report.page.attributes]
    assert r"\<script>" in report.markdown
    outside_code = re.sub(r"```.*?```", "", report.markdown, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside_code)
    links = re.findall(r"\]\((http[^)]*)\)", outside_code)
    assert all(link.startswith("http://127.0.0.1:5000/#/experiments/") for link in links)


def test_markdown_has_the_same_tables_and_the_same_text(report: Written) -> None:
    tables = {title: rows for title, rows in report.page.tables.items() if title}
    assert tables == tables_of(report.markdown)
    plain = " ".join(read_plain(report.markdown).replace("\n> ", "\n").replace("**", "").split())
    assert len(report.page.paragraphs) > 15
    for paragraph in report.page.paragraphs:
        assert " ".join(paragraph.split()) in plain


def test_pictures_are_the_same_in_the_page_and_beside_the_markdown(report: Written) -> None:
    film, still = (b64decode(uri.partition("base64,")[2]) for uri in report.page.values("src"))
    names = re.findall(r"!\[.*?\]\((.*?)\)", report.markdown)
    charts = ["history", "importances", "slices", "parallel_coordinates", "cost", "curves"]
    shown = [Path(name).stem for name in names]
    assert [name for name in shown if name != "comparison"] == ["flights", *charts]
    assert (report.folder / "tiny_files" / "flights.gif").read_bytes() == film
    beside = {path.name for path in (report.folder / "tiny_files").iterdir()}
    assert beside - {"flights.mp4"} == {Path(name).name for name in names}
    assert film.startswith(b"GIF89a")
    assert still.startswith(b"\x89PNG")  # of the flights, for paper
    assert len(report.page.values("alt")) == 2
    assert len(report.page.values("aria-label")) == len(names) - 1
    assert all(report.page.values("alt", "aria-label"))


def test_nothing_failed_to_be_drawn(report: Written, confirmed: Written) -> None:
    for one in (report, confirmed):
        assert "could not be" not in one.markdown


def test_the_report_is_an_artifact_of_the_parent_run(
    swept: Sweep, report: Written, tmp_path: Path
) -> None:
    client = swept.store.runs()
    names = {artifact.path for artifact in client.list_artifacts(swept.run_id, "report")}
    assert names == {"report/tiny.html", "report/tiny.md", "report/tiny_files"}
    copy = Path(client.download_artifacts(swept.run_id, "report", str(tmp_path)))
    assert (copy / "tiny_files" / "history.svg").is_file()
    assert (copy / "tiny.md").read_text().startswith("# Study tiny\n\nWhich ")


def test_a_score_over_several_checkpoints_is_called_that() -> None:
    several = changed(
        TINY, {"checkpoints = 1": "checkpoints = 2", "total_steps = 64": "total_steps = 128"}
    )
    study = read_study(
        changed(several, {"trials = 2": "trials = 2\nscore_checkpoints = 2"}), source="tiny.toml"
    )
    assert measured(study) == (
        "the mean over the last 2 checkpoints, the last of which is the mean return of 1 "
        "deterministic episodes after 128 environment steps"
    )


def test_the_question_names_environment_fields_ranges_trials_and_measure(report: Written) -> None:
    assert question(report.records) == (
        "Which `ppo.learning_rate` (0.0003 to 0.01, log), "
        "`ppo.gae_lambda` (0.9 to 0.999, log distance to 1), "
        "`policy.head` (categorical, gaussian) and `env.bins` (3, 5, 7) give PPO on "
        "`LunarLanderContinuous-v3` the highest score: the mean return of 2 "
        "deterministic episodes after 256 environment steps, averaged over 2 training seeds, as "
        "far as 5 trials can tell?"
    )


def test_the_box_has_the_best_score_its_interval_and_what_to_type(
    swept: Sweep, report: Written
) -> None:
    best = ranked(swept.read_trials().all)[0]
    box, check = report.page.text["Result"], report.page.text["Check it and fly it"]
    assert swept.store.folder.name == "store"
    assert f"Best: trial {best.number}, score {mean_estimate(seed_scores(best))}" in box
    assert "5 trials: 4 finished, 0 pruned, 1 failed." in box
    assert "It is not confirmed yet: make confirm STUDY=tiny STORE=store measures it." in box
    assert f"make reproduce STUDY=tiny TRIAL={best.number} STORE=store" in check
    policy = recorded_policy(swept.optuna)
    assert policy is not None
    assert f"Best policy: {policy}." in check
    assert f"models:/tiny@best is the policy of trial-{policy.trial:04d}." in check
    assert 'set_tracking_uri("sqlite:///store/mlflow.db")' in check
    assert "make confirm STUDY=tiny STORE=store" in report.page.text["Confirmation"]


def test_a_store_in_its_usual_place_is_not_named(report: Written) -> None:
    sweep = replace(report.records.sweep, store=Store(Path("mlruns")))
    usual = replace(report.records, sweep=sweep)
    assert next_step(usual, "reproduce", trial=3) == "make reproduce STUDY=tiny TRIAL=3"


def test_steps_and_seconds_are_those_of_the_records(report: Written) -> None:
    spent, parts = report.page.tables["Budget and time"]
    facts = dict(spent[1:])
    assert facts["budget of a trial"] == "2 trainings of 256 environment steps"
    assert facts["trained"].startswith("2,048 environment steps,")  # 4 trials * 2 * 256
    tags = [run.data.tags for run in report.records.runs]
    assert len(tags) == 5
    head, training, *others = parts
    assert head == ["part of trials", "seconds", "share"]
    for part, (name, seconds, _) in zip(TimePart, others, strict=True):
        recorded = sum(float(tag[f"sweeps.seconds.{part}"]) for tag in tags)
        assert (name, seconds) == (part, f"{recorded:.1f}")
    whole = sum(float(tag["sweeps.seconds"]) for tag in tags)
    rest = whole - sum(float(tag[f"sweeps.seconds.{part}"]) for tag in tags for part in TimePart)
    assert training == ["training", f"{rest:.1f}", f"{rest / whole:.1%}"]


def test_a_large_sweep_reads_its_newest_runs_and_searches_the_others(
    swept: Sweep, report: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, oldest = swept.store.runs(), report.records.runs[-1].info.run_id
    torch_version = report.records.parent.data.tags["version.torch"]
    searched = counted_calls(monkeypatch, MlflowClient, "search_runs")
    assert len(read_records(swept.store, "tiny").runs) == 5
    assert len(searched) == 1
    monkeypatch.setattr(analysis.report.records, "NEWEST", 2)
    searched.clear()
    large = read_records(swept.store, "tiny")
    assert [run.info.run_id for run in large.runs] == [
        run.info.run_id for run in report.records.runs[:2]
    ]
    assert len(searched) == 1
    assert "Of the newest 2 trials." in budget_part(large)
    assert large.values_of("version.torch") == [torch_version]
    assert len(searched) == 2
    client.set_tag(oldest, "version.torch", "0.0")
    try:
        assert large.values_of("version.torch") == ["0.0", torch_version]
        client.set_tag(oldest, "version.torch", "it's")  # nothing that a query can hold
        assert large.values_of("version.torch") == sorted(["it's", torch_version])
    finally:
        client.set_tag(oldest, "version.torch", torch_version)
    assert large.values_of("no.such") == []


def test_a_report_reads_each_kind_of_record_once(
    swept: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many trials there are: with one run per page more pages, and no other calls."""
    called = {
        name: counted_calls(monkeypatch, owner, name)
        for owner, name in (
            (MlflowClient, "search_runs"),
            (MlflowClient, "get_run"),
            (MlflowClient, "get_metric_history"),
            (analysis.load, "histories"),
        )
    }
    without_flights = {k: v for k, v in SECTIONS.items() if k != "Flights"}  # three, at most
    monkeypatch.setattr(analysis.report.report, "SECTIONS", without_flights)
    compose(read_records(swept.store, "tiny"))
    counts = {name: len(calls) for name, calls in called.items()}
    # the sweep's, the published and, if there is one, the confirmation's
    assert counts.pop("get_run") in (2, 3)
    # a page; a curve per training seed
    assert counts == {"search_runs": 1, "get_metric_history": 0, "histories": 2}


def counted_calls(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[None]:
    """An entry per call of a function or method from now on."""
    calls: list[None] = []
    function: Callable[..., Any] = getattr(owner, name)

    def call(*arguments: object, **named: object) -> Any:
        calls.append(None)
        return function(*arguments, **named)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_seeds_are_told_as_they_are(report: Written) -> None:
    facts = dict(report.page.tables["Seeds"][0])
    assert facts["checkpoints, which prune: resets"] == "1000000..1000000"
    assert facts["the score of a trial: resets"] == "2000000..2000001"
    assert facts["its episodes under choice seeds: resets"] == "6000000..6000099"
    assert facts["its episodes under report seeds: resets"] == "4000000..4000099"
    best = report.records.best
    assert best is not None
    run = report.records.sweep.store.runs().get_run(best.user_attrs[RUN_ID])
    assert facts[f"training of the best, trial {best.number}"] == run.data.tags["seeds.training"]


def test_the_best_trials_are_in_order_with_their_intervals(report: Written) -> None:
    head, *lines = report.page.tables["Best trials"][0]
    assert head[:2] == ["trial", "score"]
    finished = [t for t in report.records.trials.all if t.state == TrialState.COMPLETE]
    finished.sort(key=lambda trial: -trial.values[0])
    assert [line[:2] for line in lines] == [
        [str(trial.number), str(mean_estimate(seed_scores(trial)))] for trial in finished
    ]


def test_all_flights_on_the_sheet_share_a_seed_and_return_the_record(
    report: Written,
) -> None:
    text = " ".join(report.page.text["Flights"].split())
    assert "One episode, reset seed 2000000, on one clock, in real time;" in text
    shown = [pilot.role for pilot in pilots(report.records)]
    assert shown[-1].startswith("best policy")
    assert (
        f"Flown anew from the recorded weights, all final episodes of {', '.join(shown)} returned "
        "what is recorded, to the last bit." in text
    )


def test_the_sheet_shows_the_defaults_and_the_best_policy_once(report: Written) -> None:
    records, policy = report.records, report.records.policy
    assert policy is not None
    base = records.base
    assert base is not None
    assert base.number == 0
    own = Pilot("best policy", records.sweep, records.trials.all[policy.trial], policy.training)
    if policy.trial == 0:
        assert list(pilots(records)) == [replace(own, role="best policy, the defaults")]
    else:
        assert list(pilots(records)) == [Pilot("defaults", records.sweep, base), own]
    other = next(one.trial for one in records.ranked if one.trial.number != 0)
    before = replace(records, policy=None, ranked=[r for r in records.ranked if r.trial == other])
    assert list(pilots(before)) == [Pilot("best", records.sweep, other)]


def test_once_a_winner_is_confirmed_the_finalists_median_trainings_fly(
    swept: Sweep, confirmed: Written
) -> None:
    judgement, won = confirmed.records.judgement, Estimate(0.9, 0.8, 0.99)
    assert judgement is not None
    assert judgement.final is not None
    plain = [pilot.role for pilot in pilots(confirmed.records)]
    assert judgement.confirmed is judgement.final.rival or plain[-1].startswith("best policy")
    final = replace(judgement.final, chance=won, gain=Estimate(30.0, 10.0, 50.0))
    records = replace(confirmed.records, judgement=replace(judgement, final=final, waiting=0))
    several = list(pilots(records))
    assert [one.role for one in several] == ["defaults", f"confirmed: {final.rival.name}"]
    for pilot, finalist in zip(several, (final.base, final.rival), strict=True):
        assert pilot.sweep.study.name == "tiny@confirm"
        assert pilot.trial.user_attrs[RETURNS] == [list(finalist.median.returns)]
    (picture,) = flights_part(records)
    assert isinstance(picture, Picture)
    assert "all final episodes of defaults, confirmed: trial" in picture.caption
    assert f"reset seed {TEST_SEED}," in picture.caption


def test_where_it_was_made_comes_from_the_tags(report: Written) -> None:
    facts = dict(report.page.tables["Origin"][0])
    tags = report.records.parent.data.tags
    assert facts["torch"] == tags["version.torch"]
    assert facts["python"] == tags["version.python"]
    assert facts["workers"] == "1 at the same time, 1 processes in all, on 1 machine"
    assert "python -m sweeps run '<b>tiny'" in report.page.text["Origin"]
    assert tags["cpu.model"] not in report.html


def test_a_confirmed_sweep_shows_table_figure_and_verdict(swept: Sweep, confirmed: Written) -> None:
    judgement = judgement_of(swept.store, "tiny")
    shown = [[list(row) for row in rows] for rows in tables(judgement)]
    assert confirmed.page.tables["Confirmation"] == shown
    box = confirmed.page.text["Result"]
    assert judgement.shown is not None
    assert f"{judgement.shown.name}, return {judgement.shown.mean}" in box
    assert verdict(judgement) in box
    assert verdict(judgement) in confirmed.page.text["Confirmation"]
    assert "confirmation.svg" in confirmed.markdown
    check = confirmed.page.text["Check it and fly it"]
    assert "make reproduce STUDY=tiny@confirm TRIAL=" in check
    assert "is the policy of trial-000" in check  # the best policy stays what it is
    assert "make confirm" not in confirmed.page.text["Confirmation"]
    assert "python -m sweeps confirm --study tiny" in confirmed.page.text["Origin"]


def test_the_command_prints_both_files_and_leaves_nothing_else(
    confirmed: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = confirmed.folder
    (folder / "tiny_files" / "older.png").touch()
    store = str(folder.parent)
    assert main(["report", "--study", "tiny", "--store", store]) == 0
    assert capsys.readouterr().out == f"report: file://{folder / 'tiny.html'}\n"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("tiny.html", "tiny.md", "tiny_files")
    ]
    assert not (folder / "tiny_files" / "older.png").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("tinny", "did you mean tiny?"),
        ("tiny@confirm", "is a confirmation: it is part of the report of tiny"),
    ],
)
def test_what_has_no_report_is_one_line_and_exit_code_2(
    swept: Sweep, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    assert main(["report", "--study", name, "--store", str(swept.store.folder)]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1


def test_a_sweep_of_which_nothing_has_finished_has_a_report(swept: Sweep) -> None:
    study = read_study(changed(REPORTED, {'"tiny"': '"fresh"'}), source="fresh")
    sweep = start_sweep(study, swept.store, trials=None, command=["run", "fresh"])
    for counts, begun in (("5 waiting", False), ("1 running, 4 waiting", True)):
        if begun:
            first, storage = sweep.read_trials().all[0], swept.store.trials()
            storage.set_trial_state_values(first._trial_id, TrialState.RUNNING)
        document = compose(read_records(swept.store, "fresh"))
        by_title = document.sections
        assert "could not be" not in str(document)
        assert f"0 finished, 0 pruned, 0 failed, {counts}" in str(by_title["Result"])
        assert "No trial has finished yet" in str(by_title["Result"])
        assert by_title["Failures"] == ["None."]
        trials = by_title["All trials"][0]
        if begun:
            assert isinstance(trials, str)
            _, _, row = trials.splitlines()
            assert row.startswith("| 0 | running |  | 0% |")
        else:
            assert trials == "No trial has begun."
        assert not list(document.pictures)


def test_a_policy_that_is_missing_is_said_and_the_others_fly(report: Written) -> None:
    records, policy = report.records, report.records.policy
    assert policy is not None
    *others, role = [pilot.role for pilot in pilots(records)]
    run = records.sweep.store.runs().get_run(policy.run_id)
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    for weights in artifacts.glob("seed_*/policy.pt"):
        weights.rename(weights.with_suffix(".gone"))
    try:
        *pictures, said = flights_part(records)
    finally:
        for weights in artifacts.glob("seed_*/policy.gone"):
            weights.rename(weights.with_suffix(".pt"))
    for picture in pictures:
        assert isinstance(picture, Picture)
        assert picture.alt == "The same episode flown by " + ", ".join(["random actions", *others])
    assert len(pictures) == len(others)  # at random alone is no comparison
    assert isinstance(said, str)
    assert said.startswith(f"{role}, trial {policy.trial}, could not be flown: ")
    assert "policy.pt" in said


def test_a_part_that_fails_says_so_in_its_place(
    report: Written, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(records: Records) -> list[Block]:
        raise KeyError("torn")

    def whole(records: Records) -> list[Block]:
        return ["whole"]

    monkeypatch.setattr(analysis.report.report, "SECTIONS", {"A": (broken, whole), "B": (whole,)})
    first, second = compose(report.records).sections.values()
    assert first == ["This part could not be made: KeyError: 'torn'", "whole"]
    assert second == ["whole"]
    assert "report: broken: 'torn'" in capsys.readouterr().err


def best_with(records: Records, returns: list[list[float]]) -> tuple[Records, FrozenTrial]:
    """The records of a sweep whose best trial, the only one, has other returns."""
    first = records.ranked[0]
    trial = deepcopy(first.trial)
    trial.user_attrs[RETURNS] = returns
    del trial.user_attrs[SEED_SCORES]  # as in a record that is older than these
    ranked = [first._replace(trial=trial)]
    return replace(records, trials=Trials([trial], 1), ranked=ranked), trial


def test_without_recorded_returns_a_score_has_no_interval(report: Written) -> None:
    older, best = best_with(report.records, [])
    assert str(older.estimate(best)) == f"{best.values[0]:.1f}"
    assert older.episodes(best) is None
    part = str(result_part(older))
    assert f"Best: trial {best.number}, score {best.values[0]:.1f}**" in part
    assert "training, which" not in part


def test_a_single_training_has_the_interval_of_its_episodes_only(report: Written) -> None:
    single, best = best_with(report.records, [[1.0, 3.0]])
    assert str(single.estimate(best)) == f"{best.values[0]:.1f}"
    # Student's t at 0.975 with one degree of freedom is 12.706, the standard error is 1
    assert str(single.episodes(best)) == "2.0 [-10.7, 14.7]"
    assert "of that one policy: 2.0 [-10.7, 14.7], mean and its 95 %" in str(result_part(single))


def test_several_trainings_have_an_interval_over_them(report: Written) -> None:
    several, best = best_with(report.records, [[0.0, 2.0], [3.0, 3.0]])
    assert str(several.estimate(best)) == "2.0 [-10.7, 14.7]"
    assert several.episodes(best) is None
    assert str(several.summary(best)) == "2.0 [-10.7, 14.7]"
    assert "Mean over its 2 trainings, in brackets the 95 % interval." in str(result_part(several))


def test_trials_of_equal_parameters_are_trainings_of_one_configuration(report: Written) -> None:
    alone, best = best_with(report.records, [[0.0, 2.0]])
    assert str(alone.summary(best)) == "1.0 [-11.7, 13.7]"
    again = deepcopy(best)
    again.number, again.user_attrs[RETURNS] = best.number + 1, [[3.0, 3.0]]
    both = replace(alone, trials=Trials([best, again], 2))
    assert str(both.summary(best)) == str(both.summary(again)) == "2.0 [-10.7, 14.7]"


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("ppo.learning_rate", {"low": 3e-4, "high": 1e-2, "log": True}, ("0.0003 to 0.01", "log")),
        ("ppo.clip_range", {"low": 0.05, "high": 0.4}, ("0.05 to 0.4", "linear")),
        (
            "ppo.gae_lambda",
            {"low": 0.9, "high": 0.999, "one_minus_log": True},
            ("0.9 to 0.999", "log distance to 1"),
        ),
        ("ppo.update_epochs", {"low": 2, "high": 12}, ("2 to 12", "whole numbers")),
        (
            "ppo.update_epochs",
            {"low": 2, "high": 12, "step": 5},
            ("2 to 12", "whole numbers by 5"),
        ),
        (
            "ppo.rollout_steps",
            {"low": 1, "high": 64, "log": True},
            ("1 to 64", "whole numbers, log"),
        ),
        ("env.bins", {"choices": [3, 5]}, ("3, 5", "choices")),
        ("policy.squash", {"choices": [True, False]}, ("True, False", "choices")),
    ],
)
def test_a_range_in_words(name: str, spec: object, words: tuple[str, str]) -> None:
    assert searched(read_range(name, spec)) == words


def test_time_that_several_trials_share_counts_once() -> None:
    def at(minute: int) -> datetime:
        return datetime(2026, 1, 1, 12, minute, tzinfo=UTC)

    # 0..10 with 2..3 and 5..12 inside or across it, a pause, 20..21 twice
    spans = [(at(5), at(12)), (at(0), at(10)), (at(2), at(3)), (at(20), at(21)), (at(20), at(21))]
    assert covered(spans) == 13 * 60


@pytest.mark.parametrize(
    ("text", "page", "markdown"),
    [
        ("a < b & c", "a &lt; b &amp; c", r"a \< b \& c"),
        ("use `ppo.clip_range`", "use <code>ppo.<wbr>clip_<wbr>range</code>", None),
        ("`<b>`", "<code>&lt;b&gt;</code>", "`<b>`"),
        ("one ` only", "one ` only", r"one \` only"),
        ("two\n lines", "two lines", "two lines"),
        ("[x](y) *z* _u_ ~~v~~", "[x](y) *z* _u_ ~~v~~", r"[x]\(y) \*z\* \_u\_ \~\~v\~\~"),
        ("12.0 [1.0, 2.0]", "12.0 [1.0, 2.0]", "12.0 [1.0, 2.0]"),
    ],
)
def test_text_is_escaped_for_both_forms(text: str, page: str, markdown: str | None) -> None:
    assert html(line(text)) == f"<p>{page}</p>\n"
    assert line(text) == (text if markdown is None else markdown)


@pytest.mark.parametrize(
    "text", ["# a", "- a", "+ a", "1. a", "1) a", "> a", ">a", "---", "[x]: y", "-1.5 a", "1.5"]
)
def test_text_at_the_start_of_a_line_is_text(text: str) -> None:
    assert html(line(text)) == f"<p>{text.replace('>', '&gt;')}</p>\n"


def test_a_cell_holds_any_bar_and_any_backslash() -> None:
    cells = ["a|b", "`c|d`", r"e\|f", r"`g\|h`", r"`i\j`"]
    (rows,) = Page(html(plain_table([cells, cells]))).tables[""]
    assert rows == [["a|b", "c|d", r"e\|f", r"'g\|h'", r"i\j"]] * 2


def test_columns_of_numbers_and_intervals_are_known_as_such() -> None:
    table = plain_table(
        [
            ("name", "number", "interval", "time", "empty", "mixed"),
            ("a", "-1.5", "2.0 [1.0, 3.0]", "1:02", "", "3"),
            ("b", "", "-2.0 [-1e+03, 3.0]", "0:10", "", "not used"),
        ]
    )
    cells = re.findall(r"<t[hd]( class=\"number\")?>", html(table))
    assert [bool(kind) for kind in cells] == 3 * [False, True, True, True, False, False]


def test_as_long_as_trials_are_left_the_best_is_the_best_so_far(
    swept: Sweep, report: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    attrs = {**swept.optuna.user_attrs, BUDGET: 8}
    monkeypatch.setattr(type(swept.optuna), "user_attrs", attrs)
    (box,) = result_part(replace(report.records, trials=swept.read_trials()))
    assert isinstance(box, str)
    headline, _, state, *_ = box.splitlines()
    best = ranked(swept.read_trials().all)[0].number
    assert headline.startswith(f"> **Best so far: trial {best}, score ")
    assert state == "> 8 trials: 4 finished, 0 pruned, 1 failed, 3 waiting."


def test_a_sweep_ends_with_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, store = tmp_path / "tiny.toml", tmp_path / "store"
    file.write_text(TINY)
    monkeypatch.setattr(sweeps.commands, "added_commands", lambda: IN_SWEEPS)
    run = ["run", "--study", str(file), "--store", str(store), "--workers", "1"]
    assert sweeps.__main__.main([*run, "--no-report"]) == 0
    assert not (store / "reports").exists()
    capsys.readouterr()
    assert sweeps.__main__.main(run) == 0
    *_, last = capsys.readouterr().out.splitlines()
    page = store / "reports" / "tiny.html"
    assert last == f"report: {page.as_uri()}"
    assert page.is_file()
    sweep = open_sweep(Store(store), "tiny")
    shown = {artifact.path for artifact in sweep.store.runs().list_artifacts(sweep.run_id)}
    assert {"flights.gif", "report"} <= shown

    def torn(_: object) -> int:
        raise OSError("torn")

    broken = {"report": replace(IN_SWEEPS["report"], perform=torn)}
    monkeypatch.setattr(sweeps.commands, "added_commands", lambda: broken)
    assert sweeps.__main__.main(run) == 0
    again = f"to write it: {hint('report', store, study='tiny')}"
    said = f"sweeps: warning: the report is missing: OSError: torn; {again}\n"
    assert capsys.readouterr().err == said


def test_the_defaults_are_all_of_their_trainings_and_fly_by_the_median(report: Written) -> None:
    """A leader is trained again as a trial of its own, whose one training may have crashed."""
    records = report.records
    base = records.base
    assert base is not None
    own = mean(final_means(base))
    again = [
        create_trial(
            params=base.params,
            distributions=base.distributions,
            value=50.0,
            user_attrs={RETURNS: [[score]], SEED_SCORES: [score]},
        )
        for score in (own - 8, own + 300)
    ]
    repeated = replace(records, trials=Trials([*records.trials.all, *again], records.trials.budget))
    assert repeated.median_of_same(base) == base
    assert repeated.scores(base)[-2:] == [own - 8, own + 300]
    assert len(repeated.same(base)) == 3
