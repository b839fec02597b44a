"""python -m lander: one training run without any tracker, and flights of what it trained."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lander import trainer
from lander.agent import Divergence
from lander.arguments import Parser, positive
from lander.checkpoint import load
from lander.config import TrainConfig
from lander.env import resolve, solved_return
from lander.evaluation import FLIGHT_SEED, Evaluation, evaluate, play, random_pilot, seed_range
from lander.fields import ConfigError, configure, describe, flatten, from_toml, read_text
from lander.folder import require_new, write_run
from lander.gif import save_landing

FIELD = "field:"


def reset_seed(text: str) -> int:
    """A seed that Gymnasium and torch both take."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 below 2^63, got {text}")
    return int(text)


def add_fields(parser: argparse.ArgumentParser) -> None:
    """One option per config field, with its docstring and its default."""
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


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of `python -m lander`."""
    if argv and argv[0] in {"fly", "random"}:
        parser = Parser(prog=f"python -m lander {argv[0]}", allow_abbrev=False)
        parser.set_defaults(command=argv[0])
        if argv[0] == "fly":
            parser.description = "Fly a trained policy: print its returns, write a GIF."
            parser.add_argument("run", type=Path, metavar="DIR", help="folder of a training run")
            parser.add_argument("--best", action="store_true", help="the best checkpoint, not last")
            parser.add_argument("--sampled", action="store_true", help="sample the actions")
            parser.add_argument("--episodes", type=positive, default=100, metavar="N")
        else:
            parser.description = "Fly at random: print the returns, write a GIF."
            parser.add_argument("--env.id", dest="env_id", default=TrainConfig().env.id)
            parser.add_argument("--episodes", type=positive, default=100, metavar="N")
        parser.add_argument(
            "--seed", type=reset_seed, default=FLIGHT_SEED, help=f"first reset seed [{FLIGHT_SEED}]"
        )
        parser.add_argument("--gif", type=Path, help="where to write the first episode")
        return parser.parse_args(argv[1:])
    parser = Parser(
        prog="python -m lander",
        description="Train PPO once: python -m lander [--FIELD X ...] --out DIR. "
        "Then: python -m lander fly DIR, python -m lander random (each has --help).",
        allow_abbrev=False,
    )
    parser.set_defaults(command="train")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML with any fields below")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder [runs/ENV-seed-N]")
    add_fields(parser)
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
    folder = args.out or Path("runs") / f"{config.env.id.replace('/', '-')}-seed-{config.seed}"
    require_new(folder)

    console = Console()
    curve: list[trainer.Progress] = []
    started = time.perf_counter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]:>6,.0f} steps/s  return {task.fields[score]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(config.env.id, total=config.total_steps, rate=0.0, score="-")

        def on_update(progress: trainer.Progress) -> None:
            curve.append(progress)
            rate = progress.env_steps / (time.perf_counter() - started)
            score = progress.metrics.get("train/return_mean")
            bar.update(task, completed=progress.env_steps, rate=rate)
            if score is not None:
                bar.update(task, score=f"{score:.1f}")
            if progress.evaluation is not None and not console.is_terminal:
                print(
                    f"{progress.env_steps:>9,} steps  {rate:,.0f} steps/s  "
                    f"return {progress.evaluation.return_mean:.1f}",
                    flush=True,
                )

        result = trainer.train(config, on_update=on_update)
    seconds = time.perf_counter() - started
    write_run(folder, result, curve)
    print(
        f"{summary(result.final, config.env.id)}; sampled {result.final_sampled.return_mean:.1f}; "
        f"{curve[-1].env_steps:,} steps in {seconds:.0f} s -> {folder}"
    )


def fly(args: argparse.Namespace) -> None:
    """A trained policy on reset seeds that nothing has looked at."""
    policy, config = load(args.run / ("best.pt" if args.best else "policy.pt"))
    generator = torch.Generator().manual_seed(args.seed) if args.sampled else None
    seeds = seed_range(args.seed, args.episodes)
    gif = args.gif or args.run / "flight.gif"
    require_parent(gif)
    flights = evaluate(policy, config.env.id, seeds=seeds, generator=generator)
    report(flights, config.env.id, gif)


def random(args: argparse.Namespace) -> None:
    """The random pilot, for comparison."""
    gif = args.gif or Path("random.gif")
    require_parent(gif)
    pilot = random_pilot(args.env_id, seed=args.seed)
    flights = play(pilot, args.env_id, seeds=seed_range(args.seed, args.episodes))
    report(flights, args.env_id, gif)


def require_parent(path: Path) -> None:
    """A file can be written there; said before the flights, not after."""
    if not path.parent.is_dir():
        raise ConfigError(f"--gif {path}: there is no folder {path.parent}")


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


def main(argv: Sequence[str]) -> int:
    """Run a command; the exit code."""
    torch.set_num_threads(1)  # before the first op: sums depend on the number of threads
    try:
        args = parse(argv)
        {"train": train, "fly": fly, "random": random}[args.command](args)
    except ConfigError as error:
        print("lander:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except OSError as error:
        print(f"lander: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except Divergence as error:
        print(f"lander: training diverged: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lander: interrupted, nothing written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
