"""The changes of the code that no commit has: kept with a sweep, so that its trials can be trained
again with the same code.

Nothing here applies them: a patch from somebody else is code of somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from mlflow import MlflowClient

from sweeps.errors import redacted
from sweeps.record.provenance import DIRTY, git_bytes
from sweeps.record.recorder import tolerated
from sweeps.schema import COMMIT, UNCOMMITTED, UNCOMMITTED_FOLDER

LARGEST: Final = 500_000
"""Characters of a patch, at most; the files with the largest changes are left out of it first."""
NAME: Final = re.compile(rf"{UNCOMMITTED_FOLDER}/[0-9a-f]{{12}}\.patch")
DIFF: Final = (
    *("diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)
"""The same patch whatever a user has configured."""
FILE: Final = re.compile(r"^(?=diff --git )", re.MULTILINE)
"""Where the changes of a file begin."""
BINARY: Final = re.compile(r"^Binary files .* differ$", re.MULTILINE)


@dataclass(frozen=True)
class Changes:
    """A patch of the working tree against its commit."""

    text: str

    @property
    def name(self) -> str:
        """Its artifact: equal patches are one."""
        return f"{UNCOMMITTED_FOLDER}/{sha256(self.text.encode()).hexdigest()[:12]}.patch"


def uncommitted_changes(tags: Mapping[str, str]) -> Changes | None:
    """The changes of this checkout, whose `source_tags` these are; None if it has none."""
    commit = tags.get(COMMIT, "")
    if not commit.endswith(DIRTY):
        return None
    difference = git_bytes(*DIFF).decode(errors="replace")
    return Changes(patch(difference, commit=commit.removesuffix(DIRTY)))


def patch(difference: str, *, commit: str) -> str:
    """A difference as it is kept: without secrets, and without what is too large or binary. Its
    first lines say so; git skips them."""
    files = FILE.split(difference)[1:]
    masked = ["\n".join(map(redacted, text.split("\n"))) for text in files]
    left_out = dict(too_large(masked)) | {
        index: "binary" for index, text in enumerate(masked) if BINARY.search(text)
    }
    lines = [
        f"Changes of the working tree that commit {commit} does not have. New files that git does",
        "not know are not in it.",
    ]
    lines += [f"Left out: {file_of(files[index])} ({why})" for index, why in left_out.items()]
    if masked != files:
        lines.append("Secrets are masked with ***; such a line does not apply as it is.")
    head = "".join(f"# {line}\n" for line in lines)
    return head + "".join(text for index, text in enumerate(masked) if index not in left_out)


def too_large(files: list[str]) -> Iterator[tuple[int, str]]:
    """Which files to leave out so that the others are at most `LARGEST` together, and why."""
    total = 0
    for index in sorted(range(len(files)), key=lambda index: len(files[index])):
        total += len(files[index])
        if total > LARGEST:
            yield index, f"{len(files[index]):,} characters"


def file_of(text: str) -> str:
    """The name of the file whose changes these are."""
    return text.partition("\n")[0].rpartition(" b/")[2]


def keep_changes(
    client: MlflowClient, run_id: str, tags: Mapping[str, str], warnings: list[str]
) -> dict[str, str]:
    """Keep the uncommitted changes on the run of a sweep; the tag by which its trials name them.

    Keeping them again changes nothing. Where MLflow does not answer there is a warning.
    """
    changes = uncommitted_changes(tags)
    if changes is None:
        return {}
    with tolerated(warnings, changes.name):
        client.log_text(run_id, changes.text, changes.name)
    return {UNCOMMITTED: changes.name}
