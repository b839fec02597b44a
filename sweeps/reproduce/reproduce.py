"""python -m sweeps reproduce: retrains a trial from its record, and says what came of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from optuna.trial import FrozenTrial

from lander.errors import ConfigError
from lander.lunar import training_physics
from lander.terminal import say
from sweeps.hints import hint
from sweeps.record.provenance import environment_changes, is_other_machine
from sweeps.reproduce.code import code_lines
from sweeps.reproduce.receipt import Numbers, Receipt, differences, read_receipt
from sweeps.reproduce.replay import log_replay, replay
from sweeps.reproduce.seeds import final_returns, fresh_trainings, inside, sentences
from sweeps.schema import PHYSICS, REASON, RUN_ID, WORKER, Reason, Verdict
from sweeps.store.presence import require_recorded
from sweeps.store.store import Store
from sweeps.sweep import Sweep, open_trial

EXIT_CODES: Final = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.CONSISTENT: 3}
"""Only 0 says bit-equal; 2 is for wrong arguments, as everywhere."""


def run_reproduce(args: argparse.Namespace) -> int:
    """Retrain a trial; the exit code says its verdict."""
    return EXIT_CODES[reproduce(Store(args.store), args.study, args.trial)]


def reproduce(
    store: Store, study_name: str, which: str, *, say: Callable[[str], None] = say
) -> Verdict:
    """Retrain a trial, print recorded and replayed numbers, record the replay as a run.

    Raises:
        ConfigError: the trial has no complete record.
    """
    sweep, trial = open_trial(store, study_name, which)
    if RUN_ID not in trial.user_attrs:
        why = why_unrecorded(trial, store)
        raise ConfigError(f"trial {trial.number} has no record in MLflow: {why}")
    require_recorded(store, sweep.optuna)  # the run of the replay is created beside the trial's
    client = store.runs()
    receipt = read_receipt(client, str(trial.user_attrs[RUN_ID]), origin=store.origin)
    seeds = ", ".join(str(config.seed) for config in receipt.configs)
    say(
        f"{sweep.study.name} trial {trial.number} ({trial.state.name.lower()}): retraining "
        f"{receipt.configs[0].env.id} from run {receipt.run.info.run_id}, seed {seeds}"
    )
    for change in physics_change(receipt):
        say(f"{change}, which changes no number")
    replayed, ending = replay(receipt, say=say)
    problems = differences(receipt.numbers, replayed)
    if ending != receipt.ending:
        problems.append(f"ending: recorded {receipt.ending!r}, replayed {ending!r}")
    verdict, lines = judged(sweep, trial, receipt, replayed, problems)
    log_replay(client, receipt, replayed, verdict=verdict)
    for line in lines:
        say(line)
    return verdict


def judged(
    sweep: Sweep, trial: FrozenTrial, receipt: Receipt, replayed: Numbers, problems: list[str]
) -> tuple[Verdict, list[str]]:
    """The verdict on a replay that differs in these ways, and the lines that say it."""
    if not problems:
        return Verdict.PASS, [
            f"{Verdict.PASS}: {len(receipt.numbers)} recorded numbers, every one bit-equal"
        ]
    tags, verdict, reasons = receipt.run.data.tags, Verdict.FAIL, list[str]()
    if is_other_machine(tags):
        verdict, reasons = by_seeds(sweep, trial, receipt, replayed)
    first = f"{verdict}: first difference: {problems[0]} ({len(problems)} in all)"
    changes = environment_changes(tags) + physics_change(receipt)
    differs = f"differs from the recorded environment: {'; '.join(changes)}"
    lines = [first, *reasons, differs if changes else "same versions and CPU as recorded"]
    return verdict, [*lines, *code_lines(sweep, tags)]


def by_seeds(
    sweep: Sweep, trial: FrozenTrial, receipt: Receipt, replayed: Numbers
) -> tuple[Verdict, list[str]]:
    """The verdict on a replay by another machine, and the reasons."""
    after, before = (final_returns(receipt, each) for each in (replayed, receipt.numbers))
    if not before or len(after) != len(before):
        return Verdict.FAIL, ["without a final return on both sides it is not compared with seeds"]
    fresh = fresh_trainings(sweep, trial)
    if fresh is None:
        confirm = hint("confirm", sweep.store.folder, study=sweep.study.settings.name)
        return Verdict.FAIL, [
            "whether training seeds do as much is not known: too few trainings; more of them: "
            f"{confirm}"
        ]
    verdict = Verdict.CONSISTENT if inside(fresh, after) else Verdict.FAIL
    return verdict, list(sentences(fresh, replayed=after, recorded=before))


def physics_change(receipt: Receipt) -> list[str]:
    """A line if the steps of training are computed by another here than in the record."""
    here = training_physics(receipt.configs[0].env)
    recorded = receipt.run.data.tags.get(PHYSICS, here)
    return [] if recorded == here else [f"{PHYSICS}: recorded {recorded}, here {here}"]


def why_unrecorded(trial: FrozenTrial, store: Store) -> str:
    """Why a trial that has begun has no run, and the remedy if there is one."""
    if trial.user_attrs.get(REASON) == Reason.WITHDRAWN:
        return "it was withdrawn before it ran"
    if WORKER in trial.user_attrs:
        return f"run {hint('doctor', store.folder)} to deliver what its worker recorded"
    return "another tool added it"
