"""The ladder from policy gradient to PPO: its rungs, numbers by hand, what it says and draws."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import analysis.experiments.results
from analysis.experiments.results import Outcome, recorded
from analysis.notebooks import by_hand, ladder
from analysis.notebooks.ladder import Ladder
from analysis.notebooks.run import with_values
from lander.advantages import gae, n_step
from lander.config import TrainConfig
from lander.dotted import flatten
from lander.errors import ConfigError
from lander.options import inactive
from lander.resolve import resolve
from sweeps.charts.style import new_axes
from sweeps.study.study import find_study

NOTEBOOK = Path(ladder.__file__).with_name("05_ladder.ipynb")
RUNGS = [
    "A0 immediate",
    "A1 total return",
    "A2 reward-to-go",
    "A3 baseline",
    "A3.5 critic",
    "A4 one step",
    "GAE",
    "off-policy",
    "PPO",
]
LEVELS = {"A0 immediate": 0.0, "A1 total return": 10.0, "A2 reward-to-go": 11.0, "A3 baseline": 1.0}


def cells() -> list[tuple[str, str]]:
    """Kind and text of each cell of the notebook."""
    document = json.loads(NOTEBOOK.read_text())
    return [(cell["cell_type"], "".join(cell["source"])) for cell in document["cells"]]


def named(text: str) -> dict[str, Any]:
    """Fields that a section names: `ppo.n_step = 1`."""
    pairs = re.findall(r"`([a-z_]+\.[a-z_]+) = ([^`]+)`", text)
    return {name: value_of(word) for name, word in pairs}


def value_of(word: str) -> Any:
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word


def sections() -> dict[str, dict[str, Any]]:
    """The fields named before the cell that shows a rung, by rung."""
    fields: dict[str, dict[str, Any]] = {}
    for (_, text), (_, source) in pairwise(cells()):
        for rung in re.findall(r'ladder\.learning\(LADDER, "(.+)", axes\)', source):
            fields[rung] = named(text)
    return fields


@pytest.fixture
def made_up() -> Ladder:
    """Of seed k (0 to 4) sampled flights return level + k - 1 and level + k + 1, the deterministic
    one 10 + k less than their mean; the curve rises by 100 to level + k."""
    points = find_study("ladder").points

    def outcome(rung: str, k: int) -> Outcome:
        score = LEVELS.get(rung, 0.0) + k
        return Outcome(
            point=rung,
            seed=21 + k,
            config=recorded(points[rung]),
            env_steps=120_000,
            returns=(score - 10 - k,),
            seconds=1.0,
            machine="2 cores, paper",
            versions={},
            sampled=(score - 1, score + 1),
            curve=((10_000, score - 100), (120_000, score)),
        )

    return Ladder(points, {rung: [outcome(rung, k) for k in range(5)] for rung in points})


def test_every_rung_is_a_config_and_the_notebook_climbs_them_in_order(made_up: Ladder) -> None:
    assert made_up.rungs == list(sections()) == RUNGS
    assert [made_up.below(rung) for rung in RUNGS] == [None, *RUNGS[:-1]]
    for config in made_up.configs.values():
        assert resolve(config).config == config


def test_a_rung_differs_from_the_one_below_in_the_fields_that_are_named(
    made_up: Ladder,
) -> None:
    first, *others = sections().items()
    bottom = flatten(made_up.configs[first[0]])
    assert first[1].items() <= bottom.items()
    assert ladder.changes(made_up, first[0]) == {}
    for rung, fields in others:
        assert ladder.changes(made_up, rung) == fields != {}


def test_a_field_that_differs_and_is_not_named_does_nothing(made_up: Ladder) -> None:
    left = {}
    defaults = flatten(TrainConfig())
    for below, rung in pairwise(RUNGS):
        before, here = (flatten(made_up.configs[name]) for name in (below, rung))
        differing = {name for name in here if here[name] != before[name]}
        left[rung] = differing - ladder.changes(made_up, rung).keys()
        assert left[rung] <= inactive(here).keys()
        assert all(here[name] == defaults[name] for name in left[rung])
    assert {rung: names for rung, names in left.items() if names} == {
        "A3.5 critic": {"ppo.baseline"},
        "A4 one step": {"ppo.gae_lambda"},
        "GAE": {"ppo.n_step"},
    }


def test_on_policy_rungs_take_one_step_on_the_whole_rollout(made_up: Ladder) -> None:
    """Five episodes of at most 500 steps are one minibatch."""
    for rung in RUNGS[: RUNGS.index("off-policy")]:
        config = made_up.configs[rung]
        assert config.ppo.rollout_episodes == 5
        assert config.env.time_limit == 500
        assert config.ppo.minibatch_size >= 5 * 500
        assert config.ppo.update_epochs == 1


def test_a_step_is_a_difference_with_welchs_interval_and_a_verdict_from_it(
    made_up: Ladder,
) -> None:
    """Five seeds at level + 0 to 4: standard error 1 of a difference, 8 degrees, t = 2.306; of a
    mean 0.7071, t = 2.776."""
    made = "(5 training seeds, 2 unseen flights of each)"
    assert ladder.sentence(made_up, "A0 immediate") == (
        f"A0 immediate: mean return 2.0 [0.0, 4.0] {made}."
    )
    assert ladder.sentence(made_up, "A1 total return") == (
        f"A1 total return minus A0 immediate: +10.0 [+7.7, +12.3] of return {made}: "
        "A1 total return is better."
    )
    assert ladder.sentence(made_up, "A2 reward-to-go") == (
        f"A2 reward-to-go minus A1 total return: +1.0 [-1.3, +3.3] of return {made}: "
        "that can be chance."
    )
    assert ladder.sentence(made_up, "A3 baseline") == (
        f"A3 baseline minus A2 reward-to-go: -10.0 [-12.3, -7.7] of return {made}: "
        "A3 baseline is worse."
    )
    assert ladder.sentence(made_up, "A3 baseline", below="A0 immediate").startswith(
        "A3 baseline minus A0 immediate: +1.0 [-1.3, +3.3]"
    )
    assert ladder.sentence(made_up, "PPO", below="A0 immediate").startswith(
        "PPO minus A0 immediate: +0.0 [-2.3, +2.3]"
    )


def test_pilots_are_compared_within_each_training(made_up: Ladder) -> None:
    """-10, -11, .. -14: mean -12, 2.776 * 1.5811 / sqrt(5) around it."""
    assert ladder.pilot_sentence(made_up, "GAE") == (
        "GAE, most probable minus sampled actions: -12.0 [-14.0, -10.0] of return."
    )


def test_the_summary_has_a_row_per_rung(made_up: Ladder) -> None:
    table = ladder.summary(made_up)
    assert list(table.index) == RUNGS
    assert table.loc["A0 immediate"].tolist() == ["", "2.0 [0.0, 4.0]", "-10.0 [-10.0, -10.0]"]
    assert table.loc["A3.5 critic", "what changes"] == (
        "policy.critic = true, ppo.advantage = gae, ppo.gae_lambda = 1.0"
    )


def test_a_step_draws_both_rungs_over_environment_steps(made_up: Ladder) -> None:
    _, axes = new_axes()
    ladder.learning(made_up, "A1 total return", axes)
    below, here, solved = axes.get_lines()
    assert (below.get_linestyle(), here.get_linestyle()) == ("--", "-")
    assert np.asarray(below.get_ydata()).tolist() == [-98, 2]
    assert np.asarray(here.get_ydata()).tolist() == [-88, 12]
    assert np.asarray(here.get_xdata()).tolist() == [10_000, 120_000]
    assert axes.get_ylim() == (-130, 44)  # 30 around -100 to 14
    assert np.asarray(solved.get_ydata()).tolist() == [200, 200]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["A0 immediate", "A1 total return"]
    assert [line.get_linestyle() for line in legend.get_lines()] == ["--", "-"]
    _, first = new_axes()
    assert len(ladder.learning(made_up, "A0 immediate", first).get_lines()) == 2


def test_the_overview_has_the_first_rung_at_the_bottom_and_every_seed(made_up: Ladder) -> None:
    _, axes = new_axes()
    ladder.overview(made_up, axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == RUNGS
    drawn = [np.asarray(line.get_xydata()).tolist() for line in axes.get_lines()]
    assert [[10.0, 1.0], [11.0, 1.0], [12.0, 1.0], [13.0, 1.0], [14.0, 1.0]] in drawn
    assert [[12.0, 1.0]] in drawn


def test_an_unknown_rung_and_missing_trainings_are_refused(
    made_up: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match='unknown rung "A3 base": did you mean A3 baseline'):
        ladder.sentence(made_up, "A3 base")
    monkeypatch.setattr(analysis.experiments.results, "HERE", tmp_path)
    with pytest.raises(ConfigError, match="45 trainings of ladder are missing: make experiment NA"):
        ladder.read_ladder()


def test_the_recorded_ladder_has_all_curves_and_sampled_flights() -> None:
    shipped = ladder.read_ladder()
    for outcome in (each for outcomes in shipped.results.values() for each in outcomes):
        assert len(outcome.sampled) == 100
        assert len(outcome.curve) == ladder.POINTS
        assert outcome.curve[-1][0] == outcome.env_steps


def test_random_actions_fall_out_of_the_sky() -> None:
    assert -220 < ladder.random_return("LunarLander-v3") < -140  # FACTS: -181 over many episodes


def test_the_dial_by_hand() -> None:
    """delta = 1, -2, 3; A_1 = -2 + 3 lambda, A_0 = 1 - 2 lambda + 3 lambda^2; G = 4."""
    table = by_hand.dial_table(by_hand.episode([0, 0, 4], [2, 3, 1]), [0, 0.5, 1], gamma=1.0)
    assert table.to_dict("list") == {
        "r": [0, 0, 4],
        "V": [2, 3, 1],
        "delta": [1, -2, 3],
        "n_step, n = 1": [1, -2, 3],
        "gae, λ = 0": [1, -2, 3],
        "gae, λ = 0.5": [0.75, -0.5, 3],
        "gae, λ = 1": [2, 1, 3],
        "G - V": [2, 1, 3],
    }


def test_the_ends_of_the_dial_are_one_step_and_the_whole_return_minus_v() -> None:
    numbers = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    rewards, values = numbers.tolist()
    episode = by_hand.episode(rewards, values)
    one = gae(episode, gamma=0.9, gae_lambda=0.0)
    every = gae(episode, gamma=0.9, gae_lambda=1.0)
    assert torch.equal(one, n_step(episode, gamma=0.9, n=1))
    torch.testing.assert_close(every, by_hand.monte_carlo(episode, gamma=0.9))
    torch.testing.assert_close(every, n_step(episode, gamma=0.9, n=9))
    whole = sum(0.9**t * reward for t, reward in enumerate(rewards)) - values[0]
    assert float(every[0]) == pytest.approx(whole, abs=1e-5)


def test_the_dials_curves_run_from_one_end_to_the_other() -> None:
    _, axes = new_axes()
    by_hand.dial(by_hand.episode([0, 0, 4], [2, 3, 1]), axes, gamma=1.0)
    *steps, one, every = axes.get_lines()
    lambdas = np.linspace(0, 1, 101)
    for line, curve in zip(
        steps, (1 - 2 * lambdas + 3 * lambdas**2, -2 + 3 * lambdas, 3 + 0 * lambdas), strict=True
    ):
        np.testing.assert_allclose(np.asarray(line.get_ydata()), curve, atol=1e-5)
    assert np.asarray(one.get_xydata()).tolist() == [[0, 1], [0, -2], [0, 3]]
    assert np.asarray(every.get_xydata()).tolist() == [[1, 2], [1, 1], [1, 3]]


def test_the_clip_is_flat_beyond_the_side_to_which_the_advantage_pulls() -> None:
    table = by_hand.slopes([0.5, 0.9, 1.1, 1.5], clip_range=0.2)
    assert table.to_dict("index") == {
        "A = +1": {"r = 0.5": 1, "r = 0.9": 1, "r = 1.1": 1, "r = 1.5": 0},
        "A = -1": {"r = 0.5": 0, "r = 0.9": -1, "r = 1.1": -1, "r = 1.5": -1},
    }


def test_the_figure_of_the_clip_is_equation_7() -> None:
    _, axes = new_axes()
    by_hand.surrogates(axes, clip_range=0.3)
    ratio = np.linspace(0, 2, 201)
    up, free_up, down, free_down = (np.asarray(line.get_ydata()) for line in axes.get_lines())
    np.testing.assert_allclose(up, np.minimum(ratio, 1.3), atol=1e-6)
    np.testing.assert_allclose(down, -np.maximum(ratio, 0.7), atol=1e-6)
    np.testing.assert_allclose((free_up, free_down), (ratio, -ratio), atol=1e-6)


def test_every_code_cell_of_the_notebook_runs(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {"__name__": "notebook"}
    for kind, source in cells():
        if kind == "code":
            code = source.replace("%matplotlib inline", "")
            exec(with_values(code, {"STEPS": 1}), scope)  # one update
    out = capsys.readouterr().out
    assert re.search(r"steps, return +-?\d+\.\d, KL \d\.\d+, \d+% outside the clip\n\Z", out)
