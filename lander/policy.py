"""The actor-critic network: pi(a|s) and V(s)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import sqrt

import torch
from torch import Tensor, nn

from lander.config import PolicyConfig, TrainConfig
from lander.distributions import Distribution
from lander.env import ActionSpace, spaces
from lander.heads import make_head
from lander.running_stats import RunningMeanStd

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": partial(nn.ReLU, inplace=True),
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """The network's outputs for B states."""

    pi: Distribution
    values: Tensor | None
    """(B,): V(s), in units of the scaled reward; None without a critic."""


class ActorCritic(nn.Module):
    """Two MLPs, an actor and a critic, with hidden layers of their own or shared ones.

    It also holds the running statistics of observations and rewards, if the config uses them.
    """

    def __init__(
        self,
        obs_dim: int,
        action_space: ActionSpace,
        config: TrainConfig,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        shape = config.policy
        width = shape.hidden_sizes[-1]
        self.head = make_head(action_space, config)
        self._obs_clip = config.env.obs_clip
        self.obs_moments = RunningMeanStd(obs_dim) if config.env.obs_norm else None
        self.reward_moments = RunningMeanStd() if config.env.reward_scale == "running" else None
        self.actor_trunk = trunk(obs_dim, shape, generator=generator)
        self.critic_trunk: nn.Sequential | None = None
        self.critic: nn.Linear | None = None
        if shape.critic:
            self.critic_trunk = (
                self.actor_trunk
                if shape.trunk == "shared"
                else trunk(obs_dim, shape, generator=generator)
            )
        self.actor = linear(width, self.head.outputs, shape, gain=0.01, generator=generator)
        if shape.critic:
            self.critic = linear(width, 1, shape, gain=1.0, generator=generator)

    def forward(self, obs: Tensor) -> Prediction:
        """pi(.|s) and V(s) for observations (B, obs)."""
        seen = self.normalise(obs)
        features = self.actor_trunk(seen)
        pi = self.head.distribution(self._outputs(features))
        if self.critic is None or self.critic_trunk is None:
            return Prediction(pi, None)
        if self.critic_trunk is not self.actor_trunk:
            features = self.critic_trunk(seen)
        return Prediction(pi, self.critic(features).squeeze(-1))

    def distribution(self, obs: Tensor) -> Distribution:
        """pi(.|s) for observations (B, obs)."""
        return self.head.distribution(self._outputs(self.actor_trunk(self.normalise(obs))))

    def act(self, obs: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions for observations (B, obs), as the distribution and as the environment sees them:
        those to which the `noise` of one draw leads, or the most probable ones."""
        pi = self.distribution(obs)
        actions = pi.mode() if noise is None else pi.pick(noise)
        return actions, self.head.to_env(actions)

    def value(self, obs: Tensor) -> Tensor:
        """V(s), (B,), for observations (B, obs); zero without a critic."""
        if self.critic is None or self.critic_trunk is None:
            return torch.zeros(len(obs))
        values: Tensor = self.critic(self.critic_trunk(self.normalise(obs)))
        return values.squeeze(-1)

    def _outputs(self, features: Tensor) -> Tensor:
        """The actor's last layer: (B, outputs) from features (B, H)."""
        # (outputs, B) in memory: the product takes half the time, and a softmax needs no copy
        return (self.actor.weight @ features.T + self.actor.bias.unsqueeze(1)).T

    def normalise(self, obs: Tensor) -> Tensor:
        """The networks' inputs from raw observations (B, obs)."""
        if self.obs_moments is None:
            return obs
        return self.obs_moments.normalise(obs, clip=self._obs_clip)

    def critic_parameters(self) -> list[nn.Parameter]:
        """The parameters that serve the value alone."""
        actor = {id(parameter) for parameter in self.actor_trunk.parameters()}
        parts = [part for part in (self.critic_trunk, self.critic) if part is not None]
        return [p for part in parts for p in part.parameters() if id(p) not in actor]


def make_policy(config: TrainConfig, *, generator: torch.Generator) -> ActorCritic:
    """An untrained policy for the environment of a resolved config."""
    obs_dim, action_space = spaces(config.env)
    return ActorCritic(obs_dim, action_space, config, generator=generator)


class DeterministicActor(nn.Module):
    """The policy for use elsewhere: raw observations in, deterministic env actions out.

    >>> from lander.config import EnvConfig
    >>> from lander.resolve import resolve
    >>> config = resolve(TrainConfig(env=EnvConfig(id="CartPole-v1"))).config
    >>> policy = make_policy(config, generator=torch.Generator())
    >>> DeterministicActor(policy)(torch.zeros(3, 4)).shape
    torch.Size([3])
    """

    def __init__(self, policy: ActorCritic) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor) -> Tensor:
        """(B, obs), of any number type -> (B,) int64 for Discrete, (B, *shape) float32 for Box."""
        return self.policy.head.to_env(self.policy.distribution(obs.float()).mode())


class Linear(nn.Linear):
    """x W^T + b as two operations: TorchScript (`lander.graph`) makes two of torch's single one,
    which rounds differently."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        return (x @ self.weight.T).add_(self.bias)  # in place, without another buffer


def trunk(inputs: int, config: PolicyConfig, *, generator: torch.Generator) -> nn.Sequential:
    """Hidden layers with an activation after each."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip((inputs, *config.hidden_sizes), config.hidden_sizes, strict=False):
        layers += [
            linear(fan_in, fan_out, config, gain=sqrt(2), generator=generator),
            ACTIVATIONS[config.activation](),
        ]
    return nn.Sequential(*layers)


def linear(
    fan_in: int, fan_out: int, config: PolicyConfig, *, gain: float, generator: torch.Generator
) -> nn.Linear:
    """A linear layer initialised by `config.init`; `gain` is for orthogonal weights."""
    with torch.random.fork_rng(devices=()):  # its own initialisation draws from the global one
        layer = Linear(fan_in, fan_out)
    if config.init == "orthogonal":
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
        nn.init.zeros_(layer.bias)
    else:
        bound = 1 / sqrt(fan_in)
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    if fan_out > fan_in:  # long rows in memory: the first layer's gradient takes a quarter the time
        layer.weight.data = layer.weight.data.T.contiguous().T
    return layer
