"""python -m lander: train once without any tracker, and fly the trained policy."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lander.arguments import (
    Parser,
    add_policy,
    add_shell,
    add_trust,
    between,
    completion,
    hyphenated,
    reset_seed,
)
from lander.config import TrainConfig
from lander.dotted import KWARGS, configure, flatten, from_toml, read_text, typed
from lander.errors import ConfigError, unknown
from lander.explain import explain, groups, shown
from lander.options import describe, require_known
from lander.seeds import FLIGHT_SEED
from lander.terminal import drop_output, filtered, program

FIELD = "field:"


def add_fields(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """One option per config field, with its meaning and its default."""
    docs, defaults, wanted = describe(), flatten(TrainConfig()), set(names)
    for title, (about, fields) in groups().items():
        group = parser.add_argument_group(title, about)
        for name in filter(wanted.__contains__, fields):
            default = f" [{shown(defaults[name])}]" if name in defaults else ""
            group.add_argument(
                "--" + name.replace("_", "-") + (".NAME" if name == KWARGS else ""),
                dest=FIELD + name + (".NAME" if name == KWARGS else ""),
                metavar="X",
                help=f"{docs[name]}{default}".replace("%", "%%"),
            )


def add_kwargs(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """Add an option for each `--env.kwargs.NAME` in `argv`, as only the environment knows the
    names; return `argv` with each joined to its value, so that -1e-3 is not read as an option."""
    words, joined, names = list(argv), list[str](), set[str]()
    while words:
        word = words.pop(0)
        option, equals, _ = word.partition("=")
        if option.startswith(f"--{KWARGS}."):
            names.add(hyphenated(option))
            if not equals and words and not words[0].startswith("--"):
                word = f"{word}={words.pop(0)}"
        joined.append(word)
    for option in sorted(names - {f"--{KWARGS}.NAME"}):  # NAME stands for any of them in --help
        name = option.removeprefix("--").replace("-", "_")
        parser.add_argument(option, dest=FIELD + name, help=argparse.SUPPRESS)
    return joined


def given_fields(args: argparse.Namespace) -> dict[str, object]:
    """The fields set on the command line, each in its own type."""
    return {
        name.removeprefix(FIELD): typed(name.removeprefix(FIELD), value)
        for name, value in vars(args).items()
        if name.startswith(FIELD) and value is not None
    }


def typed_config(file: Path | None, given: Mapping[str, object]) -> TrainConfig:
    """The config of a file, or the defaults, with the given fields replaced.

    Raises:
        ConfigError: a wrong file, or a value that is wrong in any environment.
    """
    base = TrainConfig()
    if file is not None:
        base = from_toml(read_text(file), source=str(file))
    config = configure(given, base=base)
    require_known(config)
    return config


COMMANDS = {
    "fly": "Fly a trained policy: print its returns, write a GIF.",
    "random": "Fly at random: print the returns, write a GIF.",
    "resume": "Resume an interrupted run, with the same result to the bit.",
    "completion": 'Print tab completion for a shell: eval "$(lander completion bash)".',
}


def usage() -> str:
    """What may be typed, in three lines instead of one option after the other."""
    name, commands = program("lander"), " | ".join(COMMANDS)
    return "\n       ".join(
        (
            f"{name} [--FIELD X ...] [--config FILE] [--out DIR]",
            f"{name} {commands} ...",
            f"{name} --help FIELD     explains a field, as ppo.clip_range, or a table, as ppo",
        )
    )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of `python -m lander`."""
    if argv and argv[0] in COMMANDS:
        return parse_command(argv[0], argv[1:])
    if argv and argv[0] == "help":
        argv = ["--help", *argv[1:]]
    if len(argv) == 2 and argv[0] in ("-h", "--help"):
        return argparse.Namespace(command="help", field=argv[1])
    if argv and not argv[0].startswith("-"):
        raise ConfigError(unknown("command", argv[0], [*COMMANDS, "help"]))
    parser = training_parser()
    args = parser.parse_args(add_kwargs(parser, argv))
    args.given = given_fields(args)
    args.typed = typed_config(args.config, args.given)
    return args


def training_parser() -> Parser:
    """The parser of a training: an option for every field."""
    parser = Parser(
        prog=program("lander"),
        usage=usage(),
        description="Train PPO once, write the run to a folder.",
        epilog="Every option may be written with _ or -. Defaults stand in brackets; they are "
        "defined in lander/config.py.",
        allow_abbrev=False,
    )
    parser.set_defaults(command="train")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML with any fields below")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder [runs/ENV-seed-N]")
    add_fields(parser, describe())
    return parser


def script(shell: str) -> str:
    """Completes commands, and the options of a training."""
    parser = training_parser()
    parser.add_argument("word", choices=[*COMMANDS, "help"])
    return completion(parser, "lander", shell)


def command_parser(command: str) -> Parser:
    """The parser of a command that does not start a training."""
    parser = Parser(
        prog=f"{program('lander')} {command}", description=COMMANDS[command], allow_abbrev=False
    )
    parser.set_defaults(command=command)
    if command == "completion":
        add_shell(parser)
    if command == "fly":
        add_policy(parser)
        parser.add_argument("--sampled", action="store_true", help="sample the actions")
        human = "then watch the episodes in a window, in real time"
        parser.add_argument("--human", action="store_true", help=human)
    if command == "resume":
        parser.add_argument("run", type=Path, metavar="DIR", help="folder of a training run")
        add_trust(parser)
    if command == "random":
        add_fields(parser, ("env.id", "env.time_limit", KWARGS))
    if command in {"fly", "random"}:
        parser.add_argument(
            "--episodes", type=between(1, 100_000), default=100, metavar="N", help="how many [100]"
        )
        parser.add_argument(
            "--seed", type=reset_seed, default=FLIGHT_SEED, help=f"first reset seed [{FLIGHT_SEED}]"
        )
        parser.add_argument("--gif", type=Path, help="where to write the first episode")
    return parser


def parse_command(command: str, argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of the commands that do not start a training."""
    parser = command_parser(command)
    args = parser.parse_args(add_kwargs(parser, argv) if command == "random" else argv)
    if command == "random":
        args.typed = typed_config(None, given_fields(args))
    return args


@filtered()
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code. Without arguments, those of the process."""
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
        if args.command == "help":
            print(explain(args.field))
            return 0
        if args.command == "completion":
            print(script(args.shell))
            return 0
        from lander.commands import run  # imports torch, which --help and errors do without

        return run(args)
    except ConfigError as error:
        print("lander:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:
        drop_output()
        return 0
    except KeyboardInterrupt:
        print("lander: interrupted, nothing written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
