"""A small sweep with its confirmation, its report and a notebook, served as `make ui` does it."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

from analysis.notebooks import run as notebooks
from sweeps.lifecycle.start import start_sweep
from sweeps.run.worker import objective_of, run_next
from sweeps.schema import RUN_ID
from sweeps.store.store import Store
from sweeps.study.study import read_study
from sweeps.sweep import open_sweep
from tests.browser.__main__ import chromium
from tests.processes import free_port, python, starting
from tests.studies import SHOWN

FAILURES: Final = Path(__file__).parent / "failures"
"""Screenshots of pages at which a test failed."""
PATIENCE: Final = 120_000.0
"""Milliseconds until something counts as missing on a page."""
UNSERVED: Final = ("/mlflow/users/current", "/assistant/config", "/assistant/providers")
"""What MLflow's own pages ask for in vain: under WSGI it has neither users nor an Assistant."""


@dataclass(frozen=True)
class Served:
    """A store, and the server that shows it."""

    store: Store
    address: str
    links: list[str]
    """The lines that `sweeps ui` printed."""
    page: str
    """The address of the report, as `sweeps confirm` printed it."""

    def run_of(self, number: int, *, study: str = "shown") -> str:
        """The MLflow run of a trial."""
        return str(open_sweep(self.store, study).read_trials().all[number].user_attrs[RUN_ID])


def ran(*words: str) -> str:
    """What a command prints that ends well."""
    done = python("-m", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    """Its first trial was interrupted and tried again."""
    folder = tmp_path_factory.mktemp("shown")
    file, store = folder / "shown.toml", Store(folder / "store")
    file.write_text(SHOWN)
    study = read_study(SHOWN, source="shown.toml")
    sweep = start_sweep(study, store, trials=None, command=["run"])
    with pytest.raises(KeyboardInterrupt):
        run_next(sweep.optuna, objective_of(sweep, check=interrupt))
    options = ["--store", str(store.folder)]
    ran("sweeps", "run", "--study", str(file), *options)
    options += ["--study", "shown"]
    said = ran("sweeps", "confirm", "--top", "1", "--trainings", "4", *options)
    with pytest.MonkeyPatch.context() as patch:
        first = notebooks.notebook_paths()[:1]  # all of them take minutes
        patch.setattr(notebooks, "notebook_paths", lambda: first)
        assert notebooks.notebooks(Namespace(store=store.folder, study="shown", markdown=None)) == 0
    with starting() as start:
        port, links = free_port(), list[str]()
        process = start("sweeps", "ui", *options[:2], "--port", str(port))
        assert process.stdout is not None
        for line in process.stdout:
            links.append(line.strip())
            if "Ctrl-C" in line:
                break
        page = said.splitlines()[-1].removeprefix("report: ")
        yield Served(store, f"http://127.0.0.1:{port}", links, page)


@pytest.fixture(scope="session")
def browser(served: Served) -> Generator[Browser]:
    """It starts after all of that: no other loop of this thread may run beside its own."""
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        options = ["--disable-background-networking", "--disable-component-update", *root]
        running = playwright.chromium.launch(executable_path=chromium(), args=options)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Generator[Page]:
    """A window that asks nobody else for anything and reports no error while a test looks."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, base_url=served.address)
    context.set_default_timeout(PATIENCE)
    elsewhere, errors = list[str](), list[str]()

    def note(request: Request) -> None:
        if not request.url.startswith((f"{served.address}/", "data:", "blob:", "file:")):
            elsewhere.append(request.url)

    context.on("request", note)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on(
        "console",
        lambda message: (
            errors.append(f"{message.text} {message.location['url']}")
            if message.type == "error" and not message.location["url"].endswith(UNSERVED)
            else None
        ),
    )
    yield context.new_page()
    context.close()
    assert (elsewhere, errors) == ([], [])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep a picture of the page at which a test fails."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.failed and page is not None and not page.is_closed():
        FAILURES.mkdir(exist_ok=True)
        page.screenshot(path=FAILURES / f"{item.name}.png")
    return report
