"""Frames to a small GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from lander.evaluation import Evaluation, replay

EVERY = 4
"""Frames kept: one in four of Gymnasium's 50 per second, so 80 ms each."""
SHRINK = 2
"""Pixels kept along each axis: one in two, (400, 600) becomes (200, 300)."""


def save_landing(path: Path, env_id: str, evaluation: Evaluation, *, episode: int = 0) -> float:
    """Write episode `episode` of an evaluation as a GIF; its return, which equals the recorded one.

    The recorded actions are played again with rendering on.
    """
    flight = replay(
        env_id,
        seed=evaluation.seeds[episode],
        actions=evaluation.actions[episode],
        every=EVERY,
    )
    write(path, flight.frames, milliseconds=1000 * EVERY / flight.fps)
    return flight.total_reward


def write(path: Path, frames: Sequence[NDArray[np.uint8]], *, milliseconds: float) -> None:
    """A looping GIF that rests on its last frame; frames are RGB (H, W, 3)."""
    small = [frame[::SHRINK, ::SHRINK] for frame in frames]
    durations = [milliseconds] * (len(small) - 1) + [1500.0]
    iio.imwrite(path, small, extension=".gif", duration=durations, loop=0)
