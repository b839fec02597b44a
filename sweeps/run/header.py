"""What a sweep is about to do, said before the imports and databases that take seconds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from lander.config import TrainConfig, whole_rollouts
from lander.dotted import configure, read_text
from lander.terminal import listed
from sweeps.run.cores import usable_cores
from sweeps.store.store import Store
from sweeps.study.settings import naming, read_settings
from sweeps.study.study import read_tables, study_file

SIZES: Final = frozenset({"env.num_envs", "ppo.rollout_steps", "ppo.rollout_episodes"})
"""Fields that decide how long a rollout is."""


def header(
    name_or_file: str, store: Store, *, trials: int | None, workers: int | None, remote: bool
) -> list[tuple[str, str]]:
    """Rows of a label and a text: the study and its budget, what it searches, workers and store.

    It reads the study file and checks little: `find_study` does that, and needs torch.

    Raises:
        ConfigError: no such study, or tables that cannot be read.
    """
    path = study_file(name_or_file)
    with naming(path.name):
        document = read_tables(read_text(path))
        with naming("[study]"):
            settings = read_settings(document)
        with naming("[base]"):
            base = configure(document["base"], base=TrainConfig())
    named, space = [*document.get("points", [])], [*document.get("space", [])]
    points = settings.points or len(named)
    count = points * settings.seed_count or trials or settings.trials
    each = settings.seeds_per_trial
    times = "" if each == 1 else f" of {each} trainings"
    subject = listed("searched", space, end=f" (sampler {settings.sampler})")
    if points:
        under = f"{points}, each under {settings.seed_count} training seeds"
        subject = listed("points", [f"{under}, of {', '.join(space)}" if space else under])
    return [
        ("study", f"{settings.name}: {count:,} trials{times} on {base.env.id}"),
        *subject,
        ("steps", steps_of(base, space)),
        ("workers", workers_of(count * each, workers, remote=remote)),
        ("store", store_of(store)),
    ]


def steps_of(base: TrainConfig, searched: Collection[str]) -> str:
    """How many steps a training takes, which are fewer than `total_steps` if that is no whole
    number of rollouts."""
    if "total_steps" in searched:
        return "as the trial says: total_steps is searched"
    if base.budget == base.total_steps or not SIZES.isdisjoint(searched):
        return f"{base.total_steps:,} in each training"
    return f"{base.budget:,} in each training: {whole_rollouts(base)}"


def workers_of(trainings: int, workers: int | None, *, remote: bool) -> str:
    """How many workers there will be, and where."""
    if workers == 0:
        return "none: those started by `work` are watched"
    if remote:
        return "one per core of the Ray cluster" if workers is None else f"{workers} on Ray"
    count = min(trainings, usable_cores() if workers is None else workers)
    return f"{count} on this machine"


def store_of(store: Store) -> str:
    """The folder of the records, and whether it is new."""
    files = store.database_files
    new = bool(files) and not all(file.is_file() for file in files)
    return f"{store.folder}{', new: its databases take some seconds' if new else ''}"
