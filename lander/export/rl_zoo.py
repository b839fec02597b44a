"""A config as an entry of rl-baselines3-zoo's hyperparams/ppo.yml, which Stable-Baselines3 trains.

Its wrappers are named as `lander.export.wrappers` has them: install this package beside rl_zoo3, or
save the classes from a script of `lander.export.sb3` and name that module instead.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from lander.config import TrainConfig
from lander.export import sb3
from lander.export.fields import MEASURES, Limit, comments, is_off, never
from lander.resolve import Resolved

MODULE: Final = "lander.export.wrappers"
RAMP: Final = "lin_ falls one rollout ahead of lander: the last update has the value 0"
MEASURED: Final = "rl-zoo measures as --eval-freq and --eval-episodes say"
ON_COMMAND_LINE: Final = "give it on the command line, as --env-kwargs NAME:VALUE"
LIMITS: Final = sb3.LIMITS | {
    **dict.fromkeys((*MEASURES, "final_episodes"), Limit(never, MEASURED)),
    "env.kwargs": Limit(never, ON_COMMAND_LINE),
    "env.time_limit": Limit(
        is_off("env.time_limit", None), ON_COMMAND_LINE + ", there max_episode_steps"
    ),
    "ppo.learning_rate_schedule": Limit(is_off("ppo.learning_rate_schedule", "constant"), RAMP),
    "ppo.clip_range_schedule": Limit(is_off("ppo.clip_range_schedule", "constant"), RAMP),
    "seed": Limit(never, "give it on the command line, as --seed"),
}
"""What becomes of the fields that such an entry knows in part or not at all."""


def entry(resolved: Resolved, *, title: str) -> str:
    """The YAML of this config, under the id of its environment."""
    config = resolved.config
    lines = [f"{config.env.id}:", *(f"  {key}: {as_yaml(v)}" for key, v in values(config).items())]
    return comments(resolved, LIMITS, title=title) + "\n".join(lines) + "\n"


def as_yaml(value: Any) -> str:
    """A value in YAML's flow style, which is JSON but for numbers: 1e-05 would be a text."""
    match value:
        case float():
            return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))
        case list():
            return f"[{', '.join(map(as_yaml, value))}]"
        case dict():
            return "{" + ", ".join(f"{as_yaml(k)}: {as_yaml(v)}" for k, v in value.items()) + "}"
        case _:
            return json.dumps(value)


def values(config: TrainConfig) -> dict[str, Any]:
    """The keys of the entry; those at Stable-Baselines3's defaults too, which may change."""
    ppo = config.ppo
    given = {name: value for name, value in sb3.arguments(config).items() if value is not None}
    rate, clip = ppo.learning_rate, ppo.clip_range
    keys: dict[str, Any] = {
        "n_envs": config.env.num_envs,
        "n_timesteps": config.budget,
        "policy": "MlpPolicy",
        "learning_rate": f"lin_{rate!r}" if ppo.learning_rate_schedule == "linear" else rate,
        "clip_range": f"lin_{clip!r}" if ppo.clip_range_schedule == "linear" else clip,
        **given,
        "policy_kwargs": sb3.network(config),
    }
    wrappers = [*sb3.action_wrappers(config), *sb3.reward_wrappers(config)]
    if wrappers:
        keys["env_wrapper"] = [{in_module(name): given} for name, given in wrappers]
    normalised = sb3.normalisation(config)
    if normalised:
        keys["normalize"] = f"dict({', '.join(sb3.written(normalised))})"
    return keys


def in_module(wrapper: str) -> str:
    """The full name of a wrapper of a script."""
    module = wrapper.replace("gym.", "gymnasium.", 1)
    return module if "." in wrapper else f"{MODULE}.{wrapper}"
