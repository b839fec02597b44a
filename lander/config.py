"""Everything a training run depends on: frozen dataclasses, the only place for defaults.

A `TrainConfig` plus the versions of this package, torch and Gymnasium determines a run: two calls
of `train` with equal configs return equal weights (on one kind of CPU, with one torch thread).
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

RULES = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True, config=RULES)
class EnvConfig:
    """Which environment to play, and how the agent is let at it."""

    id: str = "LunarLander-v3"
    """Gymnasium id; needs a flat Box observation and a Discrete or flat Box action space."""
    num_envs: Count = 16
    """N, copies stepped side by side."""
    reward_scale: Positive = 0.03
    """The agent learns from reward * reward_scale; every recorded return stays unscaled."""
    bins: Annotated[int, Field(ge=2)] | None = None
    """Cut each dimension of a Box action space into this many levels, both ends included.
    None: leave the action space as it is."""


@dataclass(frozen=True, slots=True, config=RULES)
class PolicyConfig:
    """Shape of the actor and the critic."""

    head: Literal["auto", "categorical", "gaussian"] = "auto"
    """What the actor's outputs mean. auto: categorical for Discrete actions and for a Box cut into
    bins, gaussian (diagonal, state-independent std) for a Box as it is."""
    hidden_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] = (64, 64)
    """Width of each hidden layer."""
    activation: Literal["relu", "tanh"] = "relu"
    """Nonlinearity after each hidden layer."""
    trunk: Literal["separate", "shared"] = "separate"
    """separate: actor and critic have hidden layers of their own. shared: one set for both."""
    init: Literal["orthogonal", "torch"] = "orthogonal"
    """orthogonal: gain sqrt(2), actor output 0.01, critic output 1, zero biases
    (Andrychowicz et al. 2021, arXiv:2006.05990). torch: uniform in +-1/sqrt(fan_in)."""
    init_std: Positive = 1.0
    """gaussian head: standard deviation before training, in units of half the action range."""


@dataclass(frozen=True, slots=True, config=RULES)
class PPOConfig:
    """Hyperparameters of the PPO update (Schulman et al. 2017, arXiv:1707.06347)."""

    rollout_steps: Count = 128
    """T, steps in each environment between two updates."""
    minibatch_size: Annotated[int, Field(ge=2)] = 256
    """M, transitions per gradient step; must divide N * T."""
    update_epochs: Count = 8
    """K, passes over each rollout."""
    learning_rate: Positive = 3e-3
    """Adam's step size at the start of training."""
    anneal: bool = True
    """Decay the learning rate linearly to zero over the budget."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.999
    """Discount factor."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.98
    """lambda of GAE (arXiv:1506.02438): 0 is the TD error, 1 is Monte Carlo minus V."""
    clip_range: Positive = 0.2
    """epsilon of the clipped surrogate, eq. 7."""
    value_coef: NonNegative = 0.5
    """c1, weight of the value loss, eq. 9."""
    entropy_coef: NonNegative = 0.001
    """c2, weight of the entropy bonus, eq. 9."""
    max_grad_norm: Positive = 0.5
    """The gradient is scaled down to this global L2 norm."""
    advantage_norm: Literal["none", "batch", "minibatch"] = "minibatch"
    """Where advantages are shifted to mean 0 and scaled to std 1."""


@dataclass(frozen=True, slots=True, config=RULES)
class TrainConfig:
    """One training run."""

    env: EnvConfig = field(default_factory=EnvConfig)
    """The environment."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """The networks."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """The algorithm."""
    total_steps: Count = 300_000
    """Budget in environment steps, summed over the N copies."""
    checkpoints: Count = 5
    """Evaluations along the way, evenly spaced in steps; the last is at the end."""
    eval_episodes: Count = 6
    """Deterministic episodes per checkpoint."""
    final_episodes: Count = 20
    """Episodes of the final evaluation, deterministic and again sampled."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Determines environments, initial weights, action sampling and shuffling."""

    def __post_init__(self) -> None:
        if self.total_steps < self.batch_size:
            raise ValueError(
                f"total_steps must hold at least one rollout of env.num_envs * ppo.rollout_steps "
                f"= {self.batch_size} steps: got {self.total_steps}"
            )
        if self.checkpoints > self.num_updates:
            raise ValueError(
                f"checkpoints must not exceed the number of updates: "
                f"{self.checkpoints} do not fit in {self.num_updates}"
            )
        if self.batch_size % self.ppo.minibatch_size:
            raise ValueError(
                f"ppo.minibatch_size must divide env.num_envs * ppo.rollout_steps: "
                f"{self.ppo.minibatch_size} does not divide {self.batch_size}"
            )

    @property
    def batch_size(self) -> int:
        """N * T, transitions per update."""
        return self.env.num_envs * self.ppo.rollout_steps

    @property
    def num_updates(self) -> int:
        """Whole rollouts that fit in `total_steps`."""
        return self.total_steps // self.batch_size

    @property
    def checkpoint_updates(self) -> tuple[int, ...]:
        """After which updates (counted from 1) to evaluate: the k-th at k/K of the budget."""
        return tuple(
            -(-k * self.num_updates // self.checkpoints) for k in range(1, self.checkpoints + 1)
        )

    def learning_rate_at(self, update: int) -> float:
        """Step size of an update (counted from 1): the full rate first, then towards zero."""
        decay = (update - 1) / self.num_updates if self.ppo.anneal else 0.0
        return self.ppo.learning_rate * (1 - decay)
