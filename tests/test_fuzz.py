"""Broken files and arguments: never a traceback, but exit 2 and one line, and nothing created."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import analysis.__main__
import lander.__main__
import lander.commands
import sweeps.__main__
import sweeps.commands
from lander.config import TrainConfig
from lander.dotted import flatten, from_toml, to_toml
from lander.errors import ConfigError
from sweeps.study.study import SHIPPED, read_study

STUDIES = [path.read_text() for path in sorted(SHIPPED.glob("*.toml"))]
TABLES = """
"policy.hidden_sizes" = { choices = [[64, 64], [16]] }
"ppo.minibatch_size" = { choices = [256, 512] }
[sampler]
n_startup_trials = 5
multivariate = false
[pruner]
n_warmup_steps = 2
"""
STUDIES += [STUDIES[0] + TABLES]
CONFIG = to_toml(TrainConfig())
WORDS = [
    *("nan", "inf", "-inf", "-1", "0", "1e400", "9" * 400, "true", '""', '"\\u0000"', "[]", "{}"),
    *("'../x'", '"/etc/passwd"', "1_0", "0x10", "low", "high", "choices", "log", "step", "=", "#"),
    *("[study]", "[space]", "[[base]]", '"env.bins"', "= {}", "= { low = 1, high = 0 }", "\ufeff"),
    *("[sampler]", "[pruner]", "n_startup_trials = 5", "multivariate = true", "min_resource = 2"),
    *("[[64, 64], [16]]", '["none", 0.03]', '"ppo.minibatch_size" = { low = 32, high = 512 }'),
    *('"none"', "1e12", "10" * 6, "0x" + "f" * 4000, "[" * 2000, '"64"', "1.0"),
    *(f'"{name}"' for name in flatten(TrainConfig())),
    *('"env.kwargs.gravity" = -5', '"env.kwargs.a.b"', "[env.kwargs]", '"env.kwargs" = {}'),
    '"env.kwargs.gravity" = { low = -11.0, high = -1.0 }',
]
many = settings(
    max_examples=500,
    deadline=None,
    derandomize=True,  # the same examples every time: CI finds what you find
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@st.composite
def mutated(draw: st.DrawFn, texts: Sequence[str]) -> str:
    """A valid file with a few tokens replaced, dropped, doubled or put elsewhere."""
    tokens = draw(st.sampled_from(texts)).replace("\n", " \n ").split(" ")
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(tokens) - 1))
        match draw(st.sampled_from(["word", "drop", "double", "move", "text"])):
            case "word":
                tokens[index] = draw(st.sampled_from(WORDS))
            case "drop":
                tokens = tokens[:index] + tokens[index + 1 :] or [""]
            case "double":
                tokens.insert(index, tokens[index])
            case "move":
                tokens.insert(draw(st.integers(0, len(tokens) - 1)), tokens.pop(index))
            case _:
                tokens[index] = draw(st.text(max_size=8))
    return " ".join(tokens).replace(" \n ", "\n")


def one_line(message: str) -> bool:
    """What a person can read at once."""
    return bool(message.strip()) and len(message.splitlines()) == 1 and "Traceback" not in message


Read = TypeVar("Read")


def read_or_refused(read: Callable[[], Read]) -> Read | None:
    """What a file says; None if it is refused, which must be in one line."""
    refusal = ""
    try:
        return read()
    except ConfigError as error:
        refusal = str(error)
    assert refusal.startswith("mutated.toml: ")
    assert one_line(" ".join(refusal.split()))
    return None


@many
@given(mutated(STUDIES))
def test_a_mutated_study_is_a_study_or_refused_in_one_line(text: str) -> None:
    study = read_or_refused(lambda: read_study(text, source="mutated.toml"))
    if study is not None:
        assert study.space
        assert read_study(study.text, source="again").fingerprint == study.fingerprint


@many
@given(mutated([CONFIG]))
def test_a_mutated_config_is_a_config_or_refused_in_one_line(text: str) -> None:
    config = read_or_refused(lambda: from_toml(text, source="mutated.toml"))
    if config is not None:
        assert from_toml(to_toml(config), source="again") == config


Main = Callable[[Sequence[str]], int]
VALUES = st.one_of(
    st.sampled_from(["", "-1", "0", "1", "2.5", "nan", "1e9", "x", "..", "/", "none", "best"]),
    st.sampled_from(["lander", "nosuch", "smoke.toml", "a@confirm", "../lander", "99999999999"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6),
)


def arguments(
    main: Main, commands: Sequence[str], options: Sequence[str]
) -> st.SearchStrategy[tuple[Main, list[str]]]:
    """A command of a program, with options of it that need not go together."""
    option = st.tuples(st.sampled_from(options), VALUES).map(list) | VALUES.map(lambda v: [v])
    rest = st.lists(option, max_size=4).map(lambda parts: [word for part in parts for word in part])
    return st.tuples(st.just(main), st.tuples(st.sampled_from(commands), rest).map(together))


def together(parts: tuple[str, list[str]]) -> list[str]:
    """A command line."""
    return [*([parts[0]] if parts[0] else []), *parts[1]]


SWEEPS = arguments(
    sweeps.__main__.main,
    [
        "run",
        "work",
        "status",
        "try",
        "reproduce",
        "export",
        "trials",
        "figures",
        "ui",
        "dashboard",
        "x",
    ],
    [
        *("--study", "--trial", "--trials", "--workers", "--hours", "--out", "--port", "--json"),
        *("--warm-start", "--fork", "--from", "--for", "--worker", "--parent", "--dry-run"),
    ],
)
ANALYSIS = arguments(
    analysis.__main__.main,
    ["confirm", "report", "run", "check", "x", ""],  # notebooks sweeps a sample if it must
    ["--study", "--top", "--seeds", "--workers", "--jobs"],
)
LANDER = arguments(
    lander.__main__.main,
    ["", "fly", "resume"],
    ["--config", "--seed", "--episodes", "--checkpoint", "--best"]
    + ["--env.kwargs", "--env.kwargs.", "--env.kwargs.gravity", "--env.kwargs.a-b=1"]
    + ["--" + name for name in flatten(TrainConfig())]
    + ["--" + name.replace("_", "-") for name in flatten(TrainConfig())],
)


@pytest.fixture(autouse=True)
def nothing_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments that are right begin nothing: that they are is all that is asked here."""

    def begins(*_: object, **__: object) -> None:
        raise ConfigError("the arguments are right")

    monkeypatch.setattr(sweeps.commands, "start_sweep", begins)
    monkeypatch.setattr(sweeps.commands, "forecast", begins)
    monkeypatch.setattr(lander.commands, "run", begins)


@many
@given(st.one_of(SWEEPS, ANALYSIS))
def test_any_arguments_of_sweeps_and_analysis_are_refused_in_one_line(
    line: tuple[Main, list[str]],
) -> None:
    main, argv = line
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        refused(main, [*argv[:1], "--store", str(store), *argv[1:]])
        assert not store.exists()


@many
@given(LANDER)
def test_any_arguments_of_lander_are_refused_in_one_line(line: tuple[Main, list[str]]) -> None:
    refused(*line)


def refused(main: Main, argv: Sequence[str]) -> None:
    """It exits with 2 and says why in one line."""
    out, errors = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            code = main(argv)
        except SystemExit as exit_:  # --help
            code = int(exit_.code or 0)
            assert {"-h", "--help"} & set(argv), argv
            assert code == 0
            return
    if argv[:1] == ["status"] and code == 0:
        return
    assert code == 2, (argv, out.getvalue(), errors.getvalue())
    assert one_line(errors.getvalue()), (argv, errors.getvalue())
