"""A recorded episode as a film with a caption: a GIF, or an MP4 where PyAV is installed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lander.env import AnyEnv, as_config, env_spec
from lander.errors import ConfigError
from lander.evaluation import Evaluation, Moment, replay
from lander.files import write_aside
from lander.interface import EnvFault
from lander.terminal import printable

LANDING: Final = "landing.gif"
"""The name of a training's film."""
GIF_RATE, MP4_RATE = 12.5, 25.0
"""Frames per second."""
MAX_FRAMES: Final = 75
"""Frames of a GIF; a longer one has fewer of them per second."""
MAX_SECONDS: Final = 10.0
"""A longer flight plays a whole number of times faster than real time; the caption says so."""
REST: Final = 1.5
"""Seconds on the last frame before the loop starts again."""
WIDTH: Final = 300
"""Pixels of a frame's longer side that are enough for a GIF; larger frames are averaged down."""
COLOURS: Final = 64
"""Of a GIF's palette; Pillow's time for a palette grows with their cube."""
LONGEST: Final = 60
"""Characters of a caption's line."""
PAPER, INK, SOFT = (24, 26, 31), (255, 255, 255), (176, 182, 192)
"""Colours of the caption, whatever the page around it has."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Which steps of an episode have a frame, and how fast the film plays."""

    fps: float
    """Steps per second of the environment."""
    every: int
    """Steps from frame to frame."""
    speed: int
    """How many times faster than real time."""

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.fps * self.speed / self.every

    def stamp(self, step: int) -> str:
        """The episode's clock at a step, and the speed unless it is real time."""
        speed = "" if self.speed == 1 else f"  {self.speed}x speed"
        return f"{step / self.fps:.1f} s{speed}"

    def milliseconds(self, steps: Sequence[int]) -> list[int]:
        """How long each frame stays, in whole hundredths of a second, as a GIF has them; their
        rounding does not add up."""
        starts = [round(100 * step / self.fps / self.speed) for step in steps]
        ends = [*starts[1:], starts[-1] + round(100 * REST)]
        return [10 * max(2, end - start) for start, end in zip(starts, ends, strict=True)]


def pace_of(
    env: AnyEnv, steps: int, *, rate: float = GIF_RATE, frames: int | None = MAX_FRAMES
) -> Pace:
    """The pace of an episode of so many steps: at most `rate` frames per second, and `frames`
    altogether.

    >>> pace_of("LunarLander-v3", 250)
    Pace(fps=50.0, every=4, speed=1)
    >>> pace_of("LunarLander-v3", 1000)  # 20 seconds
    Pace(fps=50.0, every=14, speed=2)
    """
    fps = env_spec(env).fps
    speed = max(1, math.ceil(steps / fps / MAX_SECONDS))
    every = max(1, round(fps * speed / rate))
    return Pace(fps, every if frames is None else max(every, -(-steps // frames)), speed)


def save_landing(
    path: Path, env: AnyEnv, evaluation: Evaluation, *, title: str, episode: int = 0
) -> str | None:
    """Write an episode of an evaluation as a GIF; returns a warning in one line, or None.

    The recorded actions are played again with rendering on. A film is an extra: if it cannot be
    made, no error is raised and no file written. If the environment does not repeat itself, the
    GIF shows the episode as it went this time.
    """
    actions, recorded = evaluation.actions[episode], evaluation.returns[episode]
    try:
        pace = pace_of(env, len(actions))
        frames, steps, total_reward = list[Image.Image](), list[int](), 0.0
        for moment, frame in filmed(env, evaluation, title, pace, episode=episode, width=WIDTH):
            frames.append(frame)
            steps.append(moment.step)
            total_reward = moment.total_reward
        film = gif(frames, pace.milliseconds(steps))
        with write_aside(path) as aside:
            aside.write_bytes(film)
    except Exception as error:  # an environment's rendering may raise anything
        return f"{path.name} cannot be made: {as_line(error)}"
    if (total_reward, steps[-1]) != (recorded, len(actions)):
        return (
            f"{path.name} shows another flight, return {total_reward:g} in {steps[-1]} "
            f"steps instead of {recorded:g} in {len(actions)}: {as_config(env).id} does not repeat "
            "its episodes"
        )
    return None


def save_video(
    path: Path, env: AnyEnv, evaluation: Evaluation, *, title: str, episode: int = 0
) -> str | None:
    """Write the same episode as an MP4 in the size it is drawn; returns a warning, or None.

    Raises:
        ModuleNotFoundError: PyAV is not installed.
    """
    try:
        actions = evaluation.actions[episode]
        pace = pace_of(env, len(actions), rate=MP4_RATE, frames=None)
        shots = filmed(env, evaluation, title, pace, episode=episode, width=None)
        film = mp4((frame for _, frame in shots), rate=pace.rate)
        with write_aside(path) as aside:
            aside.write_bytes(film)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        return f"{path.name} cannot be made: {as_line(error)}"
    return None


def as_line(error: Exception) -> str:
    """An error in one line, with its type unless it is an error of this program."""
    text = " ".join(str(error).split())[:200]
    if text and isinstance(error, ConfigError | EnvFault):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def filmed(
    env: AnyEnv,
    evaluation: Evaluation,
    title: str,
    pace: Pace,
    *,
    episode: int,
    width: int | None,
) -> Iterator[tuple[Moment, Image.Image]]:
    """The moments of an episode that have a frame, each with its frame under the caption."""
    seed, actions = evaluation.seeds[episode], evaluation.actions[episode]
    for moment in replay(env, seed=seed, actions=actions, every=pace.every):
        if moment.picture is not None:
            picture = averaged(Image.fromarray(moment.picture), width=width)
            yield moment, captioned(picture, title, moment, pace)


def averaged(picture: Image.Image, *, width: int | None) -> Image.Image:
    """The picture itself, or its pixels averaged in squares of a whole number of pixels, so that
    its longer side has about `width`."""
    factor = 1 if width is None else max(1, round(max(picture.size) / width))
    return picture if factor == 1 else picture.reduce(factor)


def captioned(picture: Image.Image, title: str, moment: Moment, pace: Pace) -> Image.Image:
    """A picture under two lines: the title, and this flight's return and clock so far.

    Width and height are even, as an MP4 needs them.
    """
    font, strip = caption_font(picture.width)
    text = printable(title)[:LONGEST]
    flight, clock = f"this flight: {moment.total_reward:.1f}", pace.stamp(moment.step)
    margin = strip // 6
    least = max(font.getlength(text), font.getlength("this flight: -10000.0   100.0 s  10x speed"))
    width = even(max(picture.width, int(least) + 2 * margin))
    canvas = Image.new("RGB", (width, even(strip + picture.height)), PAPER)
    canvas.paste(picture, ((width - picture.width) // 2, strip))
    draw = ImageDraw.Draw(canvas)
    draw.text((margin, strip * 0.28), text, fill=INK, font=font, anchor="lm")
    draw.text((margin, strip * 0.73), flight, fill=SOFT, font=font, anchor="lm")
    draw.text((width - margin, strip * 0.73), clock, fill=SOFT, font=font, anchor="rm")
    return canvas


def caption_font(width: int) -> tuple[ImageFont.FreeTypeFont, int]:
    """Pillow's own font in the size for frames of that width, and the height of two lines."""
    size = max(11, round(width / 25))
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # every wheel of Pillow has FreeType
    return font, even(round(2.9 * size))


def even(number: int) -> int:
    """The number itself, or the next one."""
    return number + number % 2


def gif(frames: Sequence[Image.Image], milliseconds: Sequence[int]) -> bytes:
    """A looping GIF file; each frame stays for so long."""
    # one palette, from frames all along the flight: choosing one per frame takes longer than
    # rendering it, lets the colours of the ground flicker, and is stored with every frame
    samples = [np.asarray(image) for image in frames[:: max(1, len(frames) // 8)]]
    palette = Image.fromarray(np.concatenate([*samples, np.asarray(frames[-1])])).quantize(COLOURS)
    colours = palette.getpalette()
    assert colours is not None  # it has just been made
    indices = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = iio.imwrite(
        "<bytes>",
        np.stack([np.asarray(frame) for frame in indices]),
        extension=".gif",
        plugin="pillow",
        mode="P",
        is_batch=True,
        palette=bytes(colours),
        duration=list(milliseconds),
        loop=0,
    )
    assert isinstance(file, bytes)
    return file


def can_write_mp4() -> bool:
    """Whether PyAV is installed: the extra `video`."""
    return find_spec("av") is not None


def mp4(frames: Iterable[Image.Image], *, rate: float) -> bytes:
    """An H.264 file; its last frame stays as long as that of a GIF.

    Raises:
        ModuleNotFoundError: PyAV is not installed.
    """
    if not can_write_mp4():
        raise ModuleNotFoundError("an MP4 needs PyAV: pip install '.[video]'", name="av")
    buffer = BytesIO()
    options = {"plugin": "pyav", "extension": ".mp4", "container": "mp4"}
    with iio.imopen(buffer, "w", **options) as opened:
        film: Any = opened  # imageio declares only what all its plugins have
        film.init_video_stream("libx264", fps=rate, pixel_format="yuv420p")
        frame = None
        for image in frames:
            frame = np.asarray(image)
            film.write_frame(frame)
        for _ in range(round(REST * rate)):
            film.write_frame(frame)
    return buffer.getvalue()
