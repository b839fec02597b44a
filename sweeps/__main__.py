"""sweeps: run a sweep, look at it, confirm its winner, reproduce and export its trials."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import randbelow

from lander.arguments import Parser, add_shell, completion, positive, whole
from lander.resolve import UnflyableWarning
from lander.terminal import filtered, program, say_rows
from lander.trust import agree
from sweeps.cli import (
    DEFAULT_STUDY,
    Command,
    add_no_report,
    add_store,
    add_study,
    added_commands,
    command_parser,
    exit_code,
    hours,
    one_thread,
    parse_command,
    port,
    prepare_process,
)
from sweeps.hints import UI_PORT
from sweeps.run.fork_server import ForkServer
from sweeps.run.header import header
from sweeps.store.disk import reporting_full_disk, requiring_space
from sweeps.store.environment import clean_environment
from sweeps.store.store import Store, quiet
from sweeps.store.trials import collector_paused
from sweeps.study.study import shipped_studies

DASHBOARD_PORT = 8080
A_TRIAL = "best, confirmed, a number, or the id of its run in MLflow or how that begins"


def run_arguments(parser: Parser) -> None:
    add_store(parser)
    studies = f"{', '.join(shipped_studies())}, or a .toml file [{DEFAULT_STUDY}]"
    parser.add_argument("--study", default=DEFAULT_STUDY, help=studies)
    parser.add_argument("--trials", type=positive, help="total number of trials [the study's]")
    workers = "worker processes; 0: only watch those started by `work` [one per usable core]"
    parser.add_argument("--workers", type=whole, help=workers)
    time = (
        "begin no trial after so many hours; without --trials, train as many as are likely to fit"
    )
    parser.add_argument("--hours", type=hours, help=time)
    launcher = "where workers run: local, on this machine, or ray, on a Ray cluster [local]"
    parser.add_argument(
        "--launcher",
        choices=("local", "ray"),
        default="local",
        help=launcher,
    )
    address = "address of the Ray cluster, or auto [a new cluster on this machine]"
    parser.add_argument("--address", help=address)
    warm_start = "begin a new sweep with the best trials of this one"
    parser.add_argument("--warm-start", metavar="STUDY", help=warm_start)
    fork = "begin a new sweep with the trials of this one that fit, not trained again"
    parser.add_argument("--fork", metavar="STUDY", help=fork)
    text = "say what would run and how long it takes, and run nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)
    add_no_report(parser)


def work_arguments(parser: Parser) -> None:
    add_study(parser)
    worker = "number that seeds the sampler [random]"
    parser.add_argument("--worker", type=whole, default=randbelow(2**31), help=worker)
    parser.add_argument("--hours", type=hours, help="begin no trial after so many hours")
    parser.add_argument("--parent", type=int, metavar="PID", help="stop when this process ends")


def init_arguments(parser: Parser) -> None:
    add_store(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="new study file, as mine.toml")
    like = f"study whose settings and tables it begins with [{DEFAULT_STUDY}]"
    parser.add_argument("--study", default=DEFAULT_STUDY, metavar="STUDY", help=like)


def status_arguments(parser: Parser) -> None:
    add_store(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def health_arguments(parser: Parser) -> None:
    add_study(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def trial_arguments(parser: Parser) -> None:
    add_study(parser)
    parser.add_argument("--trial", default="best", help=f"{A_TRIAL} [best]")


def export_arguments(parser: Parser) -> None:
    trial_arguments(parser)
    text = "another framework that trains it, instead of TOML for lander --config"
    choices = ("rl-zoo", "sb3", "cleanrl")
    parser.add_argument("--for", dest="framework", choices=choices, help=text)


def try_arguments(parser: Parser) -> None:
    add_study(parser)
    text = "a searched field and its value, as ppo.learning_rate=0.003; the others are the base's"
    parser.add_argument("values", nargs="*", metavar="FIELD=VALUE", help=text)
    like = f"the others are those of this trial: {A_TRIAL}"
    parser.add_argument("--from", dest="like", metavar="TRIAL", help=like)


def figures_arguments(parser: Parser) -> None:
    add_study(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="target folder")


def ui_arguments(parser: Parser) -> None:
    server_arguments(parser, default_port=UI_PORT)


def server_arguments(parser: Parser, *, default_port: int) -> None:
    add_store(parser)
    text = f"port to serve on; if it is in use, the next free one [{default_port}]"
    parser.add_argument("--port", type=port, default=default_port, help=text)
    parser.add_argument("--open", action="store_true", help="open it in a browser")


def doctor_arguments(parser: Parser) -> None:
    add_store(parser)
    parser.add_argument("--dry-run", action="store_true", help="report only, repair nothing")


def dashboard_arguments(parser: Parser) -> None:
    server_arguments(parser, default_port=DASHBOARD_PORT)


COMMANDS = {
    "run": Command("Start a sweep, or resume an interrupted one.", run_arguments, trains=True),
    "init": Command("Write a study file that explains itself, to change and run.", init_arguments),
    "work": Command("Run waiting trials of a sweep in this process.", work_arguments, trains=True),
    "status": Command("Show the progress of every sweep in a store.", status_arguments),
    "try": Command("Queue a trial of values that you choose for a sweep.", try_arguments),
    "health": Command(
        "Say what a sweep's records say about the sweep itself, with a remedy for each finding.",
        health_arguments,
    ),
    "reproduce": Command(
        "Retrain a trial from its record and compare, bit for bit.", trial_arguments, trains=True
    ),
    "export": Command("Print a trial's config, also for other frameworks.", export_arguments),
    "trials": Command("Print every trial of a sweep as CSV.", add_study),
    "figures": Command("Copy a sweep's pictures from its record to a folder.", figures_arguments),
    "ui": Command(
        "Serve MLflow's UI, reports and Optuna's dashboard on this machine.", ui_arguments
    ),
    "doctor": Command("Check a store, and repair what is wrong with it.", doctor_arguments),
    "dashboard": Command(
        "Serve the same, and print links to Optuna's dashboard.", dashboard_arguments
    ),
    "completion": Command(
        'Print tab completion for a shell: eval "$(sweeps completion bash)".', add_shell
    ),
}


def commands_for(argv: Sequence[str]) -> dict[str, Command]:
    """The commands that may be meant: those that other packages add are only searched for, which
    takes a moment, if it is none of our own."""
    if COMMANDS.keys() & argv[:1]:
        return COMMANDS
    added = added_commands().items()
    return COMMANDS | {name: command for name, command in added if name not in COMMANDS}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of `sweeps`."""
    commands = commands_for(argv)
    args = parse_command(argv, commands, prog=program("sweeps"), description=__doc__)
    args.definition = commands[args.command]
    return args


def function_of(command: str) -> Callable[[argparse.Namespace], int]:
    """The function behind a command, imported only now: `status` needs no torch and no MLflow, and
    a worker no charts, which would be a quarter of its memory."""
    if command == "status":
        from sweeps.status import status

        return status
    if command == "init":
        from sweeps.study.template import init

        return init
    if command == "run":
        return run
    if command == "health":
        from sweeps.publish.health import show_health

        return show_health
    if command in ("ui", "dashboard"):
        import sweeps.publish.ui.commands

        return sweeps.publish.ui.commands.FUNCTIONS[command]
    one_thread()
    if command == "work":
        from sweeps.run.worker import run_worker

        return run_worker
    from sweeps.commands import FUNCTIONS

    return FUNCTIONS[command]


def run(args: argparse.Namespace) -> int:
    """Run a sweep; the exit code. The imports of its workers begin before those of this process."""
    remote = args.launcher == "ray"
    with ForkServer() as server:
        if not remote and args.workers != 0 and not args.dry_run:
            server.begin()
        say_rows(
            header(
                args.study,
                Store(args.store),
                trials=args.trials,
                workers=args.workers,
                remote=remote,
            )
        )
        with collector_paused():
            one_thread()
            from sweeps.commands import run

        quiet()
        return run(args, server)


def perform(argv: Sequence[str]) -> int:
    """Run a command; the exit code."""
    args = parse(argv)
    if args.command == "completion":
        every = commands_for([])
        parser = command_parser(every, every, prog="sweeps", description=__doc__)
        print(completion(parser, "sweeps", args.shell))
        return 0
    clean_environment(Store(args.store))
    agree(Store(args.store).origin, args.trust_env)
    with collector_paused():  # all that imports make is kept
        function = args.definition.perform or function_of(args.command)
    quiet()
    guard = requiring_space if args.definition.trains else reporting_full_disk
    with warnings.catch_warnings(), guard(args.store):
        warnings.simplefilter("ignore", UnflyableWarning)  # `run` prints it in one line
        return function(args)


@filtered()
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code, after one line on stderr if it failed. Without arguments, those
    of the process."""
    prepare_process()
    return exit_code("sweeps", perform, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
