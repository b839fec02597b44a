"""A policy on disk: its weights and the config that rebuilds the module, no pickled code."""

from __future__ import annotations

from pathlib import Path

import torch

from lander.config import TrainConfig
from lander.fields import ConfigError, configure, flatten
from lander.policy import ActorCritic, make_policy


def save(path: Path, policy: ActorCritic, config: TrainConfig) -> None:
    """Write weights and resolved config to `path`; `load` reads them back."""
    torch.save({"config": flatten(config), "weights": policy.state_dict()}, path)


def load(path: Path) -> tuple[ActorCritic, TrainConfig]:
    """The policy saved at `path` and its config.

    Raises:
        ConfigError: no such file, or not a checkpoint of this program.
    """
    if not path.is_file():
        raise ConfigError(f"no policy at {path}: train one with python -m lander --out DIR")
    try:
        saved = torch.load(path, weights_only=True)
        config = configure(saved["config"], base=TrainConfig())
        policy = make_policy(config, generator=torch.Generator())
        policy.load_state_dict(saved["weights"])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} is not a policy of this program: {reason}") from None
    return policy, config
