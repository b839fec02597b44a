"""Everything a training run depends on: frozen dataclasses, the only place for defaults.

A `TrainConfig` plus the versions of this package, torch and Gymnasium determines a run: two calls
of `train` with equal configs return equal weights (on one kind of CPU, with one torch thread).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from itertools import pairwise
from math import isfinite
from typing import Annotated, Any, Final, Literal, cast

from pydantic import ConfigDict, Field, PlainValidator, Strict
from pydantic.dataclasses import dataclass

RULES = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

# strict: "100", true or 1.0 in the position of a whole number is a slip
Whole = Annotated[int, Strict()]
Real = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
Count = Annotated[Whole, Field(ge=1)]
Positive = Annotated[Real, Field(gt=0)]
NonNegative = Annotated[Real, Field(ge=0)]

MAX_ROLLOUT = 2**24
"""Transitions that one rollout may hold: about 1 GB for LunarLander."""
MAX_WEIGHTS = 10**8
"""Weights allowed between hidden layers: 0.4 GB, and three times that for Adam."""

Scalar = bool | int | float | str
"""A value that a study file, a command line and a recorded parameter can all hold."""
Kwargs = tuple[tuple[str, Scalar], ...]
"""Arguments by name, sorted."""
TAKEN: Final[Mapping[str, str]] = {
    "id": "that is env.id",
    "max_episode_steps": "that is env.time_limit",
    "render_mode": "lander sets it where it makes a picture",
    "disable_env_checker": "lander checks the interface itself",
}
"""Arguments that `gym.make` keeps for itself, and the field or code that sets each."""


def sorted_kwargs(given: object) -> Kwargs:
    """Arguments from a table, or from pairs.

    Raises:
        ValueError: a name that no argument can have, or a value that is no scalar.
    """
    try:
        table = dict(cast(Any, given))
    except (TypeError, ValueError):
        raise ValueError("must be a table of arguments") from None
    for name, value in table.items():
        if not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(f"{name!r} cannot be the name of an argument")
        if name in TAKEN:
            raise ValueError(f"{name} cannot be given here: {TAKEN[name]}")
        if not isinstance(value, Scalar) or (isinstance(value, float) and not isfinite(value)):
            raise ValueError(f"{name} must be a finite number, a word, true or false")
    return tuple(sorted(table.items()))


@dataclass(frozen=True, slots=True, config=RULES)
class EnvConfig:
    """The environment, how many copies of it, and how rewards, observations and actions are
    transformed."""

    id: str = "LunarLander-v3"
    """Gymnasium id; needs a flat Box observation and a Discrete or Box action space. module:Id-v0
    imports the module first, which registers it."""
    backend: Literal["gymnasium", "envpool"] = "gymnasium"
    """The library that steps the training environments. gymnasium: the stock ones, in Python;
    LunarLander's steps are computed here, with the same numbers. envpool: the same physics in C++
    (extra [fast]), faster, with other random numbers; such a run cannot be resumed. Evaluation
    always uses gymnasium."""
    num_envs: Annotated[Count, Field(le=65_536)] = 16
    """N, copies stepped side by side."""
    reward_scale: Positive | Literal["running"] = 0.03
    """The agent learns from reward * reward_scale; every recorded return is unscaled. running:
    from reward / (running std of the discounted return), clipped to +-10 (baselines'
    VecNormalize), for environments whose scale is unknown; its statistics are saved with the
    policy. Without a critic and with normalised advantages a constant scale cancels out."""
    bins: Annotated[Whole, Field(ge=2, le=4096)] | None = None
    """Cut each dimension of a Box action space into this many levels, both ends included (Tang and
    Agrawal 2020, arXiv:1901.10500). More levels steer more finely and learn more slowly. None: keep
    the action space continuous."""
    obs_norm: Flag = False
    """Shift and scale observations by their running mean and std (Engstrom et al. 2020,
    arXiv:2005.12729), for observations far from unit scale. The statistics are part of the policy
    and do not change during evaluation."""
    obs_clip: Positive = 10.0
    """Normalised observations are clipped to +- this."""
    step_cost: NonNegative = 0.0
    """Subtracted from every training reward before scaling, in raw units, so that hovering does not
    pay. Recorded returns do not include it."""
    time_limit: Annotated[Count, Field(le=10**9)] | None = None
    """Training episodes are truncated after this many steps, so that a hovering craft does not fill
    the rollouts. Evaluation plays whole episodes, unless the environment has no limit of its own.
    None: the environment's own limit."""
    kwargs: Annotated[Kwargs, PlainValidator(sorted_kwargs)] = ()
    """Arguments of the environment by name: env.kwargs.gravity, env.kwargs.enable_wind. Numbers,
    words, true or false; they apply to every copy in training and evaluation. Only with
    env.backend = gymnasium."""


@dataclass(frozen=True, slots=True, config=RULES)
class PolicyConfig:
    """The networks of the actor and the critic."""

    head: str = "auto"
    """The distribution that the actor's outputs stand for. auto: categorical for Discrete actions
    and for a Box cut into bins, gaussian for a continuous Box."""
    hidden_sizes: Annotated[
        tuple[Annotated[Count, Field(le=65_536)], ...], Field(min_length=1, max_length=64)
    ] = (64, 64)
    """Width of each hidden layer."""
    activation: Literal["relu", "tanh"] = "relu"
    """Nonlinearity after each hidden layer."""
    trunk: Literal["separate", "shared"] = "separate"
    """separate: actor and critic have their own hidden layers. shared: one set for both, so that
    value_coef weighs the critic's gradient against the actor's."""
    critic: Flag = True
    """Learn V(s). false: plain policy gradient (Williams 1992); it needs whole episodes and an
    advantage without a critic."""
    init: Literal["orthogonal", "torch"] = "orthogonal"
    """orthogonal: gain sqrt(2), actor output 0.01, critic output 1, zero biases
    (Andrychowicz et al. 2021, arXiv:2006.05990). torch: uniform in +-1/sqrt(fan_in)."""
    explore: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Share of uniformly random choices mixed into a categorical, as in epsilon-greedy. It is part
    of the distribution, so log-probabilities are exact. Deterministic actions are without it."""
    std: Literal["learned", "fixed", "decayed"] = "learned"
    """The standard deviation, which does not depend on the state. learned: a parameter per
    dimension. fixed: always init_std. decayed: falls linearly to final_std over the budget
    (PPO-PyTorch lowers it in stairs)."""
    init_std: Positive = 1.0
    """Standard deviation before training, in units of half the action range (of 1 in a dimension
    without one). Below 0.2 LunarLander's side engines almost never fire by chance."""
    final_std: Positive = 0.1
    """Standard deviation at the end of the budget."""
    squash: Flag = False
    """Bound actions by tanh, with its log-determinant in log-probability and entropy (Haarnoja
    et al. 2018, arXiv:1801.01290, appendix C). false: clip the action for the environment."""


@dataclass(frozen=True, slots=True, config=RULES)
class PPOConfig:
    """Hyperparameters of the PPO update (Schulman et al. 2017, arXiv:1707.06347)."""

    rollout_steps: Annotated[Count, Field(le=MAX_ROLLOUT)] = 128
    """T, steps in each environment between two updates."""
    rollout_episodes: Annotated[Count, Field(le=100_000)] | None = None
    """Whole episodes between two updates instead of T steps, as REINFORCE needs them: a multiple of
    env.num_envs, so that each copy plays its share. The last rollout may exceed total_steps."""
    minibatch_size: Annotated[Whole, Field(ge=2, le=10**9)] = 512
    """M, transitions per gradient step; must divide N * T. With whole episodes: at most this many,
    in minibatches of nearly equal size; more than a rollout holds means the full batch."""
    update_epochs: Annotated[Count, Field(le=10_000)] = 10
    """K, passes over each rollout. More passes learn more from each step until the ratio leaves the
    clip range."""
    learning_rate: Positive = 3e-3
    """Adam's step size at the start of training; tune this first."""
    learning_rate_schedule: Literal["linear", "constant"] = "linear"
    """linear: both learning rates fall to zero over the budget. constant: they do not."""
    critic_learning_rate: Positive | None = None
    """A step size for the critic's own layers (PPO-PyTorch, Packt ch. 15). None: learning_rate."""
    advantage: str = "gae"
    """The estimate of how good a_t was, from plain policy gradient to GAE."""
    gamma: Annotated[Real, Field(gt=0, le=1)] = 0.999
    """Discount factor. With lower values the agent lands sooner and looks less far ahead."""
    gae_lambda: Annotated[Real, Field(ge=0, le=1)] = 0.98
    """lambda of GAE (arXiv:1506.02438): 0 is the TD error, 1 is Monte Carlo minus V."""
    n_step: Annotated[Count, Field(le=10_000)] = 5
    """n of n_step: rewards summed before V stands for the rest."""
    baseline: str = "none"
    """The baseline b that reward_to_go subtracts."""
    advantage_norm: Literal["none", "batch", "minibatch"] = "minibatch"
    """The set of advantages that is shifted to mean 0 and scaled to std 1."""
    surrogate: str = "clip"
    """The objective that keeps the new policy near the old one."""
    clip_range: Positive = 0.2
    """epsilon of the clipped surrogate, eq. 7."""
    clip_range_schedule: Literal["linear", "constant"] = "constant"
    """linear: clip_range falls to zero over the budget (PPO paper, table 5)."""
    kl_coef: NonNegative = 1.0
    """beta, weight of the KL penalty, eq. 8; with kl_adaptive its first value."""
    kl_target: Positive = 0.01
    """d_targ of kl_adaptive: beta doubles above 1.5 d_targ, halves below d_targ / 1.5."""
    kl_stop: Positive | None = None
    """End an update, before the step, once a minibatch's approximate KL exceeds this (Spinning Up's
    early stopping, without its factor 1.5). None: run all epochs."""
    value_coef: NonNegative = 0.5
    """c1, weight of the value loss, eq. 9."""
    value_clip: Positive | None = None
    """Clip V to V_old +- this in the value loss, in scaled-reward units; the larger of both errors
    counts, as in baselines' ppo2. None: off, which is usually better."""
    entropy_coef: NonNegative = 0.001
    """c2, weight of the entropy bonus, eq. 9."""
    max_grad_norm: Positive = 0.5
    """Larger gradients are scaled down to this global L2 norm."""


def rollout_trouble(
    *,
    num_envs: int,
    rollout_steps: int,
    rollout_episodes: int | None,
    minibatch_size: int,
    total_steps: int,
    checkpoints: int,
) -> str:
    """Why a training cannot be cut into rollouts and minibatches of these sizes; "" if it can.

    Plain arithmetic, so that a study can check every size that it searches.
    """
    if rollout_episodes is not None:
        if rollout_episodes % num_envs:
            return (
                f"ppo.rollout_episodes must be a multiple of env.num_envs: {rollout_episodes} is "
                f"none of {num_envs}"
            )
        return ""
    batch_size = num_envs * rollout_steps
    if batch_size > MAX_ROLLOUT:
        return (
            f"env.num_envs * ppo.rollout_steps, a rollout, must be at most {MAX_ROLLOUT} "
            f"steps: got {batch_size}"
        )
    if total_steps < batch_size:
        return (
            f"total_steps must hold at least one rollout of env.num_envs * ppo.rollout_steps "
            f"= {batch_size} steps: got {total_steps}"
        )
    if checkpoints > total_steps // batch_size:
        return (
            f"checkpoints must not exceed the number of updates: {checkpoints} do not fit in the "
            f"{total_steps // batch_size} rollouts of {batch_size} steps in total_steps = "
            f"{total_steps}: take {checkpoints * batch_size} steps, or fewer checkpoints"
        )
    if batch_size % minibatch_size:
        return (
            f"ppo.minibatch_size must divide env.num_envs * ppo.rollout_steps: "
            f"{minibatch_size} does not divide {batch_size}"
        )
    return ""


@dataclass(frozen=True, slots=True, config=RULES)
class TrainConfig:
    """One training run."""

    env: EnvConfig = field(default_factory=EnvConfig)
    """The environment."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """The networks."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """The algorithm."""
    total_steps: Annotated[Count, Field(le=10**12)] = 300_000
    """Budget in environment steps, summed over the N copies. Training ends with the last rollout
    that fits in, so it may take fewer."""
    checkpoints: Annotated[Count, Field(le=10_000)] = 5
    """Evaluations during training, evenly spaced in steps; the last is at the end."""
    eval_episodes: Annotated[Count, Field(le=10_000)] = 6
    """Deterministic episodes per checkpoint."""
    final_episodes: Annotated[Count, Field(le=100_000)] = 20
    """Deterministic episodes of the final evaluation."""
    sampled_episodes: Annotated[Count, Field(le=100_000)] = 4
    """How many of the final episodes are played once more with sampled actions, as in training: a
    diagnosis, by which nothing is chosen. The first of them, or all."""
    final_policy: Literal["last", "best"] = "last"
    """The policy that is kept, and that the final episodes measure. last: that of the end of the
    budget. best: that of the best checkpoint; the final episodes have other reset seeds than those
    that chose it."""
    final_seeds: Literal["tuning", "choice", "test", "report"] = "tuning"
    """The reset seeds of the final episodes. tuning: those that score the trials of a sweep.
    choice: those by which the best of its leaders is chosen. test: those on which that one is
    measured. report: those of results that are quoted. Nothing is chosen by the last two."""
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 0
    """Seeds environments, initial weights, action sampling and shuffling."""

    def __post_init__(self) -> None:
        weights = sum(one * other for one, other in pairwise(self.policy.hidden_sizes))
        if weights > MAX_WEIGHTS:
            raise ValueError(
                f"policy.hidden_sizes may have at most {MAX_WEIGHTS} weights between its layers, "
                f"got {weights}"
            )
        trouble = rollout_trouble(
            num_envs=self.env.num_envs,
            rollout_steps=self.ppo.rollout_steps,
            rollout_episodes=self.ppo.rollout_episodes,
            minibatch_size=self.ppo.minibatch_size,
            total_steps=self.total_steps,
            checkpoints=self.checkpoints,
        )
        if trouble:
            raise ValueError(trouble)

    @property
    def budget(self) -> int:
        """Environment steps at which training ends: the whole rollouts in `total_steps`, or
        `total_steps` itself with whole episodes, whose length is not known before."""
        if self.ppo.rollout_episodes is not None:
            return self.total_steps
        return self.total_steps - self.total_steps % self.rollout

    @property
    def rollout(self) -> int:
        """Environment steps of a rollout, over all copies, unless it is of whole episodes."""
        return self.env.num_envs * self.ppo.rollout_steps

    def checkpoint_at(self, env_steps: int) -> int:
        """How many of the checkpoints are due after `env_steps`: the k-th at k/K of the budget."""
        return min(self.checkpoints, self.checkpoints * env_steps // self.budget)


def whole_rollouts(config: TrainConfig) -> str:
    """Why a training takes fewer steps than `total_steps`."""
    whole, rollout = config.budget // config.rollout, config.rollout
    return f"the {whole:,} whole rollouts of {rollout:,} in total_steps = {config.total_steps:,}"
