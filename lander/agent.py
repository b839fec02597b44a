"""The PPO update: from a rollout to better weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise
from math import ceil, isfinite, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

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
    pi: Distribution
    """pi_old(.|s), B rows."""
    values: Tensor
    """(B,): V_old(s)."""
    advantages: Tensor
    """(B,)."""
    returns: Tensor
    """(B,): the critic's target, A + V_old: TD(lambda) with gae."""

    @classmethod
    def of(cls, rollout: Rollout, *, advantages: Tensor, returns: Tensor) -> Batch:
        """A whole rollout with its advantages and returns, (T, N) each."""
        return cls(
            obs=rollout.obs.flatten(0, 1),
            actions=rollout.actions.flatten(0, 1),
            log_probs=rollout.log_probs.flatten(),
            pi=rollout.pi,
            values=rollout.values.flatten(),
            advantages=advantages.flatten(),
            returns=returns.flatten(),
        )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that it consists of; `like` puts them together again."""
        plain = (self.obs, self.actions, self.log_probs, self.values, self.advantages, self.returns)
        return plain + self.pi.tensors

    def like(self, tensors: Sequence[Tensor]) -> Batch:
        """A batch of the same kind with other tensors."""
        obs, actions, log_probs, values, advantages, returns, *pi = tensors
        return Batch(obs, actions, log_probs, self.pi.like(*pi), values, advantages, returns)

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
        return Batch(
            obs=self.obs[index],
            actions=self.actions[index],
            log_probs=self.log_probs[index],
            pi=self.pi.rows(index),
            values=self.values[index],
            advantages=self.advantages[index],
            returns=self.returns[index],
        )


@dataclass(frozen=True, slots=True)
class Loss:
    """PPO's objective on one minibatch; every field is a scalar."""

    total: Tensor
    policy: Tensor
    value: Tensor
    """Zero without a critic."""
    entropy: Tensor
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
    >>> [float(part) for part in (loss.policy, loss.value, loss.total)]  # r is 1, c1 is 0.5
    [-2.0, 1.0, -1.5]
    """
    prediction = policy(batch.obs)
    pi, values = prediction.pi, prediction.values
    log_ratio = pi.log_prob(batch.actions) - batch.log_probs
    ratio = log_ratio.exp()
    advantages = batch.advantages
    if config.advantage_norm == "minibatch":
        advantages = normalised(advantages)

    objective = SURROGATES[config.surrogate].objective
    surrogate = objective(ratio, advantages, lambda: batch.pi.kl(pi), limits).mean()
    entropy = pi.entropy().mean()
    total = -surrogate - config.entropy_coef * entropy
    error = torch.zeros(())
    if values is not None:
        error = value_error(values, batch, clip=config.value_clip)
        total = total + config.value_coef * error
    return Loss(total, -surrogate, error, entropy, log_ratio.detach())


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """mean(r - 1 - log r), an estimate of KL(old || new): k3 of joschu.net/blog/kl-approx.html."""
    return (log_ratio.exp() - 1 - log_ratio).mean()


def value_error(values: Tensor, batch: Batch, *, clip: float | None) -> Tensor:
    """mean(max((V - R)^2, (V_old + clip(V - V_old, -c, c) - R)^2)) / 2, without c the first alone.

    The larger error, so that a step which lands outside the range gains nothing by it.
    """
    squares = (values - batch.returns).square()
    if clip is not None:
        near = batch.values + (values - batch.values).clamp(-clip, clip)
        squares = torch.max(squares, (near - batch.returns).square())
    return 0.5 * squares.mean()


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
        named = dict(policy.named_parameters())
        rest = {name: part for name, part in named.items() if id(part) not in apart}
        own = {name: part for name, part in named.items() if id(part) in apart}
        self._groups = [FlatParameters(group) for group in (rest, own) if group]
        groups = [{"params": [group.weights]} for group in self._groups]
        self._optimizer = torch.optim.Adam(groups, eps=1e-5, fused=True)
        self._call = GraphCache()

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
        batch = Batch.of(rollout, advantages=advantages, returns=returns)
        losses = list(self._epochs(batch, config, generator=generator))
        has_critic = self._policy.critic is not None
        metrics = update_metrics(losses, batch, config, has_critic=has_critic)
        self._require_sound(metrics, rollout)
        adapt = SURROGATES[config.surrogate].adapt
        if adapt is not None:
            self._kl_coef = adapt(config.kl_coef, self._kl(batch), config)
        return metrics

    def _scheduled(self, remaining: float) -> PPOConfig:
        """The config as it stands now; also sets the optimizer's step sizes."""
        config = self._config
        if config.clip_range_schedule == "linear":
            config = replace(config, clip_range=config.clip_range * remaining)
        scale = remaining if config.learning_rate_schedule == "linear" else 1.0
        rates = (config.learning_rate, config.critic_learning_rate or config.learning_rate)
        for group, rate in zip(self._optimizer.param_groups, rates, strict=False):
            group["lr"] = rate * scale
        return replace(config, kl_coef=self._kl_coef)

    def _epochs(
        self, batch: Batch, config: PPOConfig, *, generator: torch.Generator
    ) -> Iterator[MinibatchLoss]:
        """Make the gradient steps, until a minibatch shows that the policy has gone too far."""
        buffers = dict(self._policy.named_buffers())
        weights = [group.weights for group in self._groups]
        limits = Limits.of(config).tensors

        def clipped_gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
            """One gradient per group of weights, then the loss's terms and log r; a function of its
            arguments alone."""
            rest = iter(tensors)
            flat = [part.detach().requires_grad_() for part in islice(rest, len(weights))]
            state = dict(zip(buffers, islice(rest, len(buffers)), strict=True))
            for group, part in zip(self._groups, flat, strict=True):
                state |= group.views(part)
            near = Limits(*islice(rest, len(limits)))
            minibatch = batch.like(tuple(rest))
            loss = ppo_loss(partial(functional_call, self._policy, state), minibatch, config, near)
            gradients = torch.autograd.grad(loss.total, flat)
            norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
            scale = (config.max_grad_norm / (norm + 1e-6)).clamp(max=1)
            terms = torch.stack((loss.policy, loss.value, loss.entropy)).detach()
            return *(gradient * scale for gradient in gradients), terms, loss.log_ratio

        for _ in range(config.update_epochs):
            for minibatch in batch.minibatches(config.minibatch_size, generator=generator):
                inputs = (*weights, *buffers.values(), *limits, *minibatch.tensors)
                # the numbers that schedules change are among the limits
                *gradients, terms, log_ratio = self._call(
                    clipped_gradient, inputs, constants=self._config
                )
                if config.kl_stop is not None and approximate_kl(log_ratio) > config.kl_stop:
                    yield MinibatchLoss(terms, log_ratio, stepped=False)
                    return
                for group, gradient in zip(self._groups, gradients, strict=True):
                    group.gradient.copy_(gradient)
                self._optimizer.step()
                yield MinibatchLoss(terms, log_ratio, stepped=True)

    @torch.no_grad()
    def _kl(self, batch: Batch) -> float:
        """Mean KL(old || new) over the batch."""
        return float(batch.pi.kl(self._policy.distribution(batch.obs)).mean())

    @torch.no_grad()
    def _require_sound(self, metrics: Mapping[str, float], rollout: Rollout) -> None:
        require_finite(metrics)
        if not all(group.weights.isfinite().all() for group in self._groups):
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
        return {"optimizer": self._optimizer.state_dict(), "kl_coef": self._kl_coef}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state` of an agent."""
        # a copy: the optimizer keeps these tensors and changes them
        self._optimizer.load_state_dict(deepcopy(dict(state["optimizer"])))
        self._kl_coef = float(state["kl_coef"])


class FlatParameters:
    """A module's parameters as views of one flat tensor, their gradients of another.

    One call of Adam and of the norm then serves a dozen small tensors: a tenth of an update.
    """

    def __init__(self, named: Mapping[str, nn.Parameter]) -> None:
        self._shapes = {name: parameter.shape for name, parameter in named.items()}
        flat = nn.utils.parameters_to_vector(named.values()).detach().clone()
        self.weights = nn.Parameter(flat)
        self.gradient = self.weights.grad = torch.zeros_like(flat)
        weights, gradients = self.views(self.weights.data), self.views(self.gradient)
        for name, parameter in named.items():
            parameter.data, parameter.grad = weights[name], gradients[name]

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters within a tensor like `weights`."""
        parts = torch.split(flat, [shape.numel() for shape in self._shapes.values()])
        named = zip(self._shapes.items(), parts, strict=True)
        return {name: part.view(shape) for (name, shape), part in named}


def normalised(advantages: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1; a single one is unchanged."""
    if advantages.numel() < 2:
        return advantages
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


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
