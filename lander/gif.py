"""A recorded episode as a small GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lander.evaluation import Evaluation, replay

EVERY = 4
"""Frames kept: one in four of Gymnasium's 50 per second, so each stands for 80 ms."""
MAX_FRAMES = 60
"""A longer flight keeps fewer of its frames, and plays faster than it was."""
SHRINK = 2
"""Pixels kept along each axis: one in two, (400, 600) becomes (200, 300)."""
REST = 1500
"""Milliseconds on the last frame before the loop starts again."""


def save_landing(path: Path, env_id: str, evaluation: Evaluation, *, episode: int = 0) -> float:
    """Write an episode of an evaluation as a GIF; its return, which equals the recorded one.

    The recorded actions are played again with rendering on.
    """
    actions = evaluation.actions[episode]
    every = max(EVERY, -(-len(actions) // MAX_FRAMES))
    flight = replay(
        env_id, seed=evaluation.seeds[episode], actions=actions, every=every, shrink=SHRINK
    )
    write(path, flight.frames, milliseconds=round(1000 * EVERY / flight.fps))
    return flight.total_reward


def write(path: Path, frames: Sequence[NDArray[np.uint8]], *, milliseconds: int) -> None:
    """A looping GIF that rests on its last frame; frames are RGB (H, W, 3)."""
    small = [Image.fromarray(frame) for frame in frames]
    # one palette, from frames all along the flight: choosing one per frame takes longer than
    # rendering it, and lets the colours of the ground flicker
    samples = [np.asarray(image) for image in small[:: max(1, len(small) // 8)]]
    palette = Image.fromarray(np.concatenate([*samples, np.asarray(small[-1])])).quantize(255)
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in small]
    first.save(
        path,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=[milliseconds] * len(rest) + [REST],
        loop=0,
    )
