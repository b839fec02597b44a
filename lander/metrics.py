"""Every number that a training records: its name and what it is.

README explains how each curve should look."""

from __future__ import annotations

from typing import Final

TRAIN_RETURN: Final = "train/return_mean"
TRAIN_LENGTH: Final = "train/length_mean"
EVAL_RETURN: Final = "eval/return_mean"
EVAL_STD: Final = "eval/return_std"
VALUE_LOSS: Final = "loss/value"
FINAL_RETURN: Final = "final/return_mean"

CURVES: Final[dict[str, str]] = {
    TRAIN_RETURN: "return of the training episodes that ended in this rollout (sampled)",
    TRAIN_LENGTH: "their length in steps",
    EVAL_RETURN: "return of the checkpoint's deterministic episodes",
    EVAL_STD: "its standard deviation over those episodes",
    "loss/policy": "surrogate, sign turned; clipped: -mean(min(r A, clip(r) A))",
    VALUE_LOSS: "mean((V - R)^2) / 2, in scaled-reward units",
    "policy/entropy": "mean entropy of pi(.|s), nats, summed over action dimensions",
    "policy/approx_kl": "mean(r - 1 - log r), an estimate of KL(old || new)",
    "policy/clip_fraction": "share of samples with |r - 1| > epsilon, with the clipped surrogate",
    "policy/kl_coef": "beta of the KL penalty, with kl_adaptive",
    "policy/gradient_steps": "steps until the KL divergence ended the update, with kl_stop",
    "value/explained_variance": "1 - Var[R - V_old] / Var[R], unless all R are the same",
    "time/env_steps_per_second": "environment steps per second of collecting and updating",
}
"""Curves over environment steps, one point per update (eval/: one per checkpoint)."""

FINALS: Final[dict[str, str]] = {
    FINAL_RETURN: "return of the deterministic episodes at the end of the budget",
    "final/return_std": "its standard deviation over those episodes",
    "final/return_sampled_mean": "return of the first of these episodes with sampled actions",
    "final/success_rate": "share of the deterministic episodes that reach the solved return",
}
"""Written once, at the end."""
