"""The hooks of MkDocs: pages that are no files of docs/ join, links out of docs/ lead to pages."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import Abort
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docgen import reference
from docgen.links import PICTURES, SHARED, Tree
from docgen.site import problems


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the tree that are pages, or that pages show or link to."""
    tree = tree_of(config)
    for path, uri in SHARED.items():
        files.append(File.generated(config, uri, content=(tree.root / path).read_text()))
    for name, text in reference.pages(tree.root).items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for path in sorted({path for uri, text in texts.items() for path in tree.linked(uri, text)}):
        files.append(tree_file(tree, path, config))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Files) -> str:
    """Point the links of a page at what they are in the site."""
    return tree_of(config).redirected(page.file.src_uri, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site with a link that leads nowhere, or that fetches something from elsewhere."""
    wrong = list(problems(Path(config.site_dir).resolve()))
    if wrong:
        raise Abort("\n".join(wrong))


def tree_of(config: MkDocsConfig) -> Tree:
    return Tree(Path(config.docs_dir).parent)


def tree_file(tree: Tree, path: str, config: MkDocsConfig) -> File:
    uri = tree.site_uri(path)
    if PurePosixPath(path).suffix in PICTURES:
        return File.generated(config, uri, abs_src_path=str(tree.root / path))
    return File.generated(config, uri, content=tree.code_page(path))
