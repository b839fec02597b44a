"""`sweeps init` writes a study file that runs as it is and explains every key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lander.dotted import fields_of
from sweeps.study.settings import Settings
from sweeps.study.study import find_study, read_study, shipped_studies
from sweeps.study.template import template
from tests.sweeps.conftest import Command

KEY = re.compile(r"^(# )?(\w+) = (.*?)(  # not set)?$", re.MULTILINE)


def settings_part(text: str) -> str:
    return text.partition("[study]\n")[2].partition("\n[")[0]


def test_every_key_of_the_settings_is_explained() -> None:
    part = settings_part(template("mine", like="lander"))
    fields = fields_of(Settings)
    assert [key for _, key, _, _ in KEY.findall(part)] == list(fields)
    words = " ".join(part.replace("# ", "").split())
    for name, info in fields.items():
        assert info.description, name
        assert " ".join(info.description.split()) in words


@pytest.mark.parametrize("like", shipped_studies())
def test_it_is_the_study_that_it_begins_with_under_its_own_name(like: str) -> None:
    written = read_study(template("mine", like=like), source="mine.toml")
    assert written.name == "mine"
    assert written.definition == find_study(like).definition
    assert written.settings.trials == find_study(like).settings.trials


def test_the_keys_behind_a_hash_show_their_defaults() -> None:
    text = template("mine", like="lander")
    shown = KEY.sub(
        lambda key: key[0] if key[4] or key[2] == "training_seeds" else f"{key[2]} = {key[3]}", text
    )
    assert shown.count("# ") < text.count("# ")
    assert read_study(shown, source="x").settings == read_study(text, source="x").settings


def test_every_table_is_explained_above_its_header() -> None:
    lines = template("mine", like="heads").splitlines()
    for header in ("[base]", "[points"):
        first = next(number for number, line in enumerate(lines) if line.startswith(header))
        assert lines[first - 1].startswith("# ")
    assert sum(line.startswith("# Configurations to train") for line in lines) == 1
    tail = template("mine", like="smoke").splitlines()[-6:]
    assert [line for line in tail if line.startswith("# [")] == ["# [sampler]", "# [pruner]"]


def test_init_writes_the_file_and_says_how_to_run_it(command: Command, tmp_path: Path) -> None:
    file, store = tmp_path / "mine.toml", tmp_path / "store"
    done = command("init", file, "--study", "smoke", "--store", store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{file} is written; change it, then: ")
    assert str(store) in done.stdout.partition("then: ")[2]
    assert file.read_text() == template("mine", like="smoke")
    assert not store.exists()


def test_init_overwrites_nothing(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("mine")
    done = command("init", file)
    assert (done.returncode, done.stderr) == (2, f"sweeps: {file} exists: name a new file\n")
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mine", [], "a study file ends in .toml"),
        ("a b.toml", [], '"a b" cannot be the name of a study'),
        ("none/mine.toml", [], "No such file or directory"),
        ("mine.toml", ["--study", "landr"], 'unknown study "landr": did you mean lander?'),
    ],
)
def test_init_refuses_what_is_no_study_in_one_line(
    name: str, options: list[str], message: str, command: Command, tmp_path: Path
) -> None:
    done = command("init", tmp_path / name, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / name).exists()
