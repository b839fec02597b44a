"""The study's seed seeds the search: one worker and one seed give one sequence."""

from __future__ import annotations

from typing import Any

import pytest

import sweeps.run.worker
from sweeps.lifecycle.start import start_sweep
from sweeps.run.objective import Objective, trial_seeds
from sweeps.store.store import Store
from sweeps.study.covering import covering_points
from sweeps.study.space import suggest
from sweeps.study.study import read_study
from sweeps.sweep import open_sweep
from tests.studies import MINI, changed


def sequence(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    *,
    seed: int,
    sampler: str,
    parts: int,
    settings: str = "",
    trials: int = 4,
) -> list[dict[str, Any]]:
    """The parameters of all trials by one worker at a time, in so many runs; none is trained."""
    text = changed(
        MINI,
        {
            '"mini"': f'"{name}"',
            "seed = 3": f'seed = {seed}\nsampler = "{sampler}"\npruner = "none"\n{settings}',
        },
    )
    study = read_study(text, source="mini.toml")

    def propose(self: Objective, trial: Any) -> float:
        suggest(trial, self.study.space, self.study.base)
        return float(trial.number % 3)

    monkeypatch.setattr(Objective, "__call__", propose)
    for part in range(1, parts + 1):
        start_sweep(study, store, trials=trials * part // parts, command=["run"])
        sweeps.run.worker.work(store, name, index=0, seconds=None)
    ended = open_sweep(store, name).read_trials().all
    assert len(ended) == trials
    return [trial.params for trial in ended]


@pytest.mark.parametrize(("sampler", "parts"), [("random", 1), ("tpe", 2), ("qmc", 1)])
def test_one_seed_gives_one_sequence_and_another_seed_another(
    store: Store, monkeypatch: pytest.MonkeyPatch, sampler: str, parts: int
) -> None:
    first, again, other = (
        sequence(store, monkeypatch, name, seed=seed, sampler=sampler, parts=parts)
        for name, seed in [("first", 0), ("again", 0), ("other", 7)]
    )
    assert first == again
    assert first[0] == other[0]  # the defaults
    for mine, theirs in zip(first[1:], other[1:], strict=True):
        assert mine["ppo.learning_rate"] != theirs["ppo.learning_rate"]


def test_the_first_trials_after_the_defaults_cover_the_space(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = "startup_trials = 2"
    trials = sequence(
        store, monkeypatch, "first", seed=5, sampler="tpe", parts=1, settings=settings
    )
    space = read_study(MINI, source="mini.toml").space
    assert trials[1:3] == covering_points(space, 2, seed=5)
    assert trials[3] not in covering_points(space, 4, seed=5)


def test_the_last_trials_train_leaders_again_under_other_seeds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third trial scores 2, the highest; the last four of ten repeat earlier ones."""
    settings = "repeat_from = 0.6"
    params = sequence(
        store, monkeypatch, "again", seed=1, sampler="random", parts=1, settings=settings, trials=10
    )
    assert all(one not in params[:number] for number, one in enumerate(params[:6]))
    assert all(one in params[:6] for one in params[6:])
    sweep = open_sweep(store, "again")
    trials = sweep.read_trials().all
    assert len({trial_seeds(trial, sweep.study)[0] for trial in trials}) == 10
