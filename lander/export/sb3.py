"""A config as Stable-Baselines3's PPO takes it, and as a script that trains there.

The script needs stable-baselines3 and Gymnasium, and nothing of this package. Schedules, losses,
advantages and initial weights are those of `lander` to the letter; random numbers are not.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from math import log
from typing import Any, Final

from jinja2 import Environment

from lander.config import TrainConfig
from lander.export.fields import (
    MEASURES,
    Limit,
    bounded,
    comments,
    constant_scale,
    env_arguments,
    has_scaled_reward,
    is_binned,
    is_continuous,
    is_off,
    never,
    unit_box,
)
from lander.export.wrappers import Bins, ScaledReward
from lander.resolve import Resolved
from lander.seeds import REPORT_SEED

STATISTICS: Final = "its statistics follow every step of the environments, not every rollout"
LIMITS: Final = {
    **dict.fromkeys(MEASURES, Limit(never, "the script evaluates once, at the end")),
    "final_policy": Limit(is_off("final_policy", "last"), "the last policy is the one it keeps"),
    "env.backend": Limit(
        is_off("env.backend", "gymnasium"), "stock Gymnasium steps the environments"
    ),
    "env.obs_norm": Limit(is_off("env.obs_norm", False), f"VecNormalize, {STATISTICS}"),
    "env.reward_scale": Limit(
        lambda config: config.env.reward_scale != "running", f"VecNormalize, {STATISTICS}"
    ),
    "policy.head": Limit(
        is_off("policy.head", "gaussian", "categorical", "joint"),
        "one categorical per dimension, whose bins have no order",
    ),
    "policy.trunk": Limit(
        is_off("policy.trunk", "separate"), "actor and critic have hidden layers of their own"
    ),
    "policy.critic": Limit(is_off("policy.critic", True), "PPO has a critic"),
    "policy.explore": Limit(is_off("policy.explore", 0.0), "actions are drawn from the policy"),
    "policy.std": Limit(is_off("policy.std", "learned"), "the standard deviation is learned"),
    "policy.final_std": Limit(never, "the standard deviation is learned"),
    "policy.init_std": Limit(
        lambda config: unit_box(config) or bounded(config),
        "in the environment's own units in every dimension",
    ),
    "policy.squash": Limit(is_off("policy.squash", False), "actions are clipped"),
    "ppo.rollout_episodes": Limit(
        is_off("ppo.rollout_episodes", None), "rollouts of n_steps, whatever ends in them"
    ),
    "ppo.critic_learning_rate": Limit(
        is_off("ppo.critic_learning_rate", None), "the critic has the learning rate of the actor"
    ),
    "ppo.advantage": Limit(is_off("ppo.advantage", "gae"), "generalised advantage estimation"),
    "ppo.n_step": Limit(never, "generalised advantage estimation"),
    "ppo.baseline": Limit(never, "the critic is the baseline"),
    "ppo.advantage_norm": Limit(
        is_off("ppo.advantage_norm", "none", "minibatch"), "normalised in each minibatch"
    ),
    "ppo.surrogate": Limit(is_off("ppo.surrogate", "clip"), "the clipped surrogate"),
    "ppo.kl_coef": Limit(never, "the clipped surrogate has no penalty"),
    "ppo.kl_target": Limit(never, "the clipped surrogate has no penalty"),
    "ppo.value_clip": Limit(
        is_off("ppo.value_clip", None), "the clipped error alone counts, not the larger of both"
    ),
}
"""What becomes of the fields that this PPO knows in part or not at all."""


def arguments(config: TrainConfig) -> dict[str, Any]:
    """The numbers of a resolved config by the names of PPO's arguments.

    The value loss of `lander` is half a mean square, here it is a whole one; a KL limit is here
    exceeded by half before it acts.
    """
    ppo = config.ppo
    size = config.env.num_envs * ppo.rollout_steps
    return {
        "n_steps": ppo.rollout_steps,
        "batch_size": min(ppo.minibatch_size, size),
        "n_epochs": ppo.update_epochs,
        "gamma": ppo.gamma,
        "gae_lambda": ppo.gae_lambda,
        "clip_range_vf": ppo.value_clip,
        "normalize_advantage": ppo.advantage_norm != "none",
        "ent_coef": ppo.entropy_coef,
        "vf_coef": ppo.value_coef / 2,
        "max_grad_norm": ppo.max_grad_norm,
        "target_kl": None if ppo.kl_stop is None else ppo.kl_stop / 1.5,
    }


def network(config: TrainConfig) -> str:
    """The `policy_kwargs` as Python, with `nn` for torch.nn; Adam's epsilon is 1e-5 in both."""
    policy = config.policy
    sizes, activation = list(policy.hidden_sizes), {"relu": "ReLU", "tanh": "Tanh"}
    parts = [
        f"net_arch=dict(pi={sizes}, vf={sizes})",
        f"activation_fn=nn.{activation[policy.activation]}",
        f"ortho_init={policy.init == 'orthogonal'}",
    ]
    if is_continuous(config):
        parts.append(f"log_std_init={log(policy.init_std)!r}")
    return f"dict({', '.join(parts)})"


def action_wrappers(config: TrainConfig) -> list[tuple[str, dict[str, Any]]]:
    """Names of the wrappers that give actions the units of `lander`, with their arguments."""
    if is_binned(config):
        joint = {"joint": True} if config.policy.head == "joint" else {}
        return [("Bins", {"bins": config.env.bins} | joint)]
    if is_continuous(config) and not unit_box(config) and bounded(config):
        return [("gym.wrappers.RescaleAction", {"min_action": -1.0, "max_action": 1.0})]
    return []


def reward_wrappers(config: TrainConfig) -> list[tuple[str, dict[str, Any]]]:
    """The wrapper of the rewards that the agent learns from, if it needs one."""
    if not has_scaled_reward(config):
        return []
    return [("ScaledReward", {"scale": constant_scale(config), "cost": config.env.step_cost})]


def normalisation(config: TrainConfig) -> dict[str, Any]:
    """The arguments of VecNormalize; empty if nothing is normalised."""
    env = config.env
    running = env.reward_scale == "running"
    if not (env.obs_norm or running):
        return {}
    return {
        "norm_obs": env.obs_norm,
        "norm_reward": running,
        "clip_obs": env.obs_clip,
        "clip_reward": 10.0,
        "gamma": config.ppo.gamma,
    }


def script(resolved: Resolved, *, title: str) -> str:
    """A Python script that trains this config with Stable-Baselines3, then flies the policy."""
    config = resolved.config
    wrappers = {"Bins": Bins, "ScaledReward": ScaledReward}
    wrapped = [*action_wrappers(config), *reward_wrappers(config)]
    template = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return template.from_string(TEMPLATE).render(
        head=comments(resolved, LIMITS, title=title),
        config=config,
        arguments=written({**schedules(config), **arguments(config)}),
        network=network(config),
        made=written(env_arguments(config)),
        whole=written(dict(config.env.kwargs)),
        classes=[inspect.getsource(wrappers[name]) for name, _ in wrapped if name in wrappers],
        actions=[(name, written(given)) for name, given in action_wrappers(config)],
        rewards=[(name, written(given)) for name, given in reward_wrappers(config)],
        normalised=written(normalisation(config)),
        first=REPORT_SEED,
    )


class Code(str):
    """Python that stands for itself."""

    def __repr__(self) -> str:
        return str(self)


def schedules(config: TrainConfig) -> dict[str, Any]:
    """Learning rate and clip range, which may fall; `linear` is a function of the script."""
    ppo = config.ppo
    fields = {
        "learning_rate": (ppo.learning_rate, ppo.learning_rate_schedule),
        "clip_range": (ppo.clip_range, ppo.clip_range_schedule),
    }
    return {
        name: Code(f"linear({value!r})") if schedule == "linear" else value
        for name, (value, schedule) in fields.items()
    }


def written(arguments: Mapping[str, Any]) -> list[str]:
    """NAME=VALUE, as Python."""
    return [f"{name}={value!r}" for name, value in arguments.items()]


TEMPLATE: Final = '''\
{{ head }}
"""Train with Stable-Baselines3, then fly the policy: python THIS_FILE [SEED]"""

import sys
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
{% if normalised %}
from stable_baselines3.common.vec_env import VecNormalize
{% endif %}
from torch import nn

ENV, COPIES, TOTAL = "{{ config.env.id }}", {{ config.env.num_envs }}, {{ config.budget }}
ROLLOUT = COPIES * {{ config.ppo.rollout_steps }}


{% for text in classes %}
{{ text }}

{% endfor %}
def actions_of(env):
{% for name, given in actions %}
    env = {{ name }}(env, {{ given | join(", ") }})
{% endfor %}
    return env


def training_env(env):
    env = actions_of(env)
{% for name, given in rewards %}
    env = {{ name }}(env, {{ given | join(", ") }})
{% endfor %}
    return env


def linear(start):
    """`start` in the first update, and down to zero after the last one."""
    return lambda remaining: start * (remaining + ROLLOUT / TOTAL)


def train(seed, steps=TOTAL):
    made = dict({{ made | join(", ") }})
    envs = make_vec_env(
        ENV, n_envs=COPIES, seed=seed, wrapper_class=training_env, env_kwargs=made
    )
{% if normalised %}
    envs = VecNormalize(envs, {{ normalised | join(", ") }})
{% endif %}
    model = PPO(
        "MlpPolicy",
        envs,
{% for argument in arguments %}
        {{ argument }},
{% endfor %}
        policy_kwargs={{ network }},
        seed=seed,
        device="cpu",
    )
    return model.learn(total_timesteps=steps)


def fly(model, episodes, first):
    """Returns of deterministic episodes, in raw rewards, on reset seeds from `first` up."""
    env = actions_of(gym.make(ENV{{ ", " if whole }}{{ whole | join(", ") }}))
    normalised, returns = model.get_vec_normalize_env(), []
    for seed in range(first, first + episodes):
        obs, over, total = env.reset(seed=seed)[0], False, 0.0
        while not over:
            seen = obs if normalised is None else normalised.normalize_obs(obs)
            action = model.predict(seen, deterministic=True)[0]
            obs, reward, terminated, truncated, _ = env.step(action)
            over, total = terminated or truncated, total + float(reward)
        returns.append(total)
    return returns


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else {{ config.seed % 2**32 }}
    returns = fly(train(seed), episodes={{ config.final_episodes }}, first={{ first }})
    print(f"seed {seed}: mean return {np.mean(returns):.1f} over {len(returns)} episodes")
'''
