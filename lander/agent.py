"""The PPO update: from a rollout to better weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from lander.config import PPOConfig
from lander.policy import ActorCritic
from lander.rollout import Rollout, gae


class Divergence(ArithmeticError):
    """Training left the finite numbers: the message says what, and at which update."""


@dataclass(frozen=True, slots=True)
class Batch:
    """B transitions, flattened out of a rollout."""

    obs: Tensor
    """(B, obs)."""
    actions: Tensor
    """(B, A)."""
    log_probs: Tensor
    """(B,): log pi_old(a|s)."""
    advantages: Tensor
    """(B,)."""
    returns: Tensor
    """(B,): the critic's target, A + V_old: TD(lambda)."""

    def minibatches(self, size: int, *, generator: torch.Generator) -> Iterator[Batch]:
        """All transitions once, in random order, `size` at a time."""
        order = torch.randperm(len(self.obs), generator=generator)
        columns = (self.obs, self.actions, self.log_probs, self.advantages, self.returns)
        # one gather per epoch: slices of the result cost nothing
        for parts in zip(*(torch.split(column[order], size) for column in columns), strict=True):
            yield Batch(*parts)


@dataclass(frozen=True, slots=True)
class Loss:
    """PPO's objective on one minibatch; every field is a scalar."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor


def ppo_loss(policy: ActorCritic, batch: Batch, config: PPOConfig) -> Loss:
    """Clipped surrogate, value error and entropy bonus (arXiv:1707.06347, eqs. 7 and 9).

    L = -mean(min(r A, clip(r, 1 - eps, 1 + eps) A)) + c1 mean((V - R)^2) / 2 - c2 mean(H)
    """
    prediction = policy(batch.obs)
    log_ratio = prediction.pi.log_prob(batch.actions) - batch.log_probs
    ratio = log_ratio.exp()
    clipped_ratio = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
    advantages = batch.advantages
    if config.advantage_norm == "minibatch":
        advantages = normalised(advantages)

    surrogate = torch.min(ratio * advantages, clipped_ratio * advantages).mean()
    value_error = 0.5 * (prediction.values - batch.returns).square().mean()
    entropy = prediction.pi.entropy().mean()
    with torch.no_grad():
        approx_kl = (ratio - 1 - log_ratio).mean()  # k3 of joschu.net/blog/kl-approx.html
        clip_fraction = (ratio != clipped_ratio).float().mean()

    total = -surrogate + config.value_coef * value_error - config.entropy_coef * entropy
    return Loss(total, -surrogate, value_error, entropy, approx_kl, clip_fraction)


class Agent:
    """Improves a policy, one rollout at a time."""

    def __init__(self, policy: ActorCritic, config: PPOConfig) -> None:
        self._policy = policy
        self._config = config
        self._weights = one_tensor(policy)
        self._optimizer = torch.optim.Adam([self._weights], eps=1e-5, fused=True)

    def update(
        self, rollout: Rollout, *, learning_rate: float, generator: torch.Generator
    ) -> dict[str, float]:
        """K epochs of minibatch Adam over the rollout; means of the loss terms.

        Raises:
            Divergence: a loss or a weight is no longer finite.
        """
        config = self._config
        self._optimizer.param_groups[0]["lr"] = learning_rate
        advantages = gae(rollout, gamma=config.gamma, gae_lambda=config.gae_lambda)
        returns = advantages + rollout.values
        if config.advantage_norm == "batch":
            advantages = normalised(advantages)
        batch = Batch(
            obs=rollout.obs.flatten(0, 1),
            actions=rollout.actions.flatten(0, 1),
            log_probs=rollout.log_probs.flatten(),
            advantages=advantages.flatten(),
            returns=returns.flatten(),
        )
        steps: list[Tensor] = []
        for _ in range(config.update_epochs):
            for minibatch in batch.minibatches(config.minibatch_size, generator=generator):
                loss = ppo_loss(self._policy, minibatch, config)
                gradient = self._weights.grad
                assert gradient is not None
                gradient.zero_()
                torch.autograd.backward(loss.total)
                gradient.mul_((config.max_grad_norm / (gradient.norm() + 1e-6)).clamp(max=1))
                self._optimizer.step()
                steps.append(
                    torch.stack(
                        (loss.policy, loss.value, loss.entropy, loss.approx_kl, loss.clip_fraction)
                    ).detach()
                )
        policy, value, entropy, approx_kl, clip_fraction = torch.stack(steps).mean(0).tolist()
        metrics = {
            "loss/policy": policy,
            "loss/value": value,
            "policy/entropy": entropy,
            "policy/approx_kl": approx_kl,
            "policy/clip_fraction": clip_fraction,
            "value/explained_variance": explained_variance(rollout.values, returns),
        }
        self._require_finite(metrics)
        return metrics

    def _require_finite(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            if not isfinite(value):
                raise Divergence(f"{name} = {value}")
        if not self._weights.isfinite().all():
            raise Divergence("a weight is not finite")


def one_tensor(policy: ActorCritic) -> nn.Parameter:
    """All parameters in one flat tensor, gradients in another; the policy's become views of them.

    One call of Adam and of the norm then serves a dozen small tensors: a tenth of an update.
    """
    parameters = list(policy.parameters())
    flat = nn.Parameter(nn.utils.parameters_to_vector(parameters).detach().clone())
    flat.grad = torch.zeros_like(flat)
    sizes = [parameter.numel() for parameter in parameters]
    parts = zip(
        parameters, torch.split(flat.data, sizes), torch.split(flat.grad, sizes), strict=True
    )
    for parameter, weights, gradient in parts:
        parameter.data, parameter.grad = weights.view_as(parameter), gradient.view_as(parameter)
    return flat


def normalised(advantages: Tensor) -> Tensor:
    """Shifted to mean 0, scaled to standard deviation 1."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var[R - V] / Var[R]: 1 is a perfect critic, 0 no better than a constant."""
    return 1 - float((returns - values).var() / (returns.var() + 1e-8))
