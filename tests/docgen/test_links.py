"""Links between pages, files of the tree and the site."""

from __future__ import annotations

from pathlib import Path

import pytest

from docgen.links import ALONE, Tree, outside_code


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A checkout with a page, a file of code, a picture and the pages of the top level."""
    files = ("docs/guide.md", "lander/agent.py", "figures/a.png", "README.md", "CHANGELOG.md")
    for name in (*files, "CONTRIBUTING.md", "docs/notebooks/00.md", "LICENSE"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}\n")
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("page", "link", "moved"),
    [
        ("guide.md", "../lander/agent.py", "source/lander/agent.py.md"),
        ("guide.md", "../LICENSE", "source/LICENSE.md"),
        ("guide.md", "../figures/a.png", "source/figures/a.png"),
        ("guide.md", "../README.md", "index.md"),
        ("guide.md", "../CHANGELOG.md", "changelog.md"),
        ("guide.md", "notebooks/00.md", "notebooks/00.md"),
        ("notebooks/00.md", "../guide.md", "../guide.md"),
        ("notebooks/00.md", "../../lander/agent.py", "../source/lander/agent.py.md"),
        ("contributing.md", "docs/guide.md", "guide.md"),
        ("contributing.md", "lander/agent.py", "source/lander/agent.py.md"),
    ],
)
def test_a_link_leads_to_what_the_file_is_in_the_site(
    tree: Tree, page: str, link: str, moved: str
) -> None:
    assert tree.redirected(page, f"[a]({link}) b") == f"[a]({moved}) b"
    assert tree.redirected(page, f"[a]({link}#L3)") == f"[a]({moved}#L3)"
    assert tree.redirected(page, f'<img src="{link}">') == f'<img src="{moved}">'


@pytest.mark.parametrize("link", ["../no.py", "../lander", "../../out.py", "https://a.b/c", "#x"])
def test_what_is_no_file_of_the_tree_is_left_as_it_is(tree: Tree, link: str) -> None:
    assert tree.redirected("guide.md", f"[a]({link})") == f"[a]({link})"
    assert list(tree.linked("guide.md", f"[a]({link})")) == []


def test_only_files_out_of_docs_that_are_no_pages_are_added(tree: Tree) -> None:
    text = "[a](../lander/agent.py) ![b](../figures/a.png) [c](../README.md) [d](notebooks/00.md)"
    assert list(tree.linked("guide.md", text)) == ["lander/agent.py", "figures/a.png"]


def test_links_in_code_are_no_links(tree: Tree) -> None:
    text = "```\n[a](../LICENSE)\n```\n`[b](../LICENSE)`\n~~~~ text\n[c](../LICENSE)\n```\n~~~~\n"
    assert tree.redirected("guide.md", text) == text
    assert list(tree.linked("guide.md", text)) == []


def test_a_link_whose_text_is_code_is_one(tree: Tree) -> None:
    moved = tree.redirected("guide.md", "[`ppo_loss`](../lander/agent.py)")
    assert moved == "[`ppo_loss`](source/lander/agent.py.md)"


def test_all_but_code_is_changed() -> None:
    assert outside_code("a `b` ``c ` d`` e\n```py\nf\n```\ng", str.upper) == (
        "A `b` ``c ` d`` E\n```py\nf\n```\nG"
    )


def test_a_file_becomes_a_page_of_code_with_numbered_lines(tree: Tree) -> None:
    assert tree.code_page("lander/agent.py") == ALONE + (
        "# lander/agent.py\n\n`````{.python linenums=1}\ntext of lander/agent.py\n\n`````\n"
    )
