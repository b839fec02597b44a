"""One episode flown at random, by the defaults and by the best policy, side by side as one film."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from optuna.trial import FrozenTrial
from PIL import Image, ImageDraw

from analysis.flight import LANDER
from lander.env import AnyEnv, as_config
from lander.evaluation import Evaluation, Moment, evaluate, play, random_act_fn
from lander.film import (
    INK,
    PAPER,
    WIDTH,
    Pace,
    can_write_mp4,
    caption_font,
    filmed,
    gif,
    mp4,
    pace_of,
)
from lander.seeds import final_seeds
from sweeps.publish.policies import policy_of
from sweeps.schema import RETURNS
from sweeps.sweep import Sweep

MAX_FRAMES: Final = 150
"""Frames of the GIF; a longer flight has fewer of them per second."""
MAX_BYTES: Final = 1_400_000
GAP: Final = 6
"""Pixels between two pictures."""
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
    """The policy's mean return over all final episodes; the one on the sheet may differ a lot."""
    env: AnyEnv | None = None
    """The environment it was flown in, if not the one of the whole sheet."""

    @property
    def seed(self) -> int:
        return self.evaluation.seeds[0]

    @property
    def title(self) -> str:
        """Who flies, and the score, beside which the caption has this one episode's return."""
        name = self.role if self.trial is None else f"{self.role}: trial {self.trial}"
        return name if self.score is None else f"{name}, score {self.score:.1f}"

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
    mp4: bytes | None
    """None if PyAV is not installed."""
    speed: int
    """How many times faster than real time it plays."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """A policy to fly."""

    role: str
    sweep: Sweep
    trial: FrozenTrial
    training: int | None = None
    """None: the median one."""

    @property
    def shown_trial(self) -> int | None:
        """The trial's number, unless it is of a confirmation, whose numbers nobody else names."""
        return None if self.sweep.study.confirms else self.trial.number


def fly_again(pilot: Pilot) -> Flight:
    """The final episodes of a recorded policy once more.

    Raises:
        ConfigError: the weights are missing, or were not written by this program.
    """
    trained = policy_of(pilot.sweep, pilot.trial, training=pilot.training)
    # all at once, as in training: the size of a batch can change the last bit
    flown = evaluate(trained.policy, trained.config.env, seeds=final_seeds(trained.config))
    recorded = pilot.trial.user_attrs.get(RETURNS, [])
    returns = recorded[trained.training] if recorded else ()
    return Flight(
        pilot.role,
        flown,
        pilot.shown_trial,
        returns,
        score=flown.return_mean,
        env=trained.config.env,
    )


def fly_at_random(env: AnyEnv, *, seed: int) -> Flight:
    """The episode of a reset seed, with uniformly random actions."""
    return Flight("random actions", play(random_act_fn(env, seed=seed), env, seeds=[seed]))


def contact_sheet(env: AnyEnv, flights: Sequence[Flight], *, limit: int = MAX_BYTES) -> Sheet:
    """Film flights of the same reset seed on one clock; one that has ended stays on its last frame.

    Frames are left out until the GIF is smaller than `limit` bytes.

    Raises:
        ValueError: the flights have different reset seeds.
    """
    if len({flight.seed for flight in flights}) != 1:
        seeds = ", ".join(str(flight.seed) for flight in flights)
        raise ValueError(f"flights side by side need one reset seed, got {seeds}")
    longest = max(flight.evaluation.lengths[0] for flight in flights)
    pace = pace_of(env, longest, frames=MAX_FRAMES)
    frames = side_by_side([list(panels(env, flight, pace)) for flight in flights])
    steps = [min(i * pace.every, longest) for i in range(len(frames))]
    film = mp4(frames, rate=pace.rate) if can_write_mp4() else None
    still = BytesIO()
    frames[-1].quantize(64).save(still, "PNG", optimize=True)
    small = gif(frames, pace.milliseconds(steps))
    while len(small) > limit and len(frames) > 2:
        frames, steps = [*frames[:-1:2], frames[-1]], [*steps[:-1:2], steps[-1]]
        small = gif(frames, pace.milliseconds(steps))
    return Sheet(small, still.getvalue(), film, pace.speed)


def panels(env: AnyEnv, flight: Flight, pace: Pace) -> Iterator[Image.Image]:
    """The frames of one flight; an arrow points at a craft that is above the picture."""
    flown_in = env if flight.env is None else flight.env
    shots = filmed(flown_in, flight.evaluation, flight.title, pace, episode=0, width=WIDTH)
    for moment, frame in shots:
        across = above(flown_in, moment)
        if across is not None:
            point_at(frame, across)
        yield frame


def above(env: AnyEnv, moment: Moment) -> float | None:
    """The craft's position from 0 (left) to 1 while it is above the picture; None while it is in
    the picture, or if the environment is not LunarLander."""
    if not as_config(env).id.startswith(LANDER) or moment.obs[1] <= TOP:
        return None
    return float(np.clip((moment.obs[0] + 1) / 2, 0, 1))


def point_at(frame: Image.Image, across: float) -> None:
    """Draw an arrow and a word below the caption, at a position from 0 to 1."""
    font, strip = caption_font(frame.width)
    x, y = min(max(across * frame.width, 6), frame.width - 6), strip + 3
    draw = ImageDraw.Draw(frame)
    draw.polygon([(x, y), (x - 6, y + 10), (x + 6, y + 10)], fill=INK)
    side, anchor = (10, "lt") if across < 0.5 else (-10, "rt")
    draw.text((x + side, y), "above the picture", fill=INK, font=font, anchor=anchor)


def side_by_side(columns: Sequence[Sequence[Image.Image]]) -> list[Image.Image]:
    """One row of pictures per moment; a short column repeats its last picture."""
    width = sum(column[0].width for column in columns) + GAP * (len(columns) - 1)
    rows = []
    for moment in range(max(map(len, columns))):
        row, x = Image.new("RGB", (width, columns[0][0].height), PAPER), 0
        for column in columns:
            picture = column[min(moment, len(column) - 1)]
            row.paste(picture, (x, 0))
            x += picture.width + GAP
        rows.append(row)
    return rows
