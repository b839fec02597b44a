"""python -m analysis report: one page about a sweep, made from its records alone."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from optuna.trial import FrozenTrial

from analysis.report.cost import cost_part
from analysis.report.document import Block, Document, Mark, as_html, as_markdown
from analysis.report.figures import (
    comparison_part,
    curves_part,
    flights_part,
    history_part,
    importance_part,
    parallel_part,
    slices_part,
)
from analysis.report.health import health_part
from analysis.report.records import Records, read_records
from analysis.report.result import question, receipt_part, result_part, values_in
from analysis.report.tables import (
    best_part,
    budget_part,
    confirmation_part,
    failures_part,
    origin_part,
    seeds_part,
    space_part,
    trials_part,
)
from analysis.report.why import why_part
from lander.files import inside
from lander.options import human
from lander.terminal import say
from sweeps.endings import ending
from sweeps.hints import CHECKOUT
from sweeps.publish.markdown import line
from sweeps.schema import FLIGHTS_GIF, REPORT_FOLDER, Ending
from sweeps.scores import last_return
from sweeps.store.presence import require_recorded
from sweeps.store.store import Store, quiet
from sweeps.store.trials import collector_paused

Part = Callable[[Records], list[Block]]

SECTIONS: Final[Mapping[str, Sequence[Part]]] = {
    "Result": (result_part,),
    "Flights": (flights_part,),
    "Best against the defaults": (comparison_part, space_part),
    "History": (history_part,),
    "What mattered": (importance_part, slices_part, parallel_part),
    "Health": (health_part,),
    "What it costs": (cost_part,),
    "Why the winner wins": (why_part,),
    "Learning curves": (curves_part,),
    "Confirmation": (confirmation_part,),
    "Best trials": (best_part,),
    "Failures": (failures_part,),
    "All trials": (trials_part,),
    "Check it and fly it": (receipt_part,),
    "Seeds": (seeds_part,),
    "Budget and time": (budget_part,),
    "Origin": (origin_part,),
}
"""What people look for first stands first."""
FOLDER: Final = "reports"


def report(args: argparse.Namespace) -> int:
    """Write the report of a sweep and print the page's address; the exit code."""
    quiet()
    store = Store(args.store)
    with collector_paused():  # the records of a large sweep are many objects, and all are kept
        records = read_records(store, args.study)
        require_recorded(store, records.sweep.optuna)  # the report is an artifact of its run
        page, _ = write_report(records)
    print(f"report: {page.resolve().as_uri()}")
    return 0


def write_report(records: Records) -> list[Path]:
    """Write STUDY.html, STUDY.md and its pictures to the store's folder of reports, and log them as
    artifacts of the run; the paths of both files."""
    store, name = records.sweep.store, records.name
    folder = inside(store.folder, store.folder / FOLDER)
    folder.mkdir(exist_ok=True)
    files = f"{name}_files"
    document = compose(records)
    with TemporaryDirectory(dir=folder, prefix=f".{name}.") as temporary:
        aside = Path(temporary)
        (aside / files).mkdir()
        for picture in document.pictures:
            (aside / files / picture.file).write_bytes(picture.data)
            if picture.mp4 is not None:
                (aside / files / picture.file).with_suffix(".mp4").write_bytes(picture.mp4)
        (aside / f"{name}.html").write_text(shareable(as_html(document), records), encoding="utf-8")
        markdown = as_markdown(document, files=files)
        (aside / f"{name}.md").write_text(shareable(markdown, records), encoding="utf-8")
        with store.publication_lock:  # two commands may end a confirmation at once
            client = store.runs()
            client.log_artifacts(records.sweep.run_id, str(aside), REPORT_FOLDER)
            flights = aside / files / FLIGHTS_GIF
            if flights.is_file():  # where `figures` and the UI look for pictures
                client.log_artifact(records.sweep.run_id, str(flights))
            shutil.rmtree(folder / files, ignore_errors=True)  # no folder replaces another
            for path in sorted(aside.iterdir()):
                path.replace(folder / path.name)
    return [folder / f"{name}.html", folder / f"{name}.md"]


def shareable(text: str, records: Records) -> str:
    """Text without the paths of this machine, which recorded commands and errors may name."""
    store = records.sweep.store.folder
    names = {str(store.resolve()): str(records.shown_store), str(store): str(records.shown_store)}
    names |= {str(CHECKOUT): ".", str(Path.home()): "~"}
    for path, name in names.items():
        if len(Path(path).parts) > 1 and Path(path).is_absolute():
            text = text.replace(path, name)
    return text


def compose(records: Records) -> Document:
    """The report with every section, as far as the records allow."""
    now = datetime.now(UTC)
    sections = {
        title: [block for part in parts for block in attempted(part, records)]
        for title, parts in SECTIONS.items()
    }
    asked = question(records)
    written = f"Written {now:%Y-%m-%d %H:%M} UTC."
    return Document(f"Study {records.name}", asked, sections, written, marks_of(records))


def marks_of(records: Records) -> dict[int, Mark]:
    """What charts say about each trial: how it ended, its score and its parameters."""
    space = records.sweep.study.space
    return {
        trial.number: Mark(
            "\n".join(
                [
                    f"trial {trial.number}: {outcome(trial)}",
                    *(
                        f"{human(name)} {value}"
                        for name, value in zip(space, values_in(trial.params, space), strict=True)
                    ),
                ]
            ),
            records.run_link(trial),
        )
        for trial in records.counted
        if trial.params
    }


def outcome(trial: FrozenTrial) -> str:
    """How a trial ended, in words that do not take a checkpoint for a score."""
    value, how = last_return(trial), ending(trial)
    if value is None:
        return how
    if how in (Ending.PRUNED, Ending.EXPIRED):
        return f"{how}, {value:.1f} at its last checkpoint"
    return f"score {value:.1f}"


def attempted(part: Part, records: Records) -> list[Block]:
    """The blocks of a part, or its error: one missing file must not cost the other parts."""
    try:
        return part(records)
    except Exception as error:
        say(f"report: {part.__name__}: {error}", error=True)
        return [line(f"This part could not be made: {type(error).__name__}: {error}")]
