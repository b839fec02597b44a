"""Shows the progress of the sweeps in a store: reads Optuna's database only, resolves no study."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from math import nan
from typing import Any

import optuna

from lander.terminal import say
from sweeps.endings import ending
from sweeps.estimates import Expected
from sweeps.hints import no_sweep
from sweeps.schema import BEST_POLICY, WINNER, Ending
from sweeps.scores import best_expected, promise
from sweeps.store.best_policy import BestPolicy
from sweeps.store.store import Store
from sweeps.store.trials import read_trials
from sweeps.study.audit import audit_of


def status(args: argparse.Namespace) -> int:
    """Print one line, or one JSON object, per study."""
    store = Store(args.store)
    report = [summary(store.load_study(name, anywhere=True)) for name in store.study_names()]
    if args.json:
        print(json.dumps(report, indent=2))
        return 0
    for row in report:
        say(f"{row['study']}: {'; '.join(parts(row))}")
    if not report:
        print(no_sweep(store.folder))
    return 0


def parts(row: Mapping[str, Any]) -> Iterator[str]:
    """The progress of a study in words."""
    yield ", ".join(f"{count} {name}" for name, count in row["trials"].items() if count)
    if row["stopped"]:
        yield f"stopped: {row['stopped']}"
    if row["best_trial"] is None:
        yield "no trial finished yet"
    else:
        error = row["best_expected_return_error"]
        likely = Expected(
            row["best_expected_return"],
            nan if error is None else error,
            promised=row["best_promised"],
            trainings=row["best_trainings"],
        )
        yield f"best: {promise(row['best_trial'], likely)}"
    if row["pruner"]:
        yield f"pruner: {row['pruner']}"
    if row["best_policy"] is not None:
        yield f"best policy: {BestPolicy(**row['best_policy'])}"
    if row["winner"] is not None:
        yield f"confirmed: trial {row['winner']}"


def summary(study: optuna.Study) -> dict[str, Any]:
    """The progress of a study as plain values, for JSON."""
    trials = read_trials(study)
    audit = audit_of(trials.all)
    best, count = best_expected(trials.all), Counter(map(ending, trials.all))
    count[Ending.WAITING] = trials.left  # most of them are not drawn before a worker asks
    return {
        "study": study.study_name,
        "trials": {how.value: count[how] for how in Ending},
        "stopped": trials.stopped or None,
        "best_trial": best.trial.number if best else None,
        "best_value": best.trial.values[0] if best else None,
        "best_expected_return": best.likely.value if best else None,
        "best_expected_return_error": best.likely.known_error if best else None,
        "best_promised": best.likely.promised if best else None,
        "best_trainings": best.likely.trainings if best else None,
        "pruner": str(audit) if audit.audited else None,
        "best_policy": study.user_attrs.get(BEST_POLICY),
        "winner": study.user_attrs.get(WINNER),
    }
