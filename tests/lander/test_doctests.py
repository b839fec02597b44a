"""The examples in the docstrings of `lander` run and print what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch

import lander

MODULES = [info.name for info in iter_modules(lander.__path__) if info.name != "__main__"]
SHOWN = {
    "advantages.gae",
    "agent.ppo_loss",
    "checkpoint.save",
    "dotted.configure",
    "dotted.flatten",
    "dotted.from_toml",
    "env.env_spec",
    "evaluation.evaluate",
    "evaluation.replay",
    "policy.DeterministicActor",
    "resolve.resolve",
    "runner.Runner.collect",
    "trainer.train",
    "vector.SerialVectorEnv",
}
"""What a user of `lander` begins with: each has an example."""

torch.set_num_threads(1)


def examples(module: str) -> list[doctest.DocTest]:
    tests = doctest.DocTestFinder().find(import_module(f"lander.{module}"), f"lander.{module}")
    return [test for test in tests if test.examples]


@pytest.mark.parametrize("module", MODULES)
def test_examples_print_what_they_say(module: str) -> None:
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples(module):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_what_a_user_begins_with_has_an_example() -> None:
    names = {test.name.removeprefix("lander.") for module in MODULES for test in examples(module)}
    assert names >= SHOWN
