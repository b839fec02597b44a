"""The site is built without a warning, leads nowhere wrong, and fetches nothing from elsewhere."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import Abort
from pymdownx.slugs import slugify

from docgen.hooks import on_post_build
from docgen.links import links
from docgen.site import problems
from tests.processes import ROOT


def config_for(folder: Path) -> MkDocsConfig:
    return load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this checkout."""
    folder = tmp_path_factory.mktemp("site")
    config = config_for(folder)
    config.plugins.run_event("startup", command="build", dirty=False)
    build(config)
    return folder


def test_the_site_of_this_checkout_has_nothing_wrong(site: Path) -> None:
    assert list(problems(site)) == []


def test_a_warning_ends_the_build(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    checks = config.validation
    assert config.strict
    assert [checks.nav.omitted_files, checks.nav.not_found] == [logging.WARNING] * 2
    assert [checks.links.not_found, checks.links.anchors] == [logging.WARNING] * 2
    assert [checks.links.absolute_links, checks.links.unrecognized_links] == [logging.WARNING] * 2


def test_the_code_behind_a_link_is_a_page_with_its_lines(site: Path) -> None:
    page = (site / "source" / "lander" / "agent.py.html").read_text()
    assert "source/lander/agent.py" not in (site / "search" / "search_index.json").read_text()
    assert "def</span>" in page
    assert 'name="__codelineno-0-1"' in page
    assert 'href="source/lander/agent.py.html' in (site / "algorithm.html").read_text()


def test_pages_of_the_top_level_are_in_the_site_once(site: Path) -> None:
    assert "<h1" in (site / "contributing.html").read_text()
    assert "0.2.0" in (site / "changelog.html").read_text()
    assert not (ROOT / "docs" / "contributing.md").exists()
    assert not (ROOT / "docs" / "changelog.md").exists()


def test_the_reference_is_in_the_site_and_no_file(site: Path) -> None:
    assert 'id="ppo.clip_range"' in (site / "reference" / "ppo.html").read_text()
    assert not (ROOT / "docs" / "reference").exists()


GOOD = '<h1 id="top">a</h1><a href="#top">b</a><a href="https://elsewhere.org">c</a>'


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="no.html">', "a.html links to no.html"),
        ('<a href="b.html#no">', "a.html links to b.html#no"),
        ('<a href="#no">', "a.html links to #no"),
        ('<img src="no.png">', "a.html links to no.png"),
        ('<script src="https://cdn.org/a.js">', "a.html fetches https://cdn.org/a.js"),
        ('<link rel="stylesheet" href="//cdn.org/a.css">', "a.html fetches //cdn.org/a.css"),
        ('<img src="https://cdn.org/a.png">', "a.html fetches https://cdn.org/a.png"),
        ('<pre class="mermaid">', "a.html fetches the script that draws mermaid"),
    ],
)
def test_a_wrong_link_of_a_page_is_named(tmp_path: Path, html: str, problem: str) -> None:
    (tmp_path / "b.html").write_text(GOOD + '<link rel="canonical" href="http://a.org/b.html">')
    (tmp_path / "a.html").write_text(GOOD + '<a href="b.html#top">d</a>')
    assert list(problems(tmp_path)) == []
    (tmp_path / "a.html").write_text(GOOD + html)
    assert list(problems(tmp_path)) == [problem]
    with pytest.raises(Abort, match=re.escape(problem)):
        on_post_build(config_for(tmp_path))


def test_a_style_that_fetches_a_font_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url(https://fonts.org/a.woff2) } url(b.png)")
    assert list(problems(tmp_path)) == ["a.css fetches https://fonts.org/a.woff2"]


def dead_links(path: Path) -> list[str]:
    """The links of a document that lead to no file, or to no heading of one."""
    return [link for link in links(path.read_text()) if "://" not in link and not leads(path, link)]


def leads(path: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = path.parent / name if name else path
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(path: Path) -> set[str]:
    """The anchors that a viewer of repositories gives to the headings of a document."""
    headings = re.findall(r"^#+ +(.+?) *$", path.read_text(), re.M)
    return {slugify(case="lower")(heading, "-") for heading in headings}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_link_of_a_document_leads_somewhere(name: str) -> None:
    assert dead_links(ROOT / name) == []


def test_every_link_of_a_page_leads_somewhere_in_the_tree_too() -> None:
    """But for the reference, which is no file."""
    pages = (ROOT / "docs").rglob("*.md")
    dead = [(page.name, link) for page in pages for link in dead_links(page)]
    assert [each for each in dead if not each[1].startswith(("reference/", "../reference/"))] == []


def test_a_dead_link_of_a_document_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("# It *is*, here\n[a](#it-is-here) [b](no.md) [c](#no) [d](a.md#no) `[e](no)`")
    assert dead_links(path) == ["no.md", "#no", "a.md#no"]
