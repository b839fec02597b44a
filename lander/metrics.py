"""Every number that a training records: its name, what it is, and how a healthy one looks.

r is the probability ratio new / old, A the advantage, R the return that the critic is trained on, V
its value.
"""

from __future__ import annotations

from typing import Final

TRAIN_RETURN: Final = "train/return_mean"
TRAIN_LENGTH: Final = "train/length_mean"
EVAL_RETURN: Final = "eval/return_mean"
EVAL_STD: Final = "eval/return_std"
VALUE_LOSS: Final = "loss/value"
FINAL_RETURN: Final = "final/return_mean"
FINAL_SAMPLED: Final = "final/return_sampled_mean"

CURVES: Final[dict[str, str]] = {
    TRAIN_RETURN: "Mean return of the training episodes that ended in this rollout; actions are "
    "sampled. Healthy: rises, lags behind `eval/return_mean`.",
    TRAIN_LENGTH: "Their mean length in steps. Healthy: grows while it learns to hover, falls "
    "again when it learns to land.",
    EVAL_RETURN: "Mean return of the checkpoint's deterministic episodes. Healthy: ends above 200.",
    EVAL_STD: "Standard deviation over those episodes. Healthy: shrinks at the end.",
    "loss/policy": "Surrogate, sign turned; with clip: `-mean(min(r A, clip(r, 1 - epsilon, "
    "1 + epsilon) A))`. Healthy: small and noisy around zero; it shows no progress.",
    VALUE_LOSS: "`mean((V - R)^2) / 2`, in scaled-reward units. Healthy: jumps when the policy "
    "finds new rewards, then falls.",
    "policy/entropy": "Mean entropy of `pi(.|s)`, nats, summed over action dimensions. Healthy: "
    "falls slowly; a cliff means a policy that stopped exploring.",
    "policy/approx_kl": "`mean(r - 1 - log r)`, an estimate of `KL(old || new)`, the minibatch at "
    "which ppo.kl_stop ended the update included. Healthy: below about 0.05; spikes mean too large "
    "a step.",
    "policy/clip_fraction": "Share of samples with `|r - 1| > epsilon`; with ppo.surrogate = clip "
    "only. Healthy: 0.05 to 0.3; zero means that the clip never acts.",
    "policy/kl_coef": "beta of the KL penalty; with ppo.surrogate = kl_adaptive only. Healthy: "
    "settles, within a factor of a few.",
    "policy/gradient_steps": "Gradient steps until the KL divergence ended the update; with "
    "ppo.kl_stop only. Healthy: below K times the minibatches when it acts.",
    "value/explained_variance": "`1 - Var[R - V_old] / Var[R]`, unless all R are the same. "
    "Healthy: towards 1; below 0 the critic is worse than a constant.",
    "time/env_steps_per_second": "Environment steps per second of collecting and updating. "
    "Healthy: flat.",
}
"""Curves over environment steps, one point per update (eval/: one per checkpoint)."""

FINALS: Final[dict[str, str]] = {
    FINAL_RETURN: "Mean return of the deterministic episodes at the end of the budget. Healthy: "
    "above 200 is solved.",
    "final/return_std": "Standard deviation over those episodes. Healthy: small against the mean.",
    FINAL_SAMPLED: "Mean return of the first sampled_episodes of these with sampled "
    "actions. Healthy: differs from the deterministic one; never tune on it.",
    "final/success_rate": "Share of the deterministic episodes that reach the solved return. "
    "Healthy: towards 1.",
}
"""Written once, at the end."""
