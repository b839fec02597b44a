"""The PPO update: from a rollout to better weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import ceil, isfinite, sqrt
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import mse_loss

from lander.adam import FlatAdam
from lander.advantages import ADVANTAGES
from lander.config import PPOConfig
from lander.distributions import Distribution
from lander.graph import GraphCache
from lander.policy import ActorCritic, Prediction
from lander.rollout import Rollout
from lander.surrogates import SURROGATES, Limits

EXPLODED = 2.0**24
"""Size from which a loss is useless: float32 has 24 bits, so V and V + 1 are the same number, and
an advantage keeps nothing of a scaled reward, which is about 1. The same holds for a ratio."""
ROUNDING = 2.0**-20
"""Relative error of a float32 sum of many terms."""


class Divergence(ArithmeticError):
    """Training has reached numbers that it cannot learn from; the message names the number and the
    update."""


def require_finite(metrics: Mapping[str, float]) -> None:
    """Raise Divergence for the first metric that is not finite."""
    for name, value in metrics.items():
        if not isfinite(value):
            raise Divergence(f"{name} = {value}")


@dataclass(frozen=True, slots=True)
class Batch:
    """B transitions, flattened out of a rollout."""

    obs: Tensor
    """(B, obs)."""
    actions: Tensor
    """(B, A)."""
    log_probs: Tensor
    """(B,): log pi_old(a|s)."""
    pi: Distribution | None
    """pi_old(.|s), B rows; None where the surrogate asks for no divergence from it."""
    values: Tensor
    """(B,): V_old(s)."""
    advantages: Tensor
    """(B,)."""
    returns: Tensor
    """(B,): the critic's target, A + V_old: TD(lambda) with gae."""

    @classmethod
    def of(
        cls, rollout: Rollout, config: PPOConfig, *, advantages: Tensor, returns: Tensor
    ) -> Batch:
        """A whole rollout with its advantages and returns, (T, N) each."""
        return cls(
            obs=rollout.obs.flatten(0, 1),
            actions=rollout.actions.flatten(0, 1),
            log_probs=rollout.log_probs.flatten(),
            pi=rollout.pi if SURROGATES[config.surrogate].uses_kl else None,
            values=rollout.values.flatten(),
            advantages=advantages.flatten(),
            returns=returns.flatten(),
        )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that it consists of; `like` puts them together again."""
        plain = (self.obs, self.actions, self.log_probs, self.values, self.advantages, self.returns)
        return plain if self.pi is None else plain + self.pi.tensors

    def like(self, tensors: Sequence[Tensor]) -> Batch:
        """A batch of the same kind with other tensors."""
        obs, actions, log_probs, values, advantages, returns, *pi = tensors
        old = None if self.pi is None else self.pi.like(*pi)
        return Batch(obs, actions, log_probs, old, values, advantages, returns)

    def minibatches(self, size: int, *, generator: torch.Generator) -> Iterator[Batch]:
        """All transitions once, in random order, at most `size` at a time, in like shares."""
        # one gather per epoch: slices of the result cost nothing
        shuffled = self.rows(torch.randperm(len(self.obs), generator=generator))
        count = ceil(len(self.obs) / size)
        bounds = [len(self.obs) * k // count for k in range(count + 1)]
        for start, end in pairwise(bounds):
            yield shuffled.rows(slice(start, end))

    def rows(self, index: Tensor | slice) -> Batch:
        """Some of the transitions, in the order of `index`."""

        def some(tensor: Tensor) -> Tensor:
            # with a tensor in brackets it would take three times as long
            return tensor[index] if isinstance(index, slice) else tensor.index_select(0, index)

        return Batch(
            obs=some(self.obs),
            actions=some(self.actions),
            log_probs=some(self.log_probs),
            pi=None if self.pi is None else self.pi.rows(index),
            values=some(self.values),
            advantages=some(self.advantages),
            returns=some(self.returns),
        )


@dataclass(frozen=True, slots=True)
class Loss:
    """PPO's objective on one minibatch."""

    total: Tensor
    """A scalar, which a gradient step lowers."""
    terms: Tensor
    """(3,): policy, value (zero without a critic), entropy."""
    log_ratio: Tensor
    """(B,): log pi(a|s) - log pi_old(a|s), detached."""


@dataclass(frozen=True, slots=True)
class MinibatchLoss:
    """The part of a minibatch's `Loss` that is needed until the update ends."""

    terms: Tensor
    """(3,): policy, value, entropy."""
    log_ratio: Tensor
    """(M,)."""
    stepped: bool
    """False for the one, if any, at which `kl_stop` ended the update."""


def ppo_loss(
    policy: Callable[[Tensor], Prediction], batch: Batch, config: PPOConfig, limits: Limits
) -> Loss:
    """Surrogate, value error and entropy bonus (arXiv:1707.06347, eqs. 7 to 9).

    L = -mean(surrogate(r, A)) + c1 mean((V - R)^2) / 2 - c2 mean(H)

    >>> from lander.distributions import Categorical
    >>> actions, pi = torch.tensor([[0], [1]]), Categorical(torch.zeros(2, 1, 2))
    >>> advantages, returns = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0])
    >>> batch = Batch(
    ...     obs=torch.zeros(2, 4), actions=actions, log_probs=pi.log_prob(actions), pi=pi,
    ...     values=torch.zeros(2), advantages=advantages, returns=returns,
    ... )
    >>> config = PPOConfig(advantage_norm="none", entropy_coef=0.0)
    >>> predict = lambda obs: Prediction(pi, torch.zeros(len(obs)))
    >>> loss = ppo_loss(predict, batch, config, Limits.of(config))
    >>> loss.terms.tolist()[:2], float(loss.total)  # r is 1, c1 is 0.5
    ([-2.0, 1.0], -1.5)
    """
    prediction = policy(batch.obs)
    pi, values = prediction.pi, prediction.values
    log_ratio = pi.log_prob(batch.actions) - batch.log_probs
    ratio = log_ratio.exp()
    advantages = batch.advantages
    if config.advantage_norm == "minibatch":
        advantages = normalised(advantages)

    objective = SURROGATES[config.surrogate].objective
    surrogate = objective(ratio, advantages, partial(divergence, batch, pi), limits)
    error = (
        torch.zeros_like(surrogate)
        if values is None
        else value_error(values, batch, clip=config.value_clip)
    )
    terms = torch.stack((-surrogate, error, pi.entropy())).mean(1)
    total = terms @ torch.tensor((1.0, config.value_coef, -config.entropy_coef))
    return Loss(total, terms.detach(), log_ratio.detach())


def divergence(batch: Batch, pi: Distribution) -> Tensor:
    """KL(old || new) in each state, (B,), for a surrogate that uses it."""
    assert batch.pi is not None
    return batch.pi.kl(pi)


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """mean(r - 1 - log r), an estimate of KL(old || new): k3 of joschu.net/blog/kl-approx.html."""
    return (log_ratio.exp() - 1 - log_ratio).mean()


def value_error(values: Tensor, batch: Batch, *, clip: float | None) -> Tensor:
    """max((V - R)^2, (V_old + clip(V - V_old, -c, c) - R)^2) / 2, (B,); without c the first alone.

    The larger error, so that a step which lands outside the range gains nothing by it.
    """
    squares = mse_loss(values, batch.returns, reduction="none")
    if clip is not None:
        near = batch.values + (values - batch.values).clamp(-clip, clip)
        squares = torch.max(squares, mse_loss(near, batch.returns, reduction="none"))
    return 0.5 * squares


def update_metrics(
    losses: Sequence[MinibatchLoss], batch: Batch, config: PPOConfig, *, has_critic: bool
) -> dict[str, float]:
    """An update's numbers by the names in `lander.metrics`; some belong to an option and are
    recorded only with it."""
    policy, value, entropy = torch.stack([loss.terms for loss in losses]).mean(0).tolist()
    log_ratio = torch.cat([loss.log_ratio for loss in losses])
    numbers = {
        "loss/policy": policy,
        "policy/entropy": entropy,
        "policy/approx_kl": float(approximate_kl(log_ratio)),
        **SURROGATES[config.surrogate].metrics(log_ratio, config),
    }
    if has_critic:
        numbers["loss/value"] = value
        explained = explained_variance(batch.values, batch.returns)
        numbers |= {} if explained is None else {"value/explained_variance": explained}
    if config.kl_stop is not None:
        numbers["policy/gradient_steps"] = float(sum(loss.stepped for loss in losses))
    return numbers


class Agent:
    """Improves a policy, one rollout at a time."""

    def __init__(self, policy: ActorCritic, config: PPOConfig) -> None:
        self._policy = policy
        self._config = config
        self._kl_coef = config.kl_coef
        critic = policy.critic_parameters() if config.critic_learning_rate is not None else []
        apart = {id(parameter) for parameter in critic}
        rest = [part for part in policy.parameters() if id(part) not in apart]
        self._adam = FlatAdam([group for group in (rest, critic) if group])
        self._calls = GraphCache()

    def update(
        self, rollout: Rollout, *, remaining: float, generator: torch.Generator
    ) -> dict[str, float]:
        """K epochs of minibatch Adam over the rollout; means of the loss terms.

        `remaining` is the share of the budget that is left, 1 at first: schedules follow it.

        Raises:
            Divergence: a loss, a weight or an action is no longer finite, or a loss has exploded.
        """
        config = self._scheduled(remaining)
        advantages = ADVANTAGES[config.advantage](rollout, config)
        returns = advantages + rollout.values
        if config.advantage_norm == "batch":
            advantages = normalised(advantages)
        batch = Batch.of(rollout, config, advantages=advantages, returns=returns)
        losses = list(self._epochs(batch, config, generator=generator))
        has_critic = self._policy.critic is not None
        metrics = update_metrics(losses, batch, config, has_critic=has_critic)
        self._require_sound(metrics, rollout)
        adapt = SURROGATES[config.surrogate].adapt
        if adapt is not None:
            self._kl_coef = adapt(config.kl_coef, self._kl(rollout), config)
        return metrics

    def _scheduled(self, remaining: float) -> PPOConfig:
        """The config as it stands now: with the numbers that schedules have changed."""
        config = replace(self._config, kl_coef=self._kl_coef)
        if config.clip_range_schedule == "linear":
            config = replace(config, clip_range=config.clip_range * remaining)
        if config.learning_rate_schedule == "linear":
            rate, own = config.learning_rate, config.critic_learning_rate
            config = replace(
                config,
                learning_rate=rate * remaining,
                critic_learning_rate=None if own is None else own * remaining,
            )
        return config

    def _epochs(
        self, batch: Batch, config: PPOConfig, *, generator: torch.Generator
    ) -> Iterator[MinibatchLoss]:
        """Make the gradient steps, until a minibatch shows that the policy has gone too far."""
        limits = Limits.of(config).tensors
        rates = [
            rate for rate in (config.learning_rate, config.critic_learning_rate) if rate is not None
        ]

        def clipped_gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
            """The gradient, then the loss's terms and log r."""
            near, minibatch = Limits(*tensors[: len(limits)]), batch.like(tensors[len(limits) :])
            loss = ppo_loss(self._policy, minibatch, config, near)
            parts = torch.autograd.grad(loss.total, self._adam.parameters)
            gradient = self._adam.flattened(parts)
            scale = (config.max_grad_norm / (vector_norm(gradient) + 1e-6)).clamp(max=1)
            return gradient * scale, loss.terms, loss.log_ratio

        for _ in range(config.update_epochs):
            for minibatch in batch.minibatches(config.minibatch_size, generator=generator):
                # the numbers that schedules change are among the limits
                gradient, terms, log_ratio = self._calls(
                    clipped_gradient, (*limits, *minibatch.tensors), constants=self._config
                )
                if config.kl_stop is not None and approximate_kl(log_ratio) > config.kl_stop:
                    yield MinibatchLoss(terms, log_ratio, stepped=False)
                    return
                self._adam.gradient.copy_(gradient)
                self._adam.step(rates)
                yield MinibatchLoss(terms, log_ratio, stepped=True)

    @torch.no_grad()
    def _kl(self, rollout: Rollout) -> float:
        """Mean KL(old || new) over a rollout."""
        return float(rollout.pi.kl(self._policy.distribution(rollout.obs.flatten(0, 1))).mean())

    @torch.no_grad()
    def _require_sound(self, metrics: Mapping[str, float], rollout: Rollout) -> None:
        require_finite(metrics)
        if not self._adam.weights.isfinite().all():
            raise Divergence("a weight is not finite")
        # finite weights may overflow in sums too; the last states stand for those to come
        pi = self._policy.distribution(rollout.obs[-1])
        if not all(part.isfinite().all() for part in pi.tensors):
            raise Divergence("an action is not finite")
        # the value loss is half a square: its root is the critic's error
        sizes = {"loss/policy": abs(metrics["loss/policy"])}
        sizes["loss/value"] = sqrt(2 * metrics.get("loss/value", 0.0))
        for name, size in sizes.items():
            if size > EXPLODED:
                raise Divergence(f"{name} = {metrics[name]:.6g} has exploded")

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs besides the policy's weights."""
        return {"adam": self._adam.state(), "kl_coef": self._kl_coef}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state` of an agent."""
        self._adam.restore(state["adam"])
        self._kl_coef = float(state["kl_coef"])


def normalised(advantages: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1; a single one is unchanged."""
    if advantages.numel() < 2:
        return advantages
    centred = advantages - advantages.mean()
    std = vector_norm(centred) / sqrt(centred.numel() - 1)  # `std` takes ten times as long
    result: Tensor = centred / (std + 1e-8)
    return result


def explained_variance(values: Tensor, returns: Tensor) -> float | None:
    """1 - Var[R - V] / Var[R]: 1 is a perfect critic, 0 no better than a constant.

    None where returns differ by no more than the rounding of their sums: a quotient of rounding
    errors tells nothing about the critic.
    """
    values, returns = values.double(), returns.double()
    rounding = ROUNDING * max(float(values.abs().max()), float(returns.abs().max()))
    if float(returns.max() - returns.min()) <= rounding:
        return None
    return 1 - float((returns - values).var() / returns.var())
