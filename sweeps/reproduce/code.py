"""How to get back the code that trained a trial: lines to paste, none of which is run here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Final

from sweeps.errors import one_line
from sweeps.record.provenance import DIRTY, OURS, package_version, source_tags
from sweeps.record.uncommitted import NAME, uncommitted_changes
from sweeps.schema import COMMIT, UNCOMMITTED, VERSION
from sweeps.sweep import Sweep

COMMITS: Final = re.compile(r"[0-9a-f]{7,64}")
"""What a record may name as a commit; anything else is not written into a line to paste."""


def code_lines(sweep: Sweep, tags: Mapping[str, str]) -> Iterator[str]:
    """What is known about the code behind the tags of a run, if it differs from the code here, and
    the lines that bring it back."""
    yield from older_version(tags)
    here, recorded = source_tags([]), tags.get(COMMIT, "")
    commit, dirty = recorded.removesuffix(DIRTY), recorded.endswith(DIRTY)
    now = here.get(COMMIT, "")
    if not COMMITS.fullmatch(commit) or not now or same_code(tags, here):
        return
    changed = " with uncommitted changes"
    yield (
        f"the recorded code is commit {commit[:12]}{changed * dirty}, here it is "
        f"{now.removesuffix(DIRTY)[:12]}{changed * now.endswith(DIRTY)}; to get it back:"
    )
    if now.endswith(DIRTY):
        yield "    git stash"
    yield f"    git checkout {commit}"
    if dirty:
        yield from patch_lines(sweep, tags.get(UNCOMMITTED, ""))


def same_code(tags: Mapping[str, str], here: Mapping[str, str]) -> bool:
    """Whether the recorded commit and its uncommitted changes are those of this checkout."""
    if tags.get(COMMIT) != here.get(COMMIT):
        return False
    changes = uncommitted_changes(here)
    return changes is None or changes.name == tags.get(UNCOMMITTED)


def patch_lines(sweep: Sweep, name: str) -> Iterator[str]:
    """The lines that apply the kept patch of that name, or why there are none."""
    if not NAME.fullmatch(name):
        yield "its uncommitted changes were not kept"
        return
    if sweep.store.tracked_remotely:
        words = ["mlflow", "artifacts", "download", "--run-id", sweep.run_id]
        yield f"    {shlex.join([*words, '--artifact-path', name, '--dst-path', '.'])}"
        path = name.rpartition("/")[2]
    else:
        try:
            path = sweep.store.runs().download_artifacts(sweep.run_id, name)
        except Exception as error:  # MLflow raises many kinds for a missing artifact
            yield f"its uncommitted changes are not in the record: {one_line(error)}"
            return
    yield f"    git apply {shlex.quote(path)}  # read it first: it is code"


def older_version(tags: Mapping[str, str]) -> list[str]:
    """A line that says where to reproduce a trial that another version of this package trained."""
    recorded, commit = tags.get(VERSION + OURS), tags.get(COMMIT)
    if recorded in (None, package_version(OURS)):
        return []
    source = f"commit {commit}" if commit else f"{OURS} {recorded}"
    return [f"{OURS} {recorded} computes other bits: to reproduce the trial, use {source}"]
