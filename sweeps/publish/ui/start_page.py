"""The first page of a store: its sweeps, and links to everything that shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import optuna
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lander.errors import ConfigError
from sweeps.hints import hint, with_extra
from sweeps.publish.notes import artifact_address
from sweeps.publish.page import experiment_path, run_path, server_of
from sweeps.publish.ui.dashboard import study_path
from sweeps.publish.ui.files import notebook_pages, report_page
from sweeps.publish.view import FIELDS
from sweeps.schema import BEST_GIF, CONFIRM_SUFFIX, CONFIRMATION, EXPERIMENT_ID, RUN_ID
from sweeps.status import parts, summary
from sweeps.store.best_policy import recorded_policy
from sweeps.store.store import Store

START: Final = "/start"
ALL_EXPERIMENTS: Final = "/#/experiments?workflowType=machine_learning"
ASSISTANT_SEEN: Final = "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"
"""Where MLflow's UI keeps that its Assistant has opened by itself, which it does once, over a
quarter of the window."""
TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Link:
    """A link of the page, or without an address the command that makes what it would lead to."""

    text: str
    address: str = ""
    command: str = ""


@dataclass(frozen=True)
class Card:
    """A sweep on the page."""

    name: str
    lines: list[str]
    """How far it is, and what is best."""
    links: list[Link] = field(default_factory=list)
    picture: str = ""
    """The address of a landing of its best policy."""


def start_page(store: Store, *, dashboard: bool) -> str:
    """The page, of what is in the store now; `dashboard`: Optuna's is served beside it."""
    names = [name for name in store.study_names() if not name.endswith(CONFIRM_SUFFIX)]
    pages = [Link(f"Notebook {name}", address) for name, address in notebook_pages(store)]
    trials = "/dashboard" if dashboard else ""
    return TEMPLATES.get_template("start.html.j2").render(
        cards=[card(store, name, dashboard=dashboard) for name in names],
        notebooks=pages or [Link("Notebooks", command=hint("notebooks", store.folder))],
        tools=[
            Link("MLflow", server_of(store) + ALL_EXPERIMENTS),
            Link("Optuna's dashboard", trials, command=with_extra("dashboard")),
        ],
        assistant_seen=ASSISTANT_SEEN,
    )


def card(store: Store, name: str, *, dashboard: bool) -> Card:
    """What the page says of a sweep."""
    try:
        study = store.load_study(name)
    except ConfigError as error:
        return Card(name, [str(error)])
    links = list(links_of(store, study, dashboard=dashboard))
    picture = ""
    if recorded_policy(study) is not None and not store.tracked_remotely:
        picture = "/" + artifact_address(str(study.user_attrs[RUN_ID]), BEST_GIF)
    verdict = study.user_attrs.get(CONFIRMATION)
    lines = [*parts(summary(study)), *([] if verdict is None else [str(verdict)])]
    return Card(name, lines, links, picture)


def links_of(store: Store, study: optuna.Study, *, dashboard: bool) -> Iterator[Link]:
    """Where to look at a sweep."""
    name, server = study.study_name, server_of(store)
    command = hint("report", store.folder, study=name)
    yield Link("Report", report_page(store, name), command=command)
    experiment = str(study.user_attrs.get(EXPERIMENT_ID, ""))
    if experiment:  # else its creation was interrupted, and it has no page
        yield Link("Runs", server + experiment_path(experiment))
        yield Link("Curves", server + experiment_path(experiment, charts=True))
        yield Link("Fields", server + experiment_path(experiment, view=FIELDS, charts=True))
    if name + CONFIRM_SUFFIX in store.study_names():
        run_id = store.load_study(name + CONFIRM_SUFFIX).user_attrs.get(RUN_ID)
        if run_id is not None:
            yield Link("Confirmation", server + run_path(experiment, str(run_id)))
    if dashboard:
        yield Link("Trials", study_path(store, name))


def runs_page(store: Store, name: str) -> str | None:
    """A page that goes on to the run table of a sweep; None if there is none."""
    try:
        experiment = store.load_study(name).user_attrs.get(EXPERIMENT_ID)
    except ConfigError:
        return None
    if experiment is None:
        return None
    return TEMPLATES.get_template("runs.html.j2").render(
        name=name, address=experiment_path(str(experiment)), assistant_seen=ASSISTANT_SEEN
    )
