"""The contact sheet: who is on it, that all began alike, and that its file stays small."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, create_trial
from PIL import Image, ImageSequence

from analysis.report.contact_sheet import (
    GAP,
    STRIP,
    Flight,
    Sheet,
    chosen,
    contact_sheet,
    labelled,
    positions_above,
    side_by_side,
)
from lander.evaluation import play, random_act_fn

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
    assert duration(gif) == 80 * shown + 1500
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
    assert np.abs(end - frames(sheet.gif)[-1]).mean() < 2
    assert np.abs(end - frames(sheet.gif)[0]).mean() > 2


def test_a_short_column_rests_on_its_last_picture() -> None:
    def column(*levels: int) -> list[NDArray[np.uint8]]:
        return [np.full((1, 1, 3), level, np.uint8) for level in levels]

    rows = side_by_side([column(1, 2, 3), column(7)])
    assert [row[0, [0, -1], 0].tolist() for row in rows] == [[1, 7], [2, 7], [3, 7]]
    assert rows[0].shape == (1, 1 + GAP + 1, 3)


def trials(count: int) -> list[FrozenTrial]:
    return [create_trial(value=float(-i), params={}, distributions={}) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "roles"),
    [
        (0, {}),
        (1, {"best": 0}),
        (2, {"best": 0, "worst": 1}),
        (3, {"best": 0, "median": 1, "worst": 2}),
        (4, {"best": 0, "median": 2, "worst": 3}),
    ],
)
def test_best_median_and_worst_are_flown_each_trial_once(count: int, roles: dict[str, int]) -> None:
    by_role = chosen(trials(count))
    assert {role: -int(trial.values[0]) for role, trial in by_role.items()} == roles
    assert list(by_role) == list(roles)


def test_a_label_separates_a_trials_score_from_this_episodes_return(
    flights: list[Flight],
) -> None:
    evaluation = flights[0].evaluation
    caption = f"this episode {evaluation.returns[0]:.1f}, {evaluation.lengths[0]} steps"
    assert Flight("best", evaluation, 17).label == f"best: trial 17\n{caption}"
    of_trial = Flight("median", evaluation, 25, score=190.62)
    assert of_trial.label == f"median: trial 25, score 190.6\n{caption}"
    assert flights[0].label == f"pilot 0\n{caption}"


def test_an_arrow_points_at_a_craft_above_the_picture(flights: list[Flight]) -> None:
    full_thrust = np.array([[1.0, 0.0]], np.float32)
    up = Flight("up", play(lambda obs: full_thrust.repeat(len(obs), axis=0), ENV, seeds=[7]))
    above = positions_above(ENV, up)
    assert len(above) == up.evaluation.lengths[0] + 1
    assert above[0] is None
    assert above[-1] is not None
    assert 0 <= above[-1] <= 1
    sky = np.zeros((200, 300, 3), np.uint8)
    assert labelled(sky, "up")[STRIP:].max() == 0
    assert labelled(sky, "up", above=above[-1])[STRIP:].max() == 255
    still = contact_sheet(ENV, [flights[0], up]).still
    with Image.open(BytesIO(still)) as image:
        end = np.asarray(image.convert("RGB"))
    x = round(above[-1] * PANEL[0]) + PANEL[0] + GAP
    assert end[STRIP + 10, min(max(x, PANEL[0] + GAP + 6), end.shape[1] - 6)].min() > 200


def test_of_other_environments_nobody_knows_where_the_picture_ends(flights: list[Flight]) -> None:
    assert set(positions_above("CartPole-v1", flights[0])) == {None}


def test_a_flight_is_as_recorded_only_if_every_return_is_equal(flights: list[Flight]) -> None:
    evaluation = flights[0].evaluation
    value = evaluation.returns[0]
    assert Flight("best", evaluation, 17, [value]).is_recorded is True
    assert Flight("best", evaluation, 17, [np.nextafter(value, 0)]).is_recorded is False
    assert Flight("best", evaluation, 17).is_recorded is None
