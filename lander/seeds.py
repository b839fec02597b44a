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
"""Reset seeds on which what was chosen of a sweep is measured: nothing is ever chosen by them."""
CHOICE_SEED = 6_000_000
"""Reset seeds on which the leaders of a sweep are flown again to choose the best of them."""

FIRST = {"tuning": FINAL_SEED, "choice": CHOICE_SEED, "test": TEST_SEED, "report": REPORT_SEED}
"""The first reset seed of the evaluation at the end, by `TrainConfig.final_seeds`."""


def seed_range(first: int, episodes: int) -> range:
    """Consecutive reset seeds, one per episode."""
    return range(first, first + episodes)


def checkpoint_seeds(config: TrainConfig) -> range:
    """Reset seeds of the evaluations during training."""
    return seed_range(CHECKPOINT_SEED, config.eval_episodes)


def final_seeds(config: TrainConfig) -> range:
    """Reset seeds of the evaluation at the end."""
    return seed_range(FIRST[config.final_seeds], config.final_episodes)


def sampled_seeds(config: TrainConfig) -> range:
    """Those of the final episodes that are played once more, with sampled actions."""
    return final_seeds(config)[: config.sampled_episodes]
