"""Films: what a caption says, at which speed they play, which pixels they have, and equal bytes."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

import lander.film
from lander.__main__ import main
from lander.evaluation import Evaluation, Moment, play, random_act_fn
from lander.film import (
    COLOURS,
    LONGEST,
    Pace,
    averaged,
    can_write_mp4,
    caption_font,
    captioned,
    gif,
    mp4,
    pace_of,
    save_landing,
    save_video,
)

ENV = "LunarLander-v3"


@pytest.fixture(scope="module")
def flown() -> Evaluation:
    return play(random_act_fn(ENV, seed=3), ENV, seeds=[7])


def frames(path: Path) -> list[Image.Image]:
    with Image.open(path) as film:
        return [frame.copy() for frame in ImageSequence.Iterator(film)]


def level(value: int, size: tuple[int, int] = (300, 200)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


def moment(step: int, total_reward: float) -> Moment:
    return Moment(step, total_reward, np.zeros(8), None)


@pytest.mark.parametrize(
    ("steps", "pace", "seconds"),
    [
        (60, Pace(50, 4, 1), 1.2),
        (300, Pace(50, 4, 1), 6.0),
        (500, Pace(50, 7, 1), 10.0),  # at most 75 frames, and still in real time
        (501, Pace(50, 8, 2), 5.01),
        (1000, Pace(50, 14, 2), 10.0),
        (5000, Pace(50, 67, 10), 10.0),
    ],
)
def test_a_film_plays_in_real_time_or_a_whole_number_of_times_faster(
    steps: int, pace: Pace, seconds: float
) -> None:
    assert pace_of(ENV, steps) == pace
    drawn = [*range(0, steps, pace.every), steps]
    assert len(drawn) <= 76
    *playing, rest = pace.milliseconds(drawn)
    assert sum(playing) == pytest.approx(1000 * seconds, abs=10)
    assert rest == 1500


def test_hundredths_of_a_second_do_not_add_up_their_rounding() -> None:
    assert Pace(30, 1, 1).milliseconds([0, 1, 2, 3]) == [30, 40, 30, 1500]


def test_the_clock_says_the_speed_unless_it_is_real_time() -> None:
    assert Pace(50, 4, 1).stamp(230) == "4.6 s"
    assert Pace(50, 4, 2).stamp(1000) == "20.0 s  2x speed"


def test_large_frames_are_averaged_not_thinned() -> None:
    stripes = np.zeros((400, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    small = averaged(Image.fromarray(stripes), width=300)
    assert small.size == (300, 200)
    assert set(np.asarray(small).ravel().tolist()) == {128}
    picture = level(9, (280, 90))
    assert averaged(picture, width=300) is picture
    assert averaged(Image.fromarray(stripes), width=None).size == (600, 400)


def test_a_caption_stands_above_a_picture_that_it_leaves_as_it_is() -> None:
    framed = captioned(level(200), "trial 5, score 1.0", moment(10, 2.0), Pace(50, 4, 1))
    strip = caption_font(300)[1]
    assert framed.size == (300, strip + 200)
    assert set(np.asarray(framed)[strip:].ravel().tolist()) == {200}

    def text(title: str, step: int, total_reward: float) -> NDArray[np.uint8]:
        again = captioned(level(200), title, moment(step, total_reward), Pace(50, 4, 1))
        return np.asarray(again)[:strip]

    first = text("trial 5", 10, 2.0)
    for other in (("trial 6", 10, 2.0), ("trial 5", 20, 2.0), ("trial 5", 10, 3.0)):
        assert not np.array_equal(first, text(*other))
    long = "x" * LONGEST
    assert np.array_equal(text(long, 10, 2.0), text(long + "y", 10, 2.0))


def test_a_small_picture_gets_room_for_its_caption_and_even_sides() -> None:
    framed = captioned(level(200, (31, 21)), "odd", moment(0, 0.0), Pace(50, 4, 1))
    assert framed.width > 200
    assert framed.width % 2 == framed.height % 2 == 0


def test_frames_keep_their_shade_and_stay_as_long_as_asked() -> None:
    shades = [level(value, (20, 10)) for value in (0, 80, 160, 240)]
    file = gif(shades, [40, 80, 120, 1500])
    with Image.open(BytesIO(file)) as film:
        assert film.info["loop"] == 0
        shown = [
            (frame.info["duration"], np.asarray(frame.convert("RGB"))[0, 0, 0])
            for frame in ImageSequence.Iterator(film)
        ]
    assert [(int(time), int(value)) for time, value in shown] == [
        (40, 0),
        (80, 80),
        (120, 160),
        (1500, 240),
    ]


def test_a_landing_is_filmed_in_few_bytes_and_twice_in_the_same(
    flown: Evaluation, tmp_path: Path
) -> None:
    for name in ("one.gif", "two.gif"):
        assert save_landing(tmp_path / name, ENV, flown, title="trial 1, score 2.0") is None
    one, two = ((tmp_path / name).read_bytes() for name in ("one.gif", "two.gif"))
    assert one == two
    assert len(one) < 100_000
    shown = frames(tmp_path / "one.gif")
    assert {frame.size for frame in shown} == {(300, 236)}
    assert sum(int(frame.info["duration"]) for frame in shown) == 20 * flown.lengths[0] + 1500
    colours = {tuple(c) for c in np.asarray(shown[0].convert("RGB")).reshape(-1, 3).tolist()}
    assert len(colours) <= COLOURS


def test_without_the_extra_there_is_only_a_gif(
    flown: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lander.film, "find_spec", lambda _: None)
    assert not can_write_mp4()
    with pytest.raises(ModuleNotFoundError, match="PyAV"):
        save_video(tmp_path / "a.mp4", ENV, flown, title="")
    assert list(tmp_path.iterdir()) == []
    gif = tmp_path / "random.gif"
    argv = ["random", "--env.id", ENV, "--episodes", "1", "--gif", str(gif)]
    assert main(argv) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["random.gif"]


def test_with_the_extra_there_is_an_mp4_beside_it(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="MP4 needs the extra video")
    argv = ["random", "--env.id", "CartPole-v1", "--episodes", "1"]
    for name in ("one", "two"):
        assert main([*argv, "--gif", str(tmp_path / f"{name}.gif")]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"one.gif", "one.mp4", "two.gif", "two.mp4"}
    one, two = ((tmp_path / name).read_bytes() for name in ("one.mp4", "two.mp4"))
    assert one == two
    assert one[4:8] == b"ftyp"
    assert mp4([level(0, (20, 10))], rate=25)[4:8] == b"ftyp"


def test_a_window_needs_a_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    small = ["--env.id", "CartPole-v1", "--env.num-envs", "2", "--ppo.rollout-steps", "32"]
    small += ["--ppo.minibatch-size", "64", "--total-steps", "64", "--checkpoints", "1"]
    assert main([*small, "--out", str(run)]) == 0
    capsys.readouterr()
    fly = ["fly", str(run), "--episodes", "1", "--human"]
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(fly) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "lander: --human opens a window, and this terminal has no display: see the GIF\n"
    )
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert main(fly) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "in a window, one after another; Ctrl-C ends it\nreset seed " in out
    assert out.count("\nreset seed ") == 1


def test_another_course_than_recorded_is_said(flown: Evaluation, tmp_path: Path) -> None:
    other = replace(flown, returns=(1.5,))
    trouble = save_landing(tmp_path / "a.gif", ENV, other, title="")
    assert trouble is not None
    assert trouble.startswith(f"a.gif shows another flight, return {flown.returns[0]:g} in ")
    assert f"instead of 1.5 in {flown.lengths[0]}: {ENV} does not repeat" in trouble
