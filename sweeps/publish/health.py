"""python -m sweeps health: what the records of a sweep say about the sweep itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from mlflow.exceptions import MlflowException

from lander.errors import ConfigError
from lander.metrics import FINAL_SAMPLED
from lander.terminal import say
from sweeps.health.record import Health
from sweeps.schema import CONFIRM_SUFFIX, RUN_ID
from sweeps.store.mlflow_private import histories
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.sweep import Sweep, open_sweep


def show_health(args: argparse.Namespace) -> int:
    """Print what a sweep says about itself, in words or as JSON; 0.

    Raises:
        ConfigError: no such sweep, or a confirmation.
    """
    sweep = open_sweep(Store(args.store), args.study)
    name = sweep.study.name
    if sweep.study.confirms:
        plain = name.removesuffix(CONFIRM_SUFFIX)
        raise ConfigError(f"{name} is a confirmation: --study {plain} examines its sweep")
    health = health_of(sweep, sweep.read_trials())
    if args.json:
        print(json.dumps(health.record, indent=2))
        return 0
    say(f"{name}: {health.state}")
    for number, finding in enumerate(health.findings, 1):
        print()
        say(f"{number}. {finding.sentence}")
        say(f"   {finding.evidence}")
        say(f"   {finding.remedy.do}: {finding.remedy.paste}")
    if health.findings and health.open:
        print()
        say(f"not examined: {'; '.join(f'{check}: {why}' for check, why in health.open.items())}")
    return 0


def health_of(sweep: Sweep, trials: Trials, *, folder: Path | None = None) -> Health:
    """Examine a sweep; its commands name its store, or another `folder`."""
    # SciPy's statistics take half a second, which most commands do not need
    from sweeps.health.evidence import Evidence
    from sweeps.health.examination import examine

    sampled = sampled_returns(sweep, trials)
    return examine(Evidence(sweep.study, trials, folder or sweep.store.folder, sampled))


def sampled_returns(sweep: Sweep, trials: Trials) -> Mapping[str, float] | None:
    """What each trial's policies returned with sampled actions, by the ids of runs; None if MLflow
    does not answer."""
    runs = [str(t.user_attrs[RUN_ID]) for t in trials.counted if RUN_ID in t.user_attrs]
    try:
        points = histories(sweep.store.runs(), runs, FINAL_SAMPLED)
        return {run_id: value for run_id, _, value in points}
    except (MlflowException, OSError):
        return None
