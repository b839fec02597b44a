"""The pages of docs/reference/, which are no files: they are made from the code."""

from __future__ import annotations

from pathlib import Path

from docgen import commands, fields, names, study

INDEX = """# Reference

These pages are made from the code when the site is built, so they say what the code does.

- The config of a training: [env](env.md), [policy](policy.md), [ppo](ppo.md), [run](run.md)
- [Keys of a study file](study.md)
- [Recorded metrics](metrics.md), [tags and artifacts](records.md)
- [Commands](commands.md) and [make](make.md)
"""


def pages(root: Path) -> dict[str, str]:
    """The text of each page by its name, for a checkout."""
    return {
        "index": INDEX,
        **fields.pages(),
        "study": "\n".join(study.page()),
        "metrics": "\n".join(names.metrics_page()),
        "records": "\n".join(names.records_page()),
        "commands": "\n".join(commands.commands_page()),
        "make": "\n".join(commands.make_page((root / "Makefile").read_text())),
    }
