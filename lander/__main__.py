"""python -m lander: one training run without any tracker, and flights of what it trained."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from lander import judge as judge_rules
from lander import trainer
from lander.agent import Divergence
from lander.arguments import Parser, positive
from lander.checkpoint import load
from lander.config import TrainConfig
from lander.env import solved_return
from lander.evaluation import FLIGHT_SEED, Evaluation, evaluate, play, random_pilot, seed_range
from lander.fields import ConfigError, configure, flatten, from_toml, read_text
from lander.folder import RunFolder, policy_path
from lander.gif import save_landing
from lander.interruption import Interruption
from lander.judge import EPISODES, SEED, TIERS
from lander.options import describe, require_active
from lander.resolve import UnflyableWarning, dead_zones, resolve

FIELD = "field:"


def reset_seed(text: str) -> int:
    """A seed that Gymnasium and torch both take."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 below 2^63, got {text}")
    return int(text)


def add_fields(parser: argparse.ArgumentParser) -> None:
    """One option per config field, with its meaning and its default."""
    docs = describe()
    group = parser.add_argument_group("what to train; every default stands in lander/config.py")
    for name, default in flatten(TrainConfig()).items():
        group.add_argument(
            "--" + name.replace("_", "-"),
            dest=FIELD + name,
            metavar="X",
            help=f"{docs[name]} [{shown(default)}]".replace("%", "%%"),
        )


def shown(value: object) -> str:
    """A field's value as it is typed on the command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def typed(values: dict[str, str]) -> dict[str, object]:
    """Field values from the command line: "64,64" is a tuple, "none" is None."""
    tuples = {name for name, value in flatten(TrainConfig()).items() if isinstance(value, tuple)}
    return {
        name: value.split(",") if name in tuples else None if value.lower() == "none" else value
        for name, value in values.items()
    }


COMMANDS = {
    "fly": "Fly a trained policy: print its returns, write a GIF.",
    "random": "Fly at random: print the returns, write a GIF.",
    "resume": "Go on with an interrupted run, to the same result to the bit.",
    "record": "Write a trained policy's actions in consecutive episodes after one reset(seed=...).",
    "judge": "Fly recorded actions: their returns, and the tier of the homework that asked for it.",
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of `python -m lander`."""
    if argv and argv[0] in COMMANDS:
        return parse_command(argv[0], argv[1:])
    parser = Parser(
        prog="python -m lander",
        description="Train PPO once: python -m lander [--FIELD X ...] --out DIR. "
        f"Other commands, each with --help: {', '.join(COMMANDS)}.",
        allow_abbrev=False,
    )
    parser.set_defaults(command="train")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML with any fields below")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder [runs/ENV-seed-N]")
    add_fields(parser)
    return parser.parse_args(argv)


def parse_command(command: str, argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of the commands that do not begin a training."""
    parser = Parser(
        prog=f"python -m lander {command}", description=COMMANDS[command], allow_abbrev=False
    )
    parser.set_defaults(command=command)
    if command in {"fly", "record", "resume"}:
        parser.add_argument("run", type=Path, metavar="DIR", help="folder of a training run")
    if command in {"fly", "record"}:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--best", action="store_true", help="the best checkpoint, not the last")
        which.add_argument(
            "--checkpoint", type=positive, metavar="STEPS", help="the one after so many steps"
        )
    if command == "fly":
        parser.add_argument("--sampled", action="store_true", help="sample the actions")
    if command == "random":
        parser.add_argument("--env.id", dest="env_id", default=TrainConfig().env.id)
    if command in {"fly", "random"}:
        parser.add_argument("--episodes", type=positive, default=100, metavar="N")
        parser.add_argument(
            "--seed", type=reset_seed, default=FLIGHT_SEED, help=f"first reset seed [{FLIGHT_SEED}]"
        )
        parser.add_argument("--gif", type=Path, help="where to write the first episode")
    if command == "record":
        parser.add_argument("--episodes", type=positive, default=EPISODES, metavar="N")
        parser.add_argument("--seed", type=reset_seed, default=SEED, help=f"[{SEED}]")
        parser.add_argument("--out", type=Path, metavar="FILE", help="[DIR/actions.json]")
    if command == "judge":
        parser.add_argument("file", type=Path, metavar="FILE", help="what record wrote")
    return parser.parse_args(argv)


def train(args: argparse.Namespace) -> None:
    """One run with a progress bar, written to a folder."""
    base = TrainConfig()
    if args.config is not None:
        base = from_toml(read_text(args.config), source=str(args.config))
    given = {
        name.removeprefix(FIELD): value
        for name, value in vars(args).items()
        if name.startswith(FIELD) and value is not None
    }
    config = resolve(configure(typed(given), base=base))
    require_active(config, given)
    for trouble in dead_zones(config):
        print(f"lander: warning: {trouble}", file=sys.stderr)
    out = args.out or Path("runs") / f"{config.env.id.replace('/', '-')}-seed-{config.seed}"
    folder = RunFolder(out)
    folder.require_new()
    run(config, folder, state=None)


def resume(args: argparse.Namespace) -> None:
    """The rest of a run that was interrupted."""
    folder = RunFolder(args.run)
    config, state = folder.read_state()
    run(config, folder, state=state)


def run(config: TrainConfig, folder: RunFolder, *, state: trainer.State | None) -> None:
    """Train with a progress bar; write checkpoints, and in the end everything."""
    console = Console()
    first = folder.resumed_at
    started = time.perf_counter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]:>6,.0f} steps/s  return {task.fields[score]}"),
        TimeRemainingColumn(),
    )
    bar = ProgressBar(*columns, console=console, disable=not console.is_terminal)
    with Interruption() as interruption, bar:
        task = bar.add_task(config.env.id, total=config.budget, rate=0.0, score="-")

        def on_update(progress: trainer.Progress) -> None:
            folder.add(progress)
            rate = (progress.env_steps - first) / (time.perf_counter() - started)
            score = progress.metrics.get("train/return_mean")
            bar.update(task, completed=progress.env_steps, rate=rate)
            if score is not None:
                bar.update(task, score=f"{score:.1f}")
            if progress.evaluation is not None or interruption.signalled:
                folder.write_state(progress, config)
            if progress.evaluation is not None and not console.is_terminal:
                print(
                    f"{progress.env_steps:>9,} steps  {rate:,.0f} steps/s  "
                    f"return {progress.evaluation.return_mean:.1f}",
                    flush=True,
                )
            if interruption.signalled:
                raise Interrupted(f"go on with python -m lander resume {folder.folder}")

        result = trainer.train(config, on_update=on_update, state=state)
    seconds = time.perf_counter() - started
    folder.finish(result)
    print(
        f"{summary(result.final, config.env.id)}; sampled {result.final_sampled.return_mean:.1f}; "
        f"{result.env_steps - first:,} steps in {seconds:.0f} s -> {folder.folder}"
    )


class Interrupted(Exception):
    """A signal ended the run at a safe point; the message says how to go on."""


def fly(args: argparse.Namespace) -> None:
    """A trained policy on reset seeds that nothing has looked at."""
    policy, config = load(policy_path(args.run, best=args.best, env_steps=args.checkpoint))
    generator = torch.Generator().manual_seed(args.seed) if args.sampled else None
    seeds = seed_range(args.seed, args.episodes)
    gif = args.gif or args.run / "flight.gif"
    require_parent("--gif", gif)
    flights = evaluate(policy, config.env.id, seeds=seeds, generator=generator)
    report(flights, config.env.id, gif)


def record(args: argparse.Namespace) -> None:
    """A trained policy's actions, for the judge."""
    policy, config = load(policy_path(args.run, best=args.best, env_steps=args.checkpoint))
    out = args.out or args.run / "actions.json"
    require_parent("--out", out)
    lists = judge_rules.record(policy, config.env.id, seed=args.seed, episodes=args.episodes)
    judge_rules.write(out, lists)
    lengths = ", ".join(str(len(actions)) for actions in lists.actions)
    print(f"{config.env.id}: {args.episodes} episodes of {lengths} actions -> {out}")


def judge(args: argparse.Namespace) -> None:
    """Recorded actions, flown again."""
    lists = judge_rules.read(args.file)
    verdict = judge_rules.judge(lists)
    flown = zip(verdict.returns, verdict.lengths, strict=True)
    for episode, (total_reward, length) in enumerate(flown, 1):
        print(f"episode {episode}: return {total_reward:.1f} in {length} steps")
    line = (
        f"{lists.env_id}: return {verdict.return_mean:.1f} over {len(verdict.returns)} episodes "
        f"after reset(seed={lists.seed})"
    )
    if lists.env_id.startswith("LunarLander"):
        line += f", tier {verdict.tier} of 4: {TIERS[verdict.tier]}"
    print(line)


def random(args: argparse.Namespace) -> None:
    """The random pilot, for comparison."""
    gif = args.gif or Path("random.gif")
    require_parent("--gif", gif)
    pilot = random_pilot(args.env_id, seed=args.seed)
    flights = play(pilot, args.env_id, seeds=seed_range(args.seed, args.episodes))
    report(flights, args.env_id, gif)


def require_parent(option: str, path: Path) -> None:
    """A file can be written there; said before the flights, not after."""
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder: name a file")


def report(flights: Evaluation, env_id: str, gif: Path) -> None:
    """Print the returns, write the first episode as a GIF."""
    print(summary(flights, env_id))
    total_reward = save_landing(gif, env_id, flights)
    print(f"first episode, reset seed {flights.seeds[0]}, return {total_reward:.1f} -> {gif}")


def summary(flights: Evaluation, env_id: str) -> str:
    """Mean and spread of the returns, and how often the environment was solved."""
    line = (
        f"{env_id}: return {flights.return_mean:.1f} +- {flights.return_std:.1f} "
        f"over {len(flights.returns)} episodes"
    )
    threshold = solved_return(env_id)
    if threshold is None:
        return line
    return f"{line}, {flights.success_rate(threshold):.0%} reach {threshold:g}"


PROGRAMS = {
    "train": train,
    "resume": resume,
    "fly": fly,
    "random": random,
    "record": record,
    "judge": judge,
}


def main(argv: Sequence[str]) -> int:
    """Run a command; the exit code."""
    torch.set_num_threads(1)  # before the first op: sums depend on the number of threads
    try:
        args = parse(argv)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnflyableWarning)  # said in one line by `train`
            PROGRAMS[args.command](args)
    except ConfigError as error:
        print("lander:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except OSError as error:
        print(f"lander: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except Divergence as error:
        print(f"lander: training diverged: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(f"lander: interrupted: {error}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("lander: interrupted, nothing written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
