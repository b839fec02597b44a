"""python -m analysis notebooks: run every notebook against a store, write each as an HTML page."""

from __future__ import annotations

import argparse
import ast
import asyncio
import json
import os
import re
import shutil
import signal
import sys
import time
from base64 import b64decode
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from markupsafe import Markup
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter, MarkdownExporter
from nbformat import NotebookNode
from PIL import Image

from lander.errors import ConfigError
from lander.files import inside, replace_text
from lander.trust import inherited
from sweeps.lifecycle.start import start_sweep
from sweeps.publish.publish import publish
from sweeps.run.supervisor import run_trials_left
from sweeps.store.store import Store, quiet
from sweeps.study.study import find_study

HERE: Final = Path(__file__).parent
FOLDER: Final = Path("reports") / "notebooks"
"""Folder of the pages in a store."""
COLOURS: Final = 128
"""Colours of a chart on a page of the documentation."""
OPENS_THEM: Final = "`make lab` opens it for you to change"
STAND_IN: Final = "smoke"
"""The study that is swept if the store has none of the name asked for."""


class CellFailed(Exception):
    """A cell failed; the message names notebook, cell and reason."""


class ThisInterpreter(KernelSpecManager):
    """Gives every notebook a kernel of the running Python, whatever kernels Jupyter knows."""

    def get_kernel_spec(self, _kernel_name: str) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


def notebooks(args: argparse.Namespace) -> int:
    """Run all notebooks and print the page of each; the exit code."""
    quiet()
    pages, failed = inside(args.store, args.store / FOLDER), False
    if not notebook_paths():
        raise ConfigError(f"{HERE} holds no notebooks: install the package again")
    try:
        pages.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write pages to {pages}: {error.strerror}") from None
    with sweep_for(args.store, args.study) as (store, study):
        for path in notebook_paths():
            started = time.monotonic()
            try:
                notebook = executed(path, store=store, values=values_of(store, study))
            except CellFailed as error:
                print(f"analysis: {error}", file=sys.stderr, flush=True)
                failed = True
                continue
            page = pages / f"{path.stem}.html"
            replace_text(page, as_html(notebook, study=study))
            if args.markdown is not None:
                write_markdown(path, notebook, args.markdown, store=store.folder)
            print(f"{path.name}: {time.monotonic() - started:.0f} s, {page}", flush=True)
    return 1 if failed else 0


def notebook_paths() -> Sequence[Path]:
    """The notebooks by their numbers."""
    return sorted(HERE.glob("[0-9]*.ipynb"))


@contextmanager
def sweep_for(folder: Path, study: str) -> Generator[tuple[Store, str]]:
    """The store and study asked for; if the study is missing, `STAND_IN`, swept into a temporary
    store."""
    store = Store(folder)
    names = store.study_names()
    if study in names:
        yield store, study
        return
    studies = f"it holds {', '.join(names)}" if names else "it holds none"
    print(
        f"no study {study} in {folder}, {studies}: the notebooks show study {STAND_IN} instead, "
        "swept into a temporary store",
        flush=True,
    )
    with TemporaryDirectory() as temporary:
        store = Store(Path(temporary))
        sweep = start_sweep(find_study(STAND_IN), store, trials=None, command=["notebooks"])
        if not run_trials_left(sweep, workers=None):
            raise KeyboardInterrupt
        publish(sweep)
        yield store, STAND_IN


def values_of(store: Store, study: str) -> dict[str, object]:
    """What the first cell of a notebook sets."""
    return {"STORE": str(store.folder), "STUDY": study}


def executed(path: Path, *, store: Store, values: Mapping[str, object]) -> NotebookNode:
    """A notebook with its outputs, run from top to bottom in the current folder with these values
    in its first cell; the file stays unchanged.

    Raises:
        CellFailed: at the first cell that fails.
        KeyboardInterrupt: after its kernel has been shut down.
    """
    read: Any = nbformat.read  # not typed
    notebook: NotebookNode = read(path, as_version=4)
    first = first_code(notebook)
    first.source = with_values(first.source, values)
    begun: list[int] = []
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(
                kernel_spec_manager=ThisInterpreter(),
                transport="ipc",  # files of this user, no port that others could listen at
                connection_file=str(Path(folder) / "kernel.json"),
            ),
            timeout=None,
            coalesce_streams=True,  # printed lines stay together
            resources={"metadata": {"path": str(Path.cwd())}},
            on_cell_start=lambda **event: begun.append(event["cell_index"]),
        )
        paths = [str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environ = os.environ | {
            **inherited(store.origin),
            "PYTHONPATH": os.pathsep.join(paths),  # importable without an installation
            "IPYTHONDIR": folder,  # no start-up files, no history
            # no warnings about an unused debugger and progress bar
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "PYTHONWARNINGS": "ignore:IProgress not found",
        }
        try:
            asyncio.run(run(client, environ))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        except CellExecutionError as error:
            reason = " ".join(f"{error.ename}: {error.evalue}".split())
            raise CellFailed(f"{where(path, notebook, begun)}: {reason}") from None
        except RuntimeError as error:  # the kernel did not start, or died
            raise CellFailed(f"{where(path, notebook, begun)}: {error}") from None
    return notebook


async def run(client: NotebookClient, environ: dict[str, str]) -> None:
    """Execute all cells; Ctrl-C and SIGTERM cancel this task, which shuts the kernel down."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def handle_signals(**_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)

    # replaces nbclient's handlers, which kill the kernel and do not cancel this task
    client.on_notebook_start = handle_signals
    await client.async_execute(env=environ, cleanup_kc=True)


def first_code(notebook: NotebookNode) -> NotebookNode:
    """The first cell of code, in which a reader changes what the notebook is about."""
    cell: NotebookNode = next(cell for cell in notebook.cells if cell.cell_type == "code")
    return cell


def with_values(source: str, values: Mapping[str, object]) -> str:
    """A cell with other values of those of its constants that are named, each on a line."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in values:
            line, value = lines[node.lineno - 1], values[ast.unparse(node.targets[0])]
            before, after = line[: node.value.col_offset], line[node.value.end_col_offset :]
            lines[node.lineno - 1] = before + json.dumps(value) + after
    return "\n".join(lines)


def where(path: Path, notebook: NotebookNode, begun: Sequence[int]) -> str:
    """The last cell that was begun, for people: its number among code cells, and its section."""
    if not begun:
        return path.name
    cells = notebook.cells[: begun[-1] + 1]
    number = sum(cell.cell_type == "code" for cell in cells)
    titles = [title for cell in cells for title in headings(cell)]
    return f"{path.name}, cell {number}" + (f' under "{titles[-1]}"' if titles else "")


def headings(cell: NotebookNode) -> list[str]:
    """The headings of a text cell, without their marks."""
    if cell.cell_type != "markdown":
        return []
    lines = cell.source.splitlines()
    return [line.lstrip("# ") for line in lines if line.startswith("#")]


def as_html(notebook: NotebookNode, *, study: str) -> str:
    """An executed notebook as one page that loads nothing and runs nothing."""
    make: Any = HTMLExporter  # not typed
    exporter = make(
        template_name="basic",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
    )
    body, resources = exporter.from_notebook_node(notebook)
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined
    )
    titles = [title for cell in notebook.cells for title in headings(cell)]
    return environment.get_template("notebook.html.j2").render(
        title=titles[0] if titles else "",
        body=Markup(body),
        colours=Markup("\n".join(resources["inlining"]["css"])),
        origin=f"Study {study}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
    )


def write_markdown(path: Path, notebook: NotebookNode, folder: Path, *, store: Path) -> None:
    """Write an executed notebook as a page of the documentation: NAME.md, and its pictures in the
    folder NAME. It names no folder of this machine: code is that of the file, and commands in it
    name the store without its path."""
    read: Any = nbformat.read  # not typed
    first_code(notebook).source = first_code(read(path, as_version=4)).source
    make: Any = MarkdownExporter  # not typed
    pictures = folder / path.stem
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    text, resources = make().from_notebook_node(
        notebook, {"unique_key": "picture", "output_files_dir": path.stem}
    )
    for name, data in resources["outputs"].items():
        with_palette(data, folder / name)
    for spelling in (store.resolve(), store):
        text = text.replace(str(spelling), spelling.name)
    films = count(1)

    def filed(picture: re.Match[str]) -> str:
        name = f"{path.stem}/flight_{next(films)}.gif"
        (folder / name).write_bytes(b64decode(picture[1]))
        return f"![A flight]({name})"

    def titled(picture: re.Match[str]) -> str:
        cells = notebook.cells[: int(picture[1])]
        titles = [title for cell in cells for title in headings(cell)]
        return f"![{titles[-1]}]"

    text = re.sub(r'<img alt="a flight" src="data:image/gif;base64,([^"]+)">', filed, text)
    text = re.sub(r"!\[png\](?=\([^)]*_(\d+)_\d+\.png\))", titled, text)
    text = re.sub(r"<style scoped>.*?</style>\n", "", text, flags=re.DOTALL)
    text = text.replace('<table border="1" class="dataframe">', "<table>")
    lines = [*map(str.rstrip, text.splitlines()), "", f"*{path.name} as it ran; {OPENS_THEM}.*"]
    replace_text(folder / f"{path.stem}.md", "\n".join(lines) + "\n")


def with_palette(png: bytes, path: Path) -> None:
    """Write a chart with the few colours that it has, in a quarter of the bytes."""
    with Image.open(BytesIO(png)) as picture:
        picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)
