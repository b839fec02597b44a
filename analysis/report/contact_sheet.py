"""One episode flown by a sweep's best, median and worst policies and at random, as one GIF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from PIL import Image, ImageDraw, ImageFont

from analysis.flight import LANDER, retrace
from lander.env import AnyEnv, as_config
from lander.evaluation import Evaluation, evaluate, play, random_act_fn, replay
from lander.gif import EVERY, SHRINK, write
from lander.seeds import final_seeds
from sweeps.publish.policies import policy_of
from sweeps.schema import RETURNS
from sweeps.sweep import Sweep

MAX_FRAMES: Final = 150
"""Frames of a GIF; a longer flight plays faster."""
MAX_BYTES: Final = 1_500_000
STRIP: Final = 40
"""Pixels above each picture, for two lines of text."""
GAP: Final = 6
"""Pixels between two pictures."""
INK, PAPER = (0, 0, 0), (255, 255, 255)
TOP: Final = 1.5
"""Height in LunarLander's observations above which the craft is outside the picture."""


@dataclass(frozen=True, slots=True)
class Flight:
    """An episode on the sheet and the policy that flew it."""

    role: str
    evaluation: Evaluation
    """Its first episode is the one on the sheet."""
    trial: int | None = None
    """The trial of the policy; None for random actions."""
    recorded: Sequence[float] = ()
    """Returns of the same episodes at the end of training."""
    score: float | None = None
    """The trial's score over all final episodes; the one on the sheet may differ a lot."""
    env: AnyEnv | None = None
    """The environment it was flown in, if not the one of the whole sheet."""

    @property
    def seed(self) -> int:
        return self.evaluation.seeds[0]

    @property
    def label(self) -> str:
        name = self.role if self.trial is None else f"{self.role}: trial {self.trial}"
        score = "" if self.score is None else f", score {self.score:.1f}"
        returned, steps = self.evaluation.returns[0], self.evaluation.lengths[0]
        return f"{name}{score}\nthis episode {returned:.1f}, {steps} steps"

    @property
    def is_recorded(self) -> bool | None:
        """Whether every episode returned the recorded value, to the bit; None without a record."""
        return None if not self.recorded else list(self.evaluation.returns) == list(self.recorded)


@dataclass(frozen=True, slots=True)
class Sheet:
    """The contact sheet as files."""

    gif: bytes
    still: bytes
    """The last frames, as PNG."""


def chosen(ranked: Sequence[FrozenTrial]) -> dict[str, FrozenTrial]:
    """The best, the median (the worse of two) and the worst finished trial, each once."""
    ranks = {"best": 0, "worst": len(ranked) - 1, "median": len(ranked) // 2}
    roles = {rank: role for role, rank in reversed(ranks.items())} if ranked else {}
    return {roles[rank]: ranked[rank] for rank in sorted(roles)}


def fly_again(
    sweep: Sweep, role: str, trial: FrozenTrial, *, training: int | None = None
) -> Flight:
    """The final episodes of a trial once more, from the recorded weights of a training, or of its
    median one.

    Raises:
        ConfigError: the weights are missing, or were not written by this program.
    """
    trained = policy_of(sweep, trial, training=training)
    # all at once, as in training: the size of a batch can change the last bit
    flown = evaluate(trained.policy, trained.config.env, seeds=final_seeds(trained.config))
    recorded = trial.user_attrs.get(RETURNS, [])
    returns = recorded[trained.training] if recorded else ()
    score = trial.values[0]
    return Flight(role, flown, trial.number, returns, score=score, env=trained.config.env)


def fly_at_random(sweep: Sweep) -> Flight:
    """The first final episode, with uniformly random actions."""
    env, seeds = sweep.study.base.env, final_seeds(sweep.study.base)
    return Flight("at random", play(random_act_fn(env, seed=seeds[0]), env, seeds=seeds[:1]))


def contact_sheet(env: AnyEnv, flights: Sequence[Flight], *, limit: int = MAX_BYTES) -> Sheet:
    """Draw flights of the same reset seed on one clock; one that has ended stays on its last frame.

    Frames are left out until the file is smaller than `limit` bytes.

    Raises:
        ValueError: the flights have different reset seeds.
    """
    if len({flight.seed for flight in flights}) != 1:
        seeds = ", ".join(str(flight.seed) for flight in flights)
        raise ValueError(f"flights side by side need one reset seed, got {seeds}")
    longest = max(flight.evaluation.lengths[0] for flight in flights)
    every = max(EVERY, -(-longest // MAX_FRAMES))
    columns = []
    for flight in flights:
        actions = flight.evaluation.actions[0]
        flown_in = env if flight.env is None else flight.env
        replayed = replay(flown_in, seed=flight.seed, actions=actions, every=every, shrink=SHRINK)
        above = positions_above(flown_in, flight)
        kept = [*above[:-1:every], above[-1]]
        columns.append(
            [
                labelled(frame, flight.label, above=position)
                for frame, position in zip(replayed.frames, kept, strict=True)
            ]
        )
    frames = side_by_side(columns)
    milliseconds = round(1000 * EVERY / replayed.fps)
    gif = encoded(frames, milliseconds=milliseconds)
    while len(gif) > limit and len(frames) > 1:
        frames, milliseconds = [*frames[:-1:2], frames[-1]], 2 * milliseconds
        gif = encoded(frames, milliseconds=milliseconds)
    still = BytesIO()
    Image.fromarray(frames[-1]).quantize(64).save(still, "PNG", optimize=True)
    return Sheet(gif, still.getvalue())


def positions_above(env: AnyEnv, flight: Flight) -> list[float | None]:
    """After the reset and each step: the craft's position from 0 (left) to 1 while it is above the
    picture; None while it is in the picture, or if the environment is not LunarLander."""
    steps = flight.evaluation.lengths[0]
    if not as_config(env).id.startswith(LANDER):
        return [None] * (steps + 1)
    obs = retrace(env, flight.seed, flight.evaluation.actions[0]).obs
    across = np.clip((obs[:, 0] + 1) / 2, 0, 1)
    return [float(x) if y > TOP else None for x, y in zip(across, obs[:, 1], strict=True)]


def labelled(
    frame: NDArray[np.uint8], text: str, *, above: float | None = None
) -> NDArray[np.uint8]:
    """A frame (H, W, 3) under a strip with two lines of text; an arrow points at a craft that is
    above it."""
    height, width, _ = frame.shape
    picture = Image.new("RGB", (width, STRIP + height), PAPER)
    picture.paste(Image.fromarray(frame), (0, STRIP))
    font = ImageFont.load_default(14)
    draw = ImageDraw.Draw(picture)
    draw.multiline_text((2, 2), text, fill=INK, font=font, spacing=3)
    if above is not None:
        x, y = min(max(above * width, 6), width - 6), STRIP + 3
        draw.polygon([(x, y), (x - 6, y + 10), (x + 6, y + 10)], fill=PAPER)
        side, anchor = (10, "lt") if above < 0.5 else (-10, "rt")
        draw.text((x + side, y), "above the picture", fill=PAPER, font=font, anchor=anchor)
    return np.asarray(picture)


def side_by_side(columns: Sequence[Sequence[NDArray[np.uint8]]]) -> list[NDArray[np.uint8]]:
    """One row of pictures per moment; a short column repeats its last picture."""
    height = columns[0][0].shape[0]
    gap = np.full((height, GAP, 3), PAPER, dtype=np.uint8)
    rows = []
    for moment in range(max(map(len, columns))):
        pictures = [column[min(moment, len(column) - 1)] for column in columns]
        rows.append(np.hstack([part for picture in pictures for part in (gap, picture)][1:]))
    return rows


def encoded(frames: Sequence[NDArray[np.uint8]], *, milliseconds: int) -> bytes:
    """The frames as a looping GIF file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.gif"
        write(path, frames, milliseconds=milliseconds)
        return path.read_bytes()
