"""A config as the command line of CleanRL's ppo.py or ppo_continuous_action.py.

Their networks and environments are in the script: what of them differs is named, with the line to
change.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lander.config import TrainConfig
from lander.export.fields import (
    MEASURES,
    Limit,
    comments,
    is_binned,
    is_continuous,
    is_off,
    never,
)
from lander.export.sb3 import LIMITS as OF_SB3
from lander.resolve import Resolved

DISCRETE: Final = "cleanrl/ppo.py"
CONTINUOUS: Final = "cleanrl/ppo_continuous_action.py"


def scale_is_one(config: TrainConfig) -> bool:
    """Whether the agent learns from the rewards of the environment as they are."""
    return config.env.reward_scale == 1 and not is_continuous(config)


LIMITS: Final[Mapping[str, Limit]] = {
    **dict.fromkeys((*MEASURES, "final_episodes"), Limit(never, "the script does not evaluate")),
    "final_policy": Limit(is_off("final_policy", "last"), "the last policy is the one it keeps"),
    "env.backend": OF_SB3["env.backend"],
    "env.reward_scale": Limit(
        scale_is_one,
        "add env = gym.wrappers.TransformReward(env, lambda reward: SCALE * reward) to make_env; "
        "running is NormalizeReward, which ppo_continuous_action.py has there: take it out of that "
        "for a constant scale",
    ),
    "env.step_cost": Limit(
        is_off("env.step_cost", 0.0), "subtract it in the same wrapper, before the factor"
    ),
    "env.bins": Limit(
        is_off("env.bins", None),
        "add env = Bins(env, BINS, joint=True) of lander.export.wrappers to make_env: one "
        "categorical over all combinations, as ppo.py takes one Discrete action",
    ),
    "env.obs_norm": Limit(
        lambda config: config.env.obs_norm == is_continuous(config),
        "add or take out NormalizeObservation in make_env: ppo_continuous_action.py has it",
    ),
    "env.obs_clip": Limit(
        lambda config: is_continuous(config) and config.env.obs_clip == 10,
        "clip in make_env, after NormalizeObservation",
    ),
    "env.time_limit": Limit(
        is_off("env.time_limit", None), "give gym.make in make_env max_episode_steps"
    ),
    "env.kwargs": Limit(never, "give it to gym.make in make_env"),
    "policy.head": Limit(
        lambda config: config.policy.head in ("gaussian", "joint") or not is_binned(config),
        "one categorical over all combinations of bins",
    ),
    "policy.hidden_sizes": Limit(
        is_off("policy.hidden_sizes", (64, 64)), "two hidden layers of 64: change class Agent"
    ),
    "policy.activation": Limit(
        is_off("policy.activation", "tanh"), "tanh: change nn.Tanh() in class Agent"
    ),
    "policy.trunk": OF_SB3["policy.trunk"],
    "policy.critic": OF_SB3["policy.critic"],
    "policy.init": Limit(is_off("policy.init", "orthogonal"), "orthogonal: change layer_init"),
    "policy.explore": OF_SB3["policy.explore"],
    "policy.std": OF_SB3["policy.std"],
    "policy.final_std": OF_SB3["policy.final_std"],
    "policy.init_std": Limit(
        is_off("policy.init_std", 1.0),
        "1, in the environment's own units: change actor_logstd in class Agent",
    ),
    "policy.squash": OF_SB3["policy.squash"],
    "ppo.rollout_episodes": Limit(
        is_off("ppo.rollout_episodes", None), "rollouts of num-steps, whatever ends in them"
    ),
    **{
        name: OF_SB3[name]
        for name in (
            "ppo.critic_learning_rate",
            "ppo.advantage",
            "ppo.n_step",
            "ppo.baseline",
            "ppo.advantage_norm",
            "ppo.surrogate",
            "ppo.kl_coef",
            "ppo.kl_target",
        )
    },
    "ppo.clip_range_schedule": Limit(
        is_off("ppo.clip_range_schedule", "constant"), "it stays as it is at the start"
    ),
    "ppo.kl_stop": Limit(
        is_off("ppo.kl_stop", None),
        "looked at after each epoch, by its last minibatch, not before each step",
    ),
    "ppo.value_clip": Limit(
        lambda config: config.ppo.value_clip in (None, config.ppo.clip_range),
        "the value loss is clipped at clip-coef",
    ),
}
"""What becomes of the fields that the scripts know in part or not at all."""


def command(resolved: Resolved, *, title: str) -> str:
    """The shell command, after comments about what it lacks."""
    config = resolved.config
    script = CONTINUOUS if is_continuous(config) else DISCRETE
    end = (
        "An episode that a time limit cuts off ends there for CleanRL; lander lets V stand for the "
        "rest of its rewards."
    )
    head = comments(resolved, LIMITS, title=title) + comments(resolved, {}, title=end)
    words = [f"python {script}", *options(config)]
    return head + " \\\n    ".join(words) + "\n"


def options(config: TrainConfig) -> Iterator[str]:
    """--NAME VALUE, and --NAME or --no-NAME."""
    for name, value in arguments(config).items():
        if value is None:
            continue
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield f"--{name} {shlex.quote(str(value))}"


def arguments(config: TrainConfig) -> dict[str, Any]:
    """The numbers of a resolved config by the names of the scripts' arguments; a value loss is half
    a mean square in both."""
    ppo, batch = config.ppo, config.rollout
    return {
        "env-id": config.env.id,
        "seed": config.seed % 2**32,
        "total-timesteps": config.budget,
        "num-envs": config.env.num_envs,
        "num-steps": ppo.rollout_steps,
        "num-minibatches": max(1, batch // ppo.minibatch_size),
        "update-epochs": ppo.update_epochs,
        "learning-rate": ppo.learning_rate,
        "anneal-lr": ppo.learning_rate_schedule == "linear",
        "gamma": ppo.gamma,
        "gae-lambda": ppo.gae_lambda,
        "norm-adv": ppo.advantage_norm != "none",
        "clip-coef": ppo.clip_range,
        "clip-vloss": ppo.value_clip is not None,
        "ent-coef": ppo.entropy_coef,
        "vf-coef": ppo.value_coef,
        "max-grad-norm": ppo.max_grad_norm,
        "target-kl": ppo.kl_stop,
    }
