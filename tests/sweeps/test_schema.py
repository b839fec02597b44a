"""Only schema.py and lander/metrics.py spell a recorded name; everything else imports it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import pytest

from lander.metrics import CURVES, FINALS
from sweeps import schema
from sweeps.schema import (
    BEST_ALIAS,
    CONFIG_FILE,
    CONFIRMED_ALIAS,
    LANDING_GIF,
    POLICY_FILE,
    REPORT_FOLDER,
    Chart,
    Ending,
    Reason,
    Role,
    Verdict,
)

ROOT = Path(__file__).parents[2]
CONSTANTS = [value for name, value in vars(schema).items() if name.isupper()]
PREFIXES = tuple(name for name in CONSTANTS if name.endswith((".", "_")))
NAMES = {name for name in (*CONSTANTS, *Chart, *Reason, *CURVES, *FINALS) if not name.isalpha()}
ALSO_COMMANDS = {Role.CONFIRMATION_TRIAL, REPORT_FOLDER}
ALSO_SETTINGS = {Ending.RUNNING}
"""A value of `env.reward_scale` and `env.obs_norm`."""
WORDS = {
    name
    for name in (*CONSTANTS, *Role, *Ending, *Reason, *Verdict)
    if name.isalpha() and name not in ALSO_COMMANDS | ALSO_SETTINGS
} - {BEST_ALIAS, CONFIRMED_ALIAS}
"""English words, which say other things as well: looked for where a name or its value stands."""
FILES_OF_LANDER = {CONFIG_FILE, LANDING_GIF, POLICY_FILE}
"""In the folder of a single training, which knows no tracker."""

CARRIERS = {"user_attrs", "system_attrs", "tags", "metrics"}
WRITERS = {"set_user_attr", "set_late_attr", "set_tag", "set_experiment_tag", "log_metric"}


def strings(nodes: Sequence[ast.AST]) -> Iterator[ast.Constant]:
    """Every string, parts of f-strings included, but for docstrings."""
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from () if id(node) in docstrings else (node,)


def keys_and_values(nodes: Sequence[ast.AST]) -> Iterator[ast.expr]:
    """Where an English word would be a recorded name or its value: keys of attributes, tags and
    metrics, and whatever is compared."""
    for node in nodes:
        match node:
            case ast.Subscript(value=ast.Attribute(attr=carrier)) if carrier in CARRIERS:
                yield node.slice
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr=carrier), attr="get")) if (
                carrier in CARRIERS
            ):
                yield node.args[0]
            case ast.Call(func=ast.Attribute(attr=writer)) if writer in WRITERS:
                yield from node.args
            case ast.Call(func=ast.Attribute(attr="startswith" | "endswith")):
                yield from node.args
            case ast.Compare():
                for side in (node.left, *node.comparators):
                    if isinstance(side, ast.Constant | ast.Tuple | ast.Set | ast.List):
                        yield side


def spells(text: str, names: Set[str]) -> bool:
    """Whether a string holds one of `names`, starts with a prefix, or queries a word."""
    parts = {part.rstrip(".") for part in re.findall(r"[\w./@]+", text)}
    return (
        any(name in parts or (" " in name and name in text) for name in names)
        or text.startswith(PREFIXES)
        or any(word in WORDS for word in re.findall(r"= '(\w+)'", text))
    )


def spelled(source: str, names: Set[str] = NAMES) -> list[tuple[int, str]]:
    """Line and text of each string in `source` that spells one of `names`, or a word where a name
    or its value stands."""
    nodes = list(ast.walk(ast.parse(source)))
    hits = [node for node in strings(nodes) if spells(str(node.value), names)]
    words = (node for part in keys_and_values(nodes) for node in strings(list(ast.walk(part))))
    hits += [node for node in words if node.value in WORDS]
    return sorted({(node.lineno, str(node.value)) for node in hits})


def test_no_recorded_name_is_spelled_outside_of_the_schema() -> None:
    schema_file, hits = ROOT / "sweeps" / "schema.py", []
    for path in (*(ROOT / "sweeps").rglob("*.py"), *(ROOT / "analysis").rglob("*.py")):
        if path != schema_file:
            hits += [(path.name, *hit) for hit in spelled(path.read_text())]
    assert hits == []


def test_lander_spells_only_its_own_files_and_metrics() -> None:
    names = NAMES - FILES_OF_LANDER - {*CURVES, *FINALS}
    for path in (ROOT / "lander").rglob("*.py"):
        assert spelled(path.read_text(), names) == []


def test_lander_spells_only_the_metrics_of_its_table() -> None:
    """A training's own numbers are named where they are computed."""
    kind = re.compile(r"(train|eval|loss|policy|value|time|final)/\w+")
    nodes = [
        node
        for path in (ROOT / "lander").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    ]
    spelled_metrics = {node.value for node in strings(nodes) if kind.fullmatch(str(node.value))}
    assert spelled_metrics == {*CURVES, *FINALS}


@pytest.mark.parametrize(
    "source",
    [
        'client.set_tag(run_id, "sweeps.winner", "3")',
        'f"study {name}: worker lost"',
        'run.data.metrics["score"]',
        'run.data.tags.get("score")',
        'trial.set_user_attr("score", 1.0)',
        "f\"tags.`{ROLE}` = 'trial'\"",
        'if ending == "failed": pass',
        'if how in ("lost", other): pass',
        'reason.startswith("diverged")',
        'f"version.{name}"',
        'curve = "eval/return_mean"',
        'path / "confirm.md"',
    ],
)
def test_a_spelled_name_is_seen(source: str) -> None:
    assert spelled(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""The docstring of sweeps.winner."""',
        'frame["trial"]',
        'legend(loc="best")',
        'print("3 trials failed")',
        'say("of an earlier version.")',
    ],
)
def test_other_strings_are_not_taken_for_one(source: str) -> None:
    assert spelled(source) == []


def test_no_two_names_are_equal() -> None:
    assert len(CONSTANTS) == len(set(CONSTANTS))
