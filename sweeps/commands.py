"""The commands of `python -m sweeps`, but for `status` and `work`, which need less of it."""

from __future__ import annotations

import argparse
import csv
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial

from lander.dotted import to_toml
from lander.env import require_limit
from lander.errors import ConfigError
from lander.export import cleanrl, rl_zoo, sb3
from lander.resolve import resolve
from lander.terminal import listed, say, say_rows
from sweeps.cli import added_commands
from sweeps.confirm import TRAININGS, minutes_of, seconds_of_training
from sweeps.doctor.doctor import check_up, doctor
from sweeps.endings import ending
from sweeps.errors import one_line
from sweeps.hints import hint
from sweeps.lifecycle.given import try_values
from sweeps.lifecycle.start import first_trials, start_sweep
from sweeps.publish.card import tuning_card
from sweeps.publish.health import health_of
from sweeps.publish.page import sweep_url
from sweeps.publish.publish import publish, show_beginning, warn
from sweeps.record.recorder import tolerated
from sweeps.reproduce.reproduce import run_reproduce
from sweeps.run.cores import usable_cores
from sweeps.run.failures import ENOUGH, repeated_failure
from sweeps.run.forecast import forecast
from sweeps.run.fork_server import ForkServer
from sweeps.run.local import LocalLauncher
from sweeps.run.objective import trial_configs, trial_seeds
from sweeps.run.ray import connected
from sweeps.run.supervisor import Launcher, run_trials_left
from sweeps.schema import (
    BEST_ALIAS,
    CONFIRM_SUFFIX,
    CONFIRMED_ALIAS,
    COPIED_FROM,
    EXPECTED_ERROR,
    EXPECTED_RETURN,
    GIVEN,
    POINT,
    REASON,
    TRACEBACK_FILE,
    WINNER,
    Ending,
)
from sweeps.scores import (
    Ranked,
    base_among,
    expected,
    last_return,
    parameters,
    promise,
    violated,
)
from sweeps.store.best_policy import recorded_policy
from sweeps.store.disk import reporting_full_disk, require_space
from sweeps.store.presence import require_recorded
from sweeps.store.retry import RETRY_SECONDS
from sweeps.store.store import Store
from sweeps.store.trials import Trials
from sweeps.study.audit import audit_of
from sweeps.study.cost import Cost, cost_of
from sweeps.study.dead_ends import dead_ends
from sweeps.study.space import brief, field_values
from sweeps.study.study import Study, find_study
from sweeps.sweep import Sweep, open_sweep, open_trial, to_run_again


def run(args: argparse.Namespace, server: ForkServer) -> int:
    """Start or resume a sweep, show its progress and publish it; the exit code.

    The server forks the workers on this machine.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as Ctrl-C does
    if args.address is not None and args.launcher != "ray":
        raise ConfigError("--address names a Ray cluster: add --launcher ray")
    study, store = find_study(args.study), Store(args.store)
    for problem in dead_ends(study):
        print(f"sweeps: warning: {problem}", file=sys.stderr)
    if args.dry_run:
        require_limits(study, store)
        first_trials(study, store, trials=args.trials, warm_start=args.warm_start, fork=args.fork)
        unknown = "not measured: it is over, or about a minute, or not trained from here"
        say_rows(forecast(study, store, args).rows or [("takes", unknown)])
        return 0
    with launching(args, server) as launcher:
        check_up(store, study.name)
        require_limits(study, store)
        ahead = forecast(study, store, args)
        sweep = start_sweep(
            study,
            store,
            trials=ahead.trials,
            command=sys.argv[1:],
            warm_start=args.warm_start,
            fork=args.fork,
        )
        show_beginning(sweep)
        say_rows(ahead.rows)
        trials, finished = sweep.read_trials(), True
        if sweep.grid is not None and trials.total < sweep.grid.size:
            count = f"{trials.total:,} of {sweep.grid.size:,} points of the grid"
            print(f"sweeps: warning: only {count} are tried, drawn at random", file=sys.stderr)
        if not trials.over or (args.workers == 0 and trials.running):
            seconds = args.hours and args.hours * 3600
            finished = run_trials_left(
                sweep, launcher=launcher, workers=args.workers, seconds=seconds
            )
        say(f"publishing {study.name} in MLflow")
        # after Ctrl-C nobody wants to wait for servers or flights
        delivered = publish(sweep, patience=RETRY_SECONDS if finished else 0, fly=finished)
    if not finished:
        return 130
    print_end(sweep, args, was_complete=not trials.left)
    write_report(sweep, args)
    return 0 if delivered and not only_failures(sweep.read_trials()) else 1


def only_failures(trials: Trials) -> bool:
    """Whether trials have failed, and none came to anything else."""
    ends = {ending(trial) for trial in trials.counted if trial.state.is_finished()}
    return ends == {Ending.FAILED}


def require_limits(study: Study, store: Store) -> None:
    """Refuse a new study of which some environment has no time limit."""
    if study.name not in store.study_names() and "env.time_limit" not in study.space:
        for env in {config.env for config in study.configs}:
            require_limit(env)


def write_report(sweep: Sweep, args: argparse.Namespace) -> None:
    """Let the command `report`, if a package adds one, write the page of a sweep at the end of a
    command with `add_no_report`.

    If it cannot, there is a warning: the sweep is published without it.
    """
    report = None if args.no_report else added_commands().get("report")
    if report is None or report.perform is None or not sweep.read_trials().counted:
        return
    warnings = list[str]()
    with tolerated(warnings, "the report"):
        report.perform(
            argparse.Namespace(**{**vars(args), "command": "report", "study": sweep.study.name})
        )
    for warning in warnings:
        again = hint("report", sweep.store.folder, study=sweep.study.name)
        warn(f"{warning}; to write it: {again}")


def print_end(sweep: Sweep, args: argparse.Namespace, *, was_complete: bool) -> None:
    """Print how far a sweep is after `run`, how to continue it, and its best trial.

    Raises:
        RuntimeError: it stopped because its trials fail.
    """
    name, folder, trials = sweep.study.name, sweep.store.folder, sweep.read_trials()
    failure = repeated_failure(trials.all) if trials.left else ""
    if failure:
        raise RuntimeError(
            f"stopped after {ENOUGH} identical failures: {failure} (see {TRACEBACK_FILE} of the "
            "runs); fix the cause, then run the same command to resume; a study whose [base] or "
            "[space] changes needs another name"
        )
    if trials.running:
        print(f"study {name}: other commands are running {trials.running} of its trials")
    elif was_complete:
        total = len(trials.counted)
        print(f"study {name} is complete: {total} trials in {folder}")
        if sweep.study.has_points:
            print("extend it: add points or training seeds to its file")
        elif sweep.grid is None or sweep.grid.untried(trials.all):
            print(f"extend it: {hint('sweep', folder, study=args.study, trials=2 * trials.asked)}")
    elif trials.left:
        if trials.stopped:
            print(f"stopped: {trials.stopped}; to go on, change [stop] in the study file")
        as_in_file = sweep.study.has_points or trials.asked == sweep.study.settings.trials
        asked = None if as_in_file else trials.asked
        resume = hint("sweep", folder, study=args.study, trials=asked)
        why = "time is up: " if args.hours and not trials.stopped else ""
        print(f"{why}{trials.left} of {trials.total} trials are left; resume: {resume}")
    conclude(sweep, trials, workers=args.workers, report=not args.no_report)


@contextmanager
def launching(args: argparse.Namespace, server: ForkServer) -> Generator[Launcher]:
    """The launcher that the arguments ask for."""
    if args.launcher == "ray":
        with connected(Store(args.store), address=args.address) as launcher:
            yield launcher
    else:
        yield LocalLauncher(server)


def conclude(
    sweep: Sweep, trials: Trials, *, workers: int | None = None, report: bool = True
) -> None:
    """Print the result first: the best trial beside the base, the best policy, and what to do next.

    Without a `report`, which is otherwise the next thing that the caller writes, also how to get
    one.
    """
    ranks = expected(trials.all)
    if not ranks:
        failed = [trial for trial in trials.all if ending(trial) == Ending.FAILED]
        reason = failed[0].user_attrs[REASON] if failed else "none ended"
        say(f"no trial finished; first failure: {reason}")
        return
    say_rows([*best_rows(sweep, trials, ranks), *policy_rows(sweep), *pruner_rows(sweep, trials)])
    print()
    say_rows(next_rows(sweep, workers=workers, report=report))
    with tolerated([], "health"):
        say_rows(health_rows(sweep, trials))


def best_rows(sweep: Sweep, trials: Trials, ranks: Sequence[Ranked]) -> Iterator[tuple[str, str]]:
    """The best trial, what the study's base had, and the parameters of the best."""
    study, best, base = sweep.study, ranks[0], base_among(trials.all, ranks)
    point = f', point "{best.trial.user_attrs[POINT]}"' if study.has_points else ""
    yield "best", f"{promise(best.trial.number, best.likely)}{point}"
    if violated(best.trial):
        yield "", f"no trial keeps all constraints; it violates {', '.join(violated(best.trial))}"
    if base is not None and base.trial.number == best.trial.number:
        yield "", "which trains the first point" if study.points else "which trains the defaults"
    elif base is not None:
        yield "first" if study.points else "defaults", promise(base.trial.number, base.likely)
        if best.likely.trainings == base.likely.trainings == 1:
            yield "", "one training each: the difference may be luck"
    values = field_values(best.trial.params, study.space)
    yield from listed("with", (f"{name} {brief(value)}" for name, value in values.items()))


def policy_rows(sweep: Sweep) -> Iterator[tuple[str, str]]:
    """The best policy and the confirmed configuration, as far as there are any."""
    policy, winner = recorded_policy(sweep.optuna), sweep.optuna.user_attrs.get(WINNER)
    name = sweep.study.name
    if policy is not None:
        yield "policy", f"{policy}: models:/{name}@{BEST_ALIAS}"
    if winner is not None:
        yield "confirmed", f"trial {winner}: models:/{name}@{CONFIRMED_ALIAS}"


def pruner_rows(sweep: Sweep, trials: Trials) -> Iterator[tuple[str, str]]:
    """Whether the pruner was right, as far as it ended trials."""
    audit = audit_of(trials.all, reports=sweep.study.reports)
    if audit.pruned or audit.audited:
        yield "pruner", str(audit)


def next_rows(sweep: Sweep, *, workers: int | None, report: bool) -> Iterator[tuple[str, str]]:
    """What to do next, as commands."""
    name, folder = sweep.study.name, sweep.store.folder
    if not sweep.store.tracked_remotely:
        yield "look", hint("ui", folder)
    yield "" if not sweep.store.tracked_remotely else "look", sweep_url(sweep)
    if not report:
        yield "report", hint("report", folder, study=name)
    if WINNER not in sweep.optuna.user_attrs:
        yield "check", hint("confirm", folder, study=name)
        yield "", f"is it better, or was it lucky? {confirmation_takes(sweep, workers)}"
    yield "repeat", hint("reproduce", folder, study=name, trial="best")
    yield "", "trains it again, and compares every number bit for bit"


def health_rows(sweep: Sweep, trials: Trials) -> Iterator[tuple[str, str]]:
    """What the sweep says about itself, if it has findings, and the command that shows them."""
    health = health_of(sweep, trials)
    if health.findings:
        yield "health", hint("health", sweep.store.folder, study=sweep.study.name)
        yield "", f"{health.state}, the first: {health.findings[0].sentence}"


def confirmation_takes(sweep: Sweep, workers: int | None) -> str:
    """How many trainings a confirmation is, and how long that takes."""
    each, takes = seconds_of_training(sweep), f"{TRAININGS} trainings"
    if each is None:
        return takes
    minutes = minutes_of(TRAININGS, each=each, workers=workers or usable_cores())
    return f"{takes}, about {minutes} min"


def export(args: argparse.Namespace) -> int:
    """Print a trial's resolved config, as TOML or as another framework takes it, behind comments
    with its tuning card."""
    sweep, trial = open_trial(Store(args.store), args.study, args.trial)
    try:
        config, *_ = trial_configs(trial, sweep.study)
    except ValueError as error:  # Optuna's: another tool added the trial
        raise ConfigError(f"trial {trial.number} has no config in this study: {error}") from None
    print(as_comments(tuning_card(sweep, trial)))
    if args.framework is None:
        print(to_toml(config), end="")
        return 0
    title = f"Trial {trial.number} of the sweep {sweep.study.name}, trained by lander-sweeps."
    print(FRAMEWORKS[args.framework](resolve(config), title=title), end="")
    return 0


def as_comments(text: str) -> str:
    """Markdown as comments, of TOML, YAML, a shell and Python alike."""
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())


def trials(args: argparse.Namespace) -> int:
    """Print every trial of a sweep as a line of CSV, with a column for each searched field."""
    sweep = open_sweep(Store(args.store), args.study)
    space = sweep.study.space
    every = sweep.read_trials().all
    likely = {parameters(one.trial): one.likely for one in expected(every)}
    columns = [
        "trial",
        "state",
        "value",
        EXPECTED_RETURN,
        EXPECTED_ERROR,
        "reports",
        *(field.name for field in fields(Cost)),
        "seeds",
        *space,
    ]
    if sweep.study.has_points:
        columns.insert(1, "point")
    if any(map(origin_of, every)):
        columns.insert(1, "origin")
    lines = csv.DictWriter(sys.stdout, columns, lineterminator="\n", extrasaction="ignore")
    lines.writeheader()
    for trial in every:
        its = likely.get(parameters(trial)) if ending(trial) == Ending.FINISHED else None
        lines.writerow(
            {
                "trial": trial.number,
                "origin": origin_of(trial),
                "point": trial.user_attrs.get(POINT),
                "state": ending(trial),
                "value": last_return(trial),
                EXPECTED_RETURN: its.value if its else None,
                EXPECTED_ERROR: its.known_error if its else None,
                "reports": max(trial.intermediate_values, default=0),
                **asdict(cost_of(trial, sweep.study)),
                "seeds": " ".join(map(str, trial_seeds(trial, sweep.study))),
                **field_values(trial.params, space),
            }
        )
    return 0


def origin_of(trial: FrozenTrial) -> str | None:
    """Where a trial is from that no sampler has proposed: another sweep, or a user."""
    return trial.user_attrs.get(COPIED_FROM) or trial.user_attrs.get(GIVEN)


def figures(args: argparse.Namespace) -> int:
    """Copy the pictures of a sweep and of its confirmation to a folder; 1 if one is missing."""
    store = Store(args.store)
    sweeps = [open_sweep(store, args.study)]
    if args.study + CONFIRM_SUFFIX in store.study_names():
        sweeps.append(open_sweep(store, args.study + CONFIRM_SUFFIX))
    for sweep in sweeps:
        require_recorded(store, sweep.optuna)
    args.out.mkdir(parents=True, exist_ok=True)
    with reporting_full_disk(args.out):
        copied = [copy_pictures(sweep, args.out) for sweep in sweeps]
    return 0 if all(copied) else 1


def copy_pictures(sweep: Sweep, folder: Path) -> bool:
    """Copy every picture on a sweep's own run; False, with a warning, if one is missing."""
    client, name = sweep.store.runs(), sweep.study.name
    listed = [artifact.path for artifact in client.list_artifacts(sweep.run_id)]
    pictures = [path for path in listed if path.endswith((".png", ".gif", ".md"))]
    copied = 0
    for picture in pictures:
        try:
            say(client.download_artifacts(sweep.run_id, picture, str(folder)))
            copied += 1
        except MlflowException as error:
            require_space(folder, cause=error)
            warn(f"{picture} of {name} cannot be copied: {one_line(error)}")
    if not pictures:
        again = to_run_again(sweep.store, name)
        warn(f"the run of {name} has no pictures; to draw them when the sweep is over: {again}")
    return 0 < copied == len(pictures)


FRAMEWORKS = {"rl-zoo": rl_zoo.entry, "sb3": sb3.script, "cleanrl": cleanrl.command}
"""Writers of a config, by the word of --for."""

FUNCTIONS = {
    "try": try_values,
    "reproduce": run_reproduce,
    "export": export,
    "trials": trials,
    "figures": figures,
    "doctor": doctor,
}
