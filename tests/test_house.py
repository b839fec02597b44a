"""The packages stay as they were built: no circles, few entries and floors, names that say much."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house import PACKAGES, Package, forbidden, names
from tests.paths import follow_apart, turns_back
from tests.processes import ROOT

TOY = {
    "toy/__init__.py": "",
    "toy/top.py": "import toy.wing.left\nfrom toy import base\n",
    "toy/base.py": "",
    "toy/wing/__init__.py": "",
    "toy/wing/left.py": "from toy.wing.right import f\nfrom toy import base\n",
    "toy/wing/right.py": "def f():\n    from toy.wing import left\n    return left\n",
}
"""A wing whose modules import each other, one of them inside a function."""


@pytest.fixture
def toy(tmp_path: Path) -> Package:
    for name, text in TOY.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Package(tmp_path, "toy")


def test_the_figures_of_a_toy_package_are_known(toy: Package) -> None:
    assert toy.entries == {"top": {"wing", "base"}, "base": set(), "wing": {"base"}}
    assert (len(toy.modules), toy.floors, toy.arrows, toy.lines) == (6, 3, 3, 7)
    assert toy.circles == [["toy.wing.left", "toy.wing.right"]]


@pytest.mark.parametrize("name", PACKAGES)
def test_no_module_or_wing_imports_itself_in_a_circle(name: str) -> None:
    assert Package(ROOT, name).circles == []


@pytest.mark.parametrize(("name", "entries", "floors"), [("sweeps", 24, 9), ("analysis", 13, 5)])
def test_one_sees_few_entries_and_few_floors(name: str, entries: int, floors: int) -> None:
    package = Package(ROOT, name)
    assert len(package.entries) <= entries
    assert package.floors <= floors


def test_names_that_could_hold_anything_are_recognised(tmp_path: Path) -> None:
    text = "def told(place, *, there=0):\n    found = a.silence\n    return f(found=place)\n"
    (tmp_path / "a.py").write_text(text)
    counts = ("found (2)", "place (2)", "silence (1)", "there (1)", "told (1)")
    assert list(forbidden(tmp_path)) == [f"{tmp_path / 'a.py'}: {count}" for count in counts]


def test_a_name_says_what_it_holds() -> None:
    assert [
        line for name in (*PACKAGES, "docgen", "tests") for line in forbidden(ROOT / name)
    ] == []


def test_names_of_tests_fit_into_a_table() -> None:
    files = (ROOT / "tests").rglob("test_*.py")
    defined = [name for path in files for name in names(ast.parse(path.read_text()))]
    assert [name for name in defined if name.startswith("test_") and len(name) > 70] == []


def test_a_step_counts_once_and_turns_back_if_it_leads_to_a_known_file() -> None:
    stations = ["study", "space", "ranges", "space", "ranges", "agent", "space", "study"]
    back = [("ranges", "space"), ("agent", "space"), ("space", "study")]
    assert turns_back(stations) == back
    assert turns_back(["study", "space", "agent"]) == []


@pytest.mark.slow
def test_the_path_of_a_hyperparameter_stays_as_short_as_it_is() -> None:
    stations = follow_apart(ROOT, "ppo.clip_range")
    assert "lander/surrogates.py" in stations
    # trial_rows and importance do what Optuna's own code did before, covering what it does not;
    # notes shows the value in the trial's description; dead_ends asks, and resolve knows, whether
    # the field does anything
    assert len(set(stations)) <= 18
