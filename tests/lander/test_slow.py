"""Every head lands: minutes each, so only when asked for."""

from __future__ import annotations

from typing import Any

import pytest

from lander.config import TrainConfig
from lander.dotted import configure
from lander.evaluation import evaluate
from lander.trainer import train

pytestmark = pytest.mark.slow

SOLVED = 200.0
UNSEEN = range(10_000, 10_100)
"""Reset seeds that neither training nor its evaluations use."""
DISCRETE = {
    "env.id": "LunarLander-v3",
    "total_steps": 1_000_000,
    "ppo.gamma": 0.99,
    "ppo.gae_lambda": 0.95,
}
BOX = {"env.id": "LunarLanderContinuous-v3", "total_steps": 600_000}
CONFIGS: dict[str, dict[str, Any]] = {
    "discrete": DISCRETE,
    "categorical": BOX | {"env.bins": 9, "policy.head": "categorical"},
    "ordinal": BOX | {"env.bins": 9, "policy.head": "ordinal"},
    "joint": BOX | {"env.bins": 9, "policy.head": "joint"},
    "gaussian": BOX | {"policy.head": "gaussian"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_last_policy_lands_on_100_unseen_episodes(name: str) -> None:
    values = {"ppo.learning_rate": 1e-3, "checkpoints": 6, "seed": 1} | CONFIGS[name]
    result = train(configure(values, base=TrainConfig()))
    landings = evaluate(result.policy, result.config.env.id, seeds=UNSEEN)
    assert landings.return_mean > SOLVED
