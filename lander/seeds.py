"""Reset seeds of the episodes that are evaluated: those of one purpose serve no other."""

from __future__ import annotations

from lander.config import TrainConfig

REPORT_SEED = 10_000
"""Reset seeds of results that are quoted: nothing is ever chosen by them."""
CHECKPOINT_SEED = 1_000_000
"""Reset seeds of the evaluations during training: they choose the best checkpoint, and prune."""
FINAL_SEED = 2_000_000
"""Reset seeds of the evaluation at the end: a sweep maximises its mean."""
FLIGHT_SEED = 3_000_000
"""Reset seeds of `python -m lander fly`: no training or sweep uses them."""
TEST_SEED = 4_000_000
"""Reset seeds on which a sweep's winner is confirmed: nothing is ever chosen by them."""


def seed_range(first: int, episodes: int) -> range:
    """Consecutive reset seeds, one per episode."""
    return range(first, first + episodes)


def checkpoint_seeds(config: TrainConfig) -> range:
    """Reset seeds of the evaluations during training."""
    return seed_range(CHECKPOINT_SEED, config.eval_episodes)


def final_seeds(config: TrainConfig) -> range:
    """Reset seeds of the evaluation at the end."""
    first = {"tuning": FINAL_SEED, "test": TEST_SEED, "report": REPORT_SEED}[config.final_seeds]
    return seed_range(first, config.final_episodes)


def sampled_seeds(config: TrainConfig) -> range:
    """Those of the final episodes that are played once more, with sampled actions."""
    return final_seeds(config)[: config.sampled_episodes]
