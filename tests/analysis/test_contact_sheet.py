"""The contact sheet: who is on it, that all began alike, and that its file stays small."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from analysis.report.contact_sheet import (
    GAP,
    Flight,
    Sheet,
    above,
    contact_sheet,
    point_at,
    side_by_side,
)
from lander.evaluation import play, random_act_fn, replay
from lander.film import caption_font

STRIP = caption_font(300)[1]
ENV = "LunarLanderContinuous-v3"
PANEL = (300, 200 + STRIP)
"""Width and height of one flight: half of Gymnasium's 600 x 400, and the text."""


def flight(role: str, *, seed: int, actions: int) -> Flight:
    """A random pilot of its own, from a reset seed."""
    return Flight(role, play(random_act_fn(ENV, seed=actions), ENV, seeds=[seed]))


@pytest.fixture(scope="module")
def flights() -> list[Flight]:
    return [flight(f"pilot {i}", seed=7, actions=i) for i in range(3)]


@pytest.fixture(scope="module")
def sheet(flights: list[Flight]) -> Sheet:
    return contact_sheet(ENV, flights)


def frames(gif: bytes) -> list[NDArray[np.uint8]]:
    """Every frame (H, W, 3); Pillow writes equal neighbours as one longer frame."""
    with Image.open(BytesIO(gif)) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def duration(gif: bytes) -> int:
    """Milliseconds of the whole loop."""
    with Image.open(BytesIO(gif)) as image:
        return sum(int(frame.info["duration"]) for frame in ImageSequence.Iterator(image))


def test_a_frame_per_four_steps_and_a_rest_on_the_last(flights: list[Flight], sheet: Sheet) -> None:
    gif = sheet.gif
    longest = max(flight.evaluation.lengths[0] for flight in flights)
    assert longest < 4 * 150  # none was thinned out
    shown = -(-longest // 4)  # steps 0, 4, 8, .. before the end
    assert len(frames(gif)) <= shown + 1
    assert duration(gif) == 20 * longest + 1500  # a step of 20 ms takes 20 ms
    with Image.open(BytesIO(gif)) as image:
        assert image.format == "GIF"
        assert image.info["loop"] == 0
        assert image.size == (3 * PANEL[0] + 2 * GAP, PANEL[1])


def test_all_flights_begin_alike_and_end_differently(sheet: Sheet) -> None:
    first, *_, last = frames(sheet.gif)

    def panels(frame: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        starts = [i * (PANEL[0] + GAP) for i in range(3)]
        return [frame[STRIP:, start : start + PANEL[0]] for start in starts]

    assert all(np.array_equal(panel, panels(first)[0]) for panel in panels(first))
    assert not np.array_equal(panels(last)[0], panels(last)[1])


def test_flights_of_different_reset_seeds_are_refused(flights: list[Flight]) -> None:
    with pytest.raises(ValueError, match="one reset seed, got 7, 8"):
        contact_sheet(ENV, [flights[0], flight("other", seed=8, actions=1)])


def test_a_file_too_large_loses_frames_not_time(flights: list[Flight], sheet: Sheet) -> None:
    whole = sheet.gif
    small = contact_sheet(ENV, flights, limit=len(whole) // 2).gif
    assert len(small) <= len(whole) // 2
    assert len(frames(small)) < len(frames(whole))
    assert duration(small) == pytest.approx(duration(whole), abs=320)
    assert np.array_equal(frames(small)[0].shape, frames(whole)[0].shape)


def test_the_still_shows_how_it_ended(sheet: Sheet) -> None:
    with Image.open(BytesIO(sheet.still)) as still:
        assert still.format == "PNG"
        end = np.asarray(still.convert("RGB")).astype(int)
    # both have palettes of their own
    first, *_, last = (np.abs(end - frame).mean() for frame in frames(sheet.gif))
    assert last < 1 < first


def test_a_short_column_rests_on_its_last_picture() -> None:
    def column(*levels: int) -> list[Image.Image]:
        return [Image.new("RGB", (2, 2), (level, level, level)) for level in levels]

    rows = side_by_side([column(1, 2, 3), column(7)])
    assert [np.asarray(row)[0, [0, -1], 0].tolist() for row in rows] == [[1, 7], [2, 7], [3, 7]]
    assert rows[0].size == (2 + GAP + 2, 2)


def test_a_title_has_the_score_which_is_not_this_flights_return(
    flights: list[Flight],
) -> None:
    evaluation = flights[0].evaluation
    assert Flight("best", evaluation, 25, score=190.62).title == "best: trial 25, score 190.6"
    assert Flight("best", evaluation, 17).title == "best: trial 17"
    assert flights[0].title == "pilot 0"


def test_an_arrow_points_at_a_craft_above_the_picture(flights: list[Flight]) -> None:
    full_thrust = np.array([[1.0, 0.0]], np.float32)
    up = Flight("up", play(lambda obs: full_thrust.repeat(len(obs), axis=0), ENV, seeds=[7]))
    moments = list(replay(ENV, seed=7, actions=up.evaluation.actions[0]))
    across = above(ENV, moments[-1])
    assert above(ENV, moments[0]) is None
    assert across is not None
    assert 0 <= across <= 1
    sky = Image.new("RGB", PANEL)
    point_at(sky, across)
    drawn = np.asarray(sky)
    assert drawn[:STRIP].max() == 0
    assert drawn[STRIP:].max() == 255
    still = contact_sheet(ENV, [flights[0], up]).still
    with Image.open(BytesIO(still)) as image:
        end = np.asarray(image.convert("RGB"))
    x = round(across * PANEL[0]) + PANEL[0] + GAP
    assert end[STRIP + 10, min(max(x, PANEL[0] + GAP + 6), end.shape[1] - 6)].min() > 200


def test_of_other_environments_nobody_knows_where_the_picture_ends() -> None:
    full_thrust = np.array([1.0, 0.0], np.float32)
    *_, last = replay(ENV, seed=7, actions=np.tile(full_thrust, (400, 1)))
    assert above(ENV, last) is not None
    assert above("CartPole-v1", last) is None


def test_a_flight_is_as_recorded_only_if_every_return_is_equal(flights: list[Flight]) -> None:
    evaluation = flights[0].evaluation
    value = evaluation.returns[0]
    assert Flight("best", evaluation, 17, [value]).is_recorded is True
    assert Flight("best", evaluation, 17, [np.nextafter(value, 0)]).is_recorded is False
    assert Flight("best", evaluation, 17).is_recorded is None
