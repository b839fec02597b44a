"""Does beforehand what publishing a sweep takes, while its last trials leave a core free."""

from __future__ import annotations

from collections.abc import Callable, Generator
from importlib import import_module

from sweeps.publish.best_policy import episodes_of, leaders, one_environment
from sweeps.publish.flights import CHOICE
from sweeps.record.recorder import tolerated
from sweeps.sweep import Sweep, open_sweep

CHARTS = "sweeps.charts.search"
"""What a sweep is published with."""


def publish_ahead(sweep: Sweep, *, check: Callable[[], None]) -> Generator[None]:
    """Import the charts, then fly the policies that lead by now, one at each step; `publish` finds
    their flights on record.

    What cannot be flown yet, `publish` flies. `check` is called during the flights; an exception
    that it raises ends them.
    """
    import_module(CHARTS)
    yield
    if sweep.study.confirms or not one_environment(sweep.study):
        return
    sweep, episodes = open_sweep(sweep.store, sweep.study.name), episodes_of(sweep.study)
    for candidate in leaders(sweep, sweep.read_trials()):
        if not candidate.has_flown(CHOICE, episodes=episodes):
            with tolerated([], candidate.name):
                candidate.fly(CHOICE, episodes=episodes, check=check)
            yield
