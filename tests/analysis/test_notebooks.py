"""Every notebook is stored without outputs, runs to its end, and gives a page that stands alone."""

from __future__ import annotations

import re
from base64 import b64decode
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import nbformat
import pytest

import analysis.notebooks.run
from analysis.__main__ import main
from analysis.notebooks.run import (
    CellFailed,
    as_html,
    executed,
    notebook_paths,
    values_of,
    where,
    with_values,
)
from lander.dotted import read_text
from sweeps.store.store import Store
from tests.processes import ROOT, python_m

FEW_STEPS = 512
PICTURES = {
    "00_start": 3,
    "01_sweep": 9,
    "02_trials": 4,
    "03_actions": 5,
    "04_pilot": 7,
    "05_ladder": 10,
    "06_luck": 2,
}
"""At least so many in each page."""
DOCUMENTED = ROOT / "docs" / "notebooks"
LOCAL = re.compile(r"(?<![\w.])/(?:home|root|tmp|Users|work|private|var)/|file:/")
"""A path of one machine."""


class Page(HTMLParser):
    """All that a page shows, loads and runs."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.words: list[str] = []
        self.is_style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.is_style = tag == "style"
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} runs {value}"
            if name == "src":
                self.pictures.append(value or "")
            elif name == "href" and tag != "a":
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.is_style = False

    def handle_data(self, data: str) -> None:
        if not self.is_style:
            self.words.append(data)


def read(path: Path) -> Any:
    """A notebook file."""
    function: Any = nbformat.read  # not typed
    return function(path, as_version=4)


@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_a_notebook_is_stored_valid_and_without_outputs(path: Path) -> None:
    notebook = read(path)
    check: Any = nbformat.validate  # not typed
    check(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert not LOCAL.search(read_text(path))


def test_the_first_cell_of_a_notebook_names_store_and_study() -> None:
    for path in notebook_paths()[:-2]:  # the ladder and the A/A study read no sweep
        first = next(cell for cell in read(path).cells if cell.cell_type == "code")
        store, study, *_ = first.source.splitlines()
        assert store.startswith('STORE = "../../mlruns"')
        assert study.startswith('STUDY = "lander"')


def test_only_the_values_of_named_constants_are_replaced() -> None:
    source = 'STORE = "a"  # where, STORE\nSTUDY, OTHER = "b", 1\nSTEPS = 4_096\nprint(STORE)'
    values = {"STORE": 'a "new" one', "STUDY": "c", "STEPS": 1}
    assert with_values(source, values) == (
        'STORE = "a \\"new\\" one"  # where, STORE\nSTUDY, OTHER = "b", 1\nSTEPS = 1\nprint(STORE)'
    )


@pytest.mark.parametrize("name", PICTURES)
def test_the_documentation_has_a_page_of_each_notebook_with_its_code(name: str) -> None:
    check_documented(DOCUMENTED, name)


def check_documented(folder: Path, name: str) -> None:
    """That a Markdown page is of this notebook as it is, shows its pictures, and can be shared."""
    text = read_text(folder / f"{name}.md")
    (path,) = (path for path in notebook_paths() if path.stem == name)
    coded = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    assert re.findall(r"^```python\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE) == coded
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(shown) >= PICTURES[name]
    assert sorted(shown) == sorted(
        str(picture.relative_to(folder)) for picture in (folder / name).iterdir()
    )
    assert not LOCAL.search(text)
    assert "data:image" not in text


def test_the_pages_of_the_documentation_are_small() -> None:
    assert sum(path.stat().st_size for path in DOCUMENTED.rglob("*.*")) < 2_000_000


def test_all_seven_are_there() -> None:
    assert [path.stem for path in notebook_paths()] == list(PICTURES)


@pytest.fixture(scope="module")
def pages(mini: Store) -> Path:
    """`make notebooks` on the miniature sweep."""
    out, error = StringIO(), StringIO()

    def values(store: Store, study: str) -> dict[str, object]:
        return {**values_of(store, study), "STEPS": FEW_STEPS}

    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(out),
        redirect_stderr(error),
    ):
        patch.setattr(analysis.notebooks.run, "values_of", values)
        command = ["notebooks", "--study", "mini", "--store", str(mini.folder)]
        code = main([*command, "--markdown", str(mini.folder / "markdown")])
    assert (code, error.getvalue()) == (0, ""), out.getvalue()
    return mini.folder / "reports" / "notebooks"


@pytest.mark.parametrize("name", PICTURES)
def test_a_page_shows_pictures_and_loads_and_runs_nothing(pages: Path, name: str) -> None:
    html = read_text(pages / f"{name}.html")
    page = Page(html)
    assert page.tags.isdisjoint({"script", "iframe", "object", "embed"})
    assert page.links == ["data:,"]  # an empty icon: nothing is asked for
    assert len(page.pictures) >= PICTURES[name]
    for picture in page.pictures:
        head, _, data = picture.partition(";base64,")
        assert head in {"data:image/png", "data:image/gif"}
        assert b64decode(data).startswith((b"\x89PNG", b"GIF8"))
    assert not re.search(r"url\(|@import", html)
    assert "Traceback" not in " ".join(page.words)


@pytest.mark.parametrize("name", PICTURES)
def test_under_every_question_stands_an_answer(pages: Path, name: str) -> None:
    """A cell of code shows something, or the page would go from a question to the next one."""
    cells = read_text(pages / f"{name}.html").split('<div class="cell border-box-sizing ')
    coded = [cell for cell in cells if cell.startswith("code_cell")]
    silent = [cell for cell in coded if "output_subarea" not in cell]
    assert coded
    assert len(silent) <= 3  # imports, values, a sweep that exists
    names = re.compile("import|STORE|STEPS|TRIALS")
    assert all(names.search(cell) for cell in silent)


@pytest.mark.parametrize("name", PICTURES)
def test_a_page_in_markdown_has_the_code_of_the_file(pages: Path, name: str) -> None:
    folder = pages.parents[1] / "markdown"
    check_documented(folder, name)
    assert str(folder.parent) not in read_text(folder / f"{name}.md")


def test_a_failing_cell_is_named_and_costs_only_its_notebook(tmp_path: Path) -> None:
    make: Any = nbformat.v4
    path = tmp_path / "06_broken.ipynb"
    cells = [
        make.new_markdown_cell("# Broken"),
        make.new_code_cell("print(1)"),
        make.new_markdown_cell("## Where?"),
        make.new_code_cell("1 / 0"),
    ]
    write: Any = nbformat.write
    write(make.new_notebook(cells=cells), path)
    message = r'^06_broken.ipynb, cell 2 under "Where\?": ZeroDivisionError: division by zero$'
    with pytest.raises(CellFailed, match=message):
        executed(path, store=Store(tmp_path), values={})
    notebook = read(path)
    assert where(path, notebook, [1]) == '06_broken.ipynb, cell 1 under "Broken"'
    assert where(path, notebook, []) == "06_broken.ipynb"


def test_text_in_a_notebook_cannot_run_anything(tmp_path: Path) -> None:
    make: Any = nbformat.v4
    output = make.new_output("stream", text="<script>alert(1)</script>")
    notebook = make.new_notebook(cells=[make.new_code_cell("x", outputs=[output])])
    page = as_html(notebook, study="<script>mini</script>")
    assert "script" not in Page(page).tags


def test_an_unusable_store_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    done = python_m("analysis", "notebooks", "--store", file)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
