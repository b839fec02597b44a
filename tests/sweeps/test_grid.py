"""A grid is drawn point by point, each training once, in an order that its seed decides."""

from __future__ import annotations

from itertools import islice, product
from typing import Any

import pytest
from optuna.trial import FixedTrial

from lander.dotted import flatten
from sweeps.schema import Reason
from sweeps.store.budget_storage import NoTrialLeft
from sweeps.store.store import Store
from sweeps.study.grid import Grid, shuffled
from sweeps.study.space import grid, suggest
from sweeps.study.study import Study, read_study
from sweeps.sweep import open_sweep
from tests.studies import study_text
from tests.sweeps.test_sweep import finish, start

CONDITIONAL = """
"policy.head" = { choices = ["categorical", "gaussian"] }
"env.bins" = { choices = [3, 5, 7] }
"""
NESTED = """
"policy.head" = { choices = ["categorical", "gaussian"] }
"env.bins" = { choices = [3, 5] }
"policy.std" = { choices = ["learned", "decayed"] }
"policy.final_std" = { choices = [0.1, 0.2, 0.3] }
"ppo.surrogate" = { choices = ["clip", "kl_fixed", "none"] }
"ppo.clip_range" = { choices = [0.1, 0.2] }
"ppo.kl_coef" = { choices = [0.5, 1.0] }
"""
WIDE = "\n".join(
    f'"{name}" = {{ choices = [{", ".join(map(str, values))}] }}'
    for name, values in {
        "ppo.learning_rate": [1e-3 * (i + 1) for i in range(10)],
        "ppo.clip_range": [0.05 * (i + 1) for i in range(10)],
        "ppo.update_epochs": range(1, 11),
        "ppo.gae_lambda": [0.9 + 0.01 * i for i in range(10)],
    }.items()
)


def study(space: str, *, seed: int = 5, base: str = "") -> Study:
    text = study_text(
        "grid",
        settings=f'trials = 40\nsampler = "grid"\nseed = {seed}',
        base=f"""
"env.id" = "LunarLanderContinuous-v3"
"env.bins" = 5
total_steps = 102_400
{base}""",
        space=space,
    )
    return read_study(text, source="grid.toml")


def grid_of(space: str, *, seed: int = 5) -> Grid:
    searched = study(
        space,
        seed=seed,
        base='"ppo.learning_rate" = 0.001\n"ppo.clip_range" = 0.1\n"ppo.gae_lambda" = 0.9',
    )
    return Grid(searched.space, searched.base, searched.settings.seed)


@pytest.mark.parametrize(("space", "size"), [(CONDITIONAL, 4), (NESTED, 30), (WIDE, 10_000)])
def test_every_point_is_another_training_and_none_is_missing(space: str, size: int) -> None:
    points = grid_of(space)

    def training(point: dict[str, Any]) -> tuple[object, ...]:
        return tuple(flatten(suggest(FixedTrial(point), points.space, points.base)).values())

    assert points.size == size
    values = grid(points.space)
    if size < 10_000:
        trainings = {training(point) for point in points}
        every = (dict(zip(values, row, strict=True)) for row in product(*values.values()))
        assert len(trainings) == size
        assert trainings == {training(point) for point in every}
    else:
        assert len({frozenset(point.items()) for point in points}) == size


def test_a_grid_of_any_size_costs_nothing_before_it_is_drawn() -> None:
    space = '"env.time_limit" = { low = 8, high = 1000007 }\n'
    points = grid_of(space + '"ppo.gae_lambda" = { choices = [0.9, 0.95] }')
    assert points.size == 2_000_000
    assert len(list(islice(points, 5))) == 5


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100, 257])
def test_to_shuffle_gives_every_place_another_one(size: int) -> None:
    assert sorted(shuffled(position, size, 1) for position in range(size)) == list(range(size))


def test_a_part_of_a_grid_reaches_into_all_of_it_and_follows_the_seed() -> None:
    first = list(islice(grid_of(WIDE), 40))
    for name in first[0]:
        assert len({point[name] for point in first}) >= 8  # of 10 values
    assert list(islice(grid_of(WIDE), 40)) == first
    assert list(islice(grid_of(WIDE, seed=6), 40)) != first


def test_points_that_are_one_training_are_one_trial(store: Store) -> None:
    sweep = start(store, study=study(CONDITIONAL))
    assert sweep.read_trials().total == 4
    tried = [finish(sweep).params for _ in range(4)]
    assert len({tuple(sorted(map(str, point.values()))) for point in tried}) == 4
    with pytest.raises(NoTrialLeft):
        finish(sweep)


def test_two_workers_never_draw_the_same_point(store: Store) -> None:
    start(store, study=study(NESTED))
    workers = [open_sweep(store, "grid", sampler_seed=seed) for seed in (1, 2)]
    tried = [finish(workers[turn % 2]).params for turn in range(30)]
    assert len({frozenset(point.items()) for point in tried}) == 30


def test_a_grid_is_never_asked_for_more_trials_than_it_has_points(store: Store) -> None:
    sweep = start(store, study=study(CONDITIONAL), trials=3)
    finish(sweep)
    trials = sweep.read_trials()
    assert (trials.total, trials.left) == (3, 2)
    sweep = start(store, study=study(CONDITIONAL), trials=1_000_000)
    trials = sweep.read_trials()
    assert (trials.total, trials.left) == (4, 3)


def test_a_smaller_total_of_a_grid_runs_nothing_more(store: Store) -> None:
    sweep = start(store, study=study(CONDITIONAL))
    for _ in range(3):
        finish(sweep)
    sweep = start(store, study=study(CONDITIONAL), trials=2)
    trials = sweep.read_trials()
    assert (trials.total, trials.left) == (3, 0)
    with pytest.raises(NoTrialLeft):
        finish(sweep)


def test_a_grid_that_an_earlier_version_enqueued_is_taken_as_it_is(store: Store) -> None:
    sweep = start(store, study=study(CONDITIONAL), trials=1)
    old = [
        {"policy.head": head, "env.bins": bins}
        for head, bins in product(["categorical", "gaussian"], [3, 5])
    ]
    for point in old:
        sweep.optuna.enqueue_trial(point)
    sweep.fail(sweep.read_trials().all[-1], Reason.WITHDRAWN)
    sweep = start(store, study=study(CONDITIONAL))
    trials = sweep.read_trials()
    assert (trials.total, trials.left) == (
        5,
        5,
    )  # the defaults are waiting twice
    trained = [finish(sweep).params for _ in range(5)]
    assert len({frozenset(point.items()) for point in trained}) == 4
