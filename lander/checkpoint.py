"""A policy on disk: its weights and the config that rebuilds the module, no pickled code."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lander.config import TrainConfig
from lander.dotted import configure, flatten
from lander.errors import ConfigError
from lander.files import write_aside
from lander.policy import ActorCritic, make_policy
from lander.terminal import program
from lander.trust import Origin


def save(path: Path, weights: Mapping[str, Tensor], config: TrainConfig) -> None:
    """Write a policy's `state_dict` and its resolved config to `path`; `load` reads them back.

    >>> from tempfile import TemporaryDirectory
    >>> from lander.config import EnvConfig
    >>> from lander.resolve import resolve
    >>> config = resolve(TrainConfig(env=EnvConfig(id="CartPole-v1"))).config
    >>> policy = make_policy(config, generator=torch.Generator().manual_seed(0))
    >>> with TemporaryDirectory() as folder:
    ...     save(Path(folder) / "policy.pt", policy.state_dict(), config)
    ...     again, its_config = load(Path(folder) / "policy.pt")
    >>> its_config == config, torch.equal(again.actor.weight, policy.actor.weight)
    (True, True)
    """
    write(path, {"config": flatten(config), "weights": dict(weights)})


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` for `read`: the whole file, or none.

    Raises:
        OSError: with the file's name; torch itself raises a RuntimeError where the disk is full.
    """
    buffer = BytesIO()
    torch.save(content, buffer)
    try:
        with write_aside(path) as aside:
            aside.write_bytes(buffer.getbuffer())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def load(path: Path, *, origin: Origin | None = None) -> tuple[ActorCritic, TrainConfig]:
    """The policy saved at `path` and its config.

    `origin` is where its consent is kept, if not with its folder.

    Raises:
        ConfigError: no such file, not a checkpoint of this program, or an environment that would
            import a module without consent.
    """
    if not path.is_file():
        train = f"{program('lander')} --out DIR"
        raise ConfigError(f"no policy at {path}: train one with {train}")
    saved = read(path)
    try:
        config = configure(saved["config"], base=TrainConfig())
        (origin or Origin.folder(path.parent)).require(flatten(config))
        policy = make_policy(config, generator=torch.Generator())
        policy.load_state_dict(saved["weights"])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ConfigError(f"{path} is not a policy of this program: {one_line(error)}") from None
    return policy, config


def read(path: Path) -> dict[str, Any]:
    """The content of a file that `write` wrote: tensors, numbers and words, no pickled code.

    Raises:
        ConfigError: another kind of file, or a damaged one.
    """
    try:
        return dict(torch.load(path, weights_only=True))
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ConfigError(f"{path} is not a file of this program: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """The beginning of an error's message."""
    return " ".join(str(error).split())[:200]
