"""A recorded episode as a small GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lander.env import AnyEnv, as_config
from lander.errors import ConfigError
from lander.evaluation import Evaluation, replay
from lander.files import write_aside
from lander.interface import EnvFault

LANDING = "landing.gif"
"""The name of a training's picture."""
EVERY = 4
"""Frames kept: one in four of Gymnasium's 50 per second, so each stands for 80 ms."""
MAX_FRAMES = 60
"""A longer episode keeps fewer of its frames, and plays faster than it was flown."""
SHRINK = 2
"""Pixels kept along each axis: one in two, (400, 600) becomes (200, 300)."""
REST = 1500
"""Milliseconds on the last frame before the loop starts again."""


def save_landing(
    path: Path, env: AnyEnv, evaluation: Evaluation, *, episode: int = 0
) -> str | None:
    """Write an episode of an evaluation as a GIF; returns a warning in one line, or None.

    The recorded actions are played again with rendering on. A picture is an extra: if it cannot be
    made, no error is raised and no file written. If the environment does not repeat itself, the
    GIF shows the episode as it went this time.
    """
    actions, recorded = evaluation.actions[episode], evaluation.returns[episode]
    every = max(EVERY, -(-len(actions) // MAX_FRAMES))
    try:
        flight = replay(
            env, seed=evaluation.seeds[episode], actions=actions, every=every, shrink=SHRINK
        )
        write(path, flight.frames, milliseconds=round(1000 * EVERY / flight.fps))
    except Exception as error:  # an environment's rendering may raise anything
        return f"{path.name} cannot be made: {as_line(error)}"
    if (flight.total_reward, flight.length) != (recorded, len(actions)):
        return (
            f"{path.name} shows another flight, return {flight.total_reward:g} in {flight.length} "
            f"steps instead of {recorded:g} in {len(actions)}: {as_config(env).id} does not repeat "
            "its episodes"
        )
    return None


def as_line(error: Exception) -> str:
    """An error in one line, with its type unless it is an error of this program."""
    text = " ".join(str(error).split())[:200]
    if text and isinstance(error, ConfigError | EnvFault):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def write(path: Path, frames: Sequence[NDArray[np.uint8]], *, milliseconds: int) -> None:
    """Write a looping GIF that rests on its last frame; frames are RGB (H, W, 3)."""
    small = [Image.fromarray(frame) for frame in frames]
    # one palette, from frames all along the flight: choosing one per frame takes longer than
    # rendering it, and lets the colours of the ground flicker
    samples = [np.asarray(image) for image in small[:: max(1, len(small) // 8)]]
    palette = Image.fromarray(np.concatenate([*samples, np.asarray(small[-1])])).quantize(255)
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in small]
    with write_aside(path) as aside:
        first.save(
            aside,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=[milliseconds] * len(rest) + [REST],
            loop=0,
        )
