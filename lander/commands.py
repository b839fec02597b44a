"""The commands of `python -m lander`, run once their arguments are checked."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from lander import trainer
from lander.agent import Divergence
from lander.checkpoint import load
from lander.config import EnvConfig, TrainConfig, whole_rollouts
from lander.dotted import flatten, reason
from lander.env import require_limit, solved_return
from lander.errors import ConfigError
from lander.evaluation import Evaluation, evaluate, play, random_act_fn, replay
from lander.files import inside
from lander.film import LANDING, can_write_mp4, save_landing, save_video
from lander.interface import EnvFault
from lander.policy import ActorCritic
from lander.resolve import UnflyableWarning, dead_zones, resolve
from lander.run_folder import RunFolder, policy_path
from lander.seeds import seed_range
from lander.signals import DeferredSignals
from lander.terminal import printable, program, say, unfiltered
from lander.trust import Origin, agree, modules


def run(args: argparse.Namespace) -> int:
    """Run a command; the exit code."""
    torch.set_num_threads(1)  # before the first op: sums depend on the number of threads
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UnflyableWarning
            )  # `train` prints them in one line each
            COMMANDS[args.command](args)
    except OSError as error:
        return failed(reason(error), code=2)
    except Divergence as error:
        return failed(f"training diverged: {error}")
    except EnvFault as error:
        return failed(f"environment {error}")
    except Interrupted as error:
        return failed(f"interrupted: {error}", code=130)
    return 0


def failed(text: str, *, code: int = 1) -> int:
    """Print why a command failed, in one line, as an environment's error may have several; the
    exit code."""
    print("lander:", " ".join(text.split()), file=sys.stderr)
    return code


def train(args: argparse.Namespace) -> None:
    """Train once with a progress bar, and write the run to a folder."""
    config = resolve(args.typed, named=args.given).config
    require_limit(config.env)
    for trouble in dead_zones(config):
        warn(trouble)
    out = args.out or Path("runs") / f"{config.env.id.replace('/', '-')}-seed-{config.seed}"
    folder = RunFolder(out)
    folder.require_new()
    agree(folder.origin, modules(flatten(config)))  # typed: it may be resumed and flown as well
    if config.budget != config.total_steps:
        say(f"training for {config.budget:,} steps: {whole_rollouts(config)}")
    finish(config, folder, state=None)


def resume(args: argparse.Namespace) -> None:
    """Resume an interrupted run and finish it."""
    folder = RunFolder(args.run)
    agree(folder.origin, args.trust_env)
    config, state = folder.read_state()
    finish(config, folder, state=state)


def finish(config: TrainConfig, folder: RunFolder, *, state: trainer.State | None) -> None:
    """Train with a progress bar; write checkpoints, and at the end the whole run."""
    console = Console(file=unfiltered(sys.stdout))
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
    held: trainer.Progress | None = None
    with DeferredSignals() as interruption, bar:
        task = bar.add_task(
            escape(printable(config.env.id)), total=config.budget, rate=0.0, score="-"
        )

        def on_update(progress: trainer.Progress) -> None:
            nonlocal held
            folder.add(progress)
            rate = (progress.env_steps - first) / (time.perf_counter() - started)
            score = progress.metrics.get("train/return_mean")
            bar.update(task, completed=progress.env_steps, rate=rate)
            if score is not None:
                bar.update(task, score=f"{score:.1f}")
            held = None
            if progress.evaluation is not None or interruption.signals:
                folder.write_state(progress, config)
            elif trainer.may_evaluate(config, progress):
                held = trainer.frozen(progress)
            if progress.evaluation is not None and not console.is_terminal:
                print(
                    f"{progress.env_steps:>9,} steps  {rate:,.0f} steps/s  "
                    f"return {progress.evaluation.return_mean:.1f}",
                    flush=True,
                )
            if interruption.signals:
                raise Interrupted(f"resume with {program('lander')} resume {folder.folder}")

        def check() -> None:
            if not interruption.signals:
                return
            if held is not None:
                folder.write_state(held, config)
            if not folder.can_resume:
                raise KeyboardInterrupt
            raise Interrupted(f"resume with {program('lander')} resume {folder.folder}")

        result = trainer.train(config, on_update=on_update, check=check, state=state)
    seconds = time.perf_counter() - started
    folder.finish(result)
    sampled = result.final_sampled
    print(
        f"{summary(result.final, config.env)}; sampled {sampled.return_mean:.1f} over "
        f"{len(sampled.returns)}; "
        f"{result.env_steps - first:,} steps in {seconds:.0f} s -> {folder.folder}"
    )
    try:
        title = f"{config.env.id}, training seed {config.seed}"
        warn(save_landing(folder.folder / LANDING, config.env, result.final, title=title))
    except KeyboardInterrupt:
        raise Interrupted(f"{folder.folder} is complete but for {LANDING}") from None


def warn(trouble: str | None) -> None:
    """Print a warning to stderr, if there is one."""
    if trouble is not None:
        print(f"lander: warning: {trouble}", file=sys.stderr)


class Interrupted(Exception):
    """A signal ended the run at a safe point; the message tells how to resume."""


def fly(args: argparse.Namespace) -> None:
    """Fly a trained policy on reset seeds that no training or sweep uses."""
    policy, config = saved_policy(args)
    if args.human:
        require_display()
    generator = torch.Generator().manual_seed(args.seed) if args.sampled else None
    seeds = seed_range(args.seed, args.episodes)
    gif = args.gif or inside(args.run, args.run / "flight.gif")
    require_parent("--gif", gif)
    evaluation = evaluate(policy, config.env, seeds=seeds, generator=generator)
    report(evaluation, config.env, gif)
    if args.human:
        watch(evaluation, config.env)


def require_display() -> None:
    """Refuse to open a window that nobody can see.

    Raises:
        ConfigError: there is no display.
    """
    named = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    if sys.platform == "linux" and not any(map(os.environ.get, named)):
        raise ConfigError("--human opens a window, and this terminal has no display: see the GIF")


def watch(evaluation: Evaluation, env: EnvConfig) -> None:
    """Play the episodes of an evaluation again in a window, in real time, until Ctrl-C."""
    print("in a window, one after another; Ctrl-C ends it")
    with suppress(KeyboardInterrupt):
        for seed, actions in zip(evaluation.seeds, evaluation.actions, strict=True):
            *_, last = replay(env, seed=seed, actions=actions, render="human")
            print(f"reset seed {seed}: return {last.total_reward:.1f}, {last.step} steps")


def saved_policy(args: argparse.Namespace) -> tuple[ActorCritic, TrainConfig]:
    """The policy of a run that the arguments choose, and its config."""
    origin = Origin.folder(args.run)
    agree(origin, args.trust_env)
    path = policy_path(args.run, best=args.best, env_steps=args.checkpoint)
    return load(inside(args.run, path), origin=origin)


def random(args: argparse.Namespace) -> None:
    """Fly with random actions, for comparison."""
    env = args.typed.env
    require_limit(env)
    gif = args.gif or Path("random.gif")
    require_parent("--gif", gif)
    act, seeds = random_act_fn(env, seed=args.seed), seed_range(args.seed, args.episodes)
    evaluation = play(act, env, seeds=seeds)
    report(evaluation, env, gif)


def require_parent(option: str, path: Path) -> None:
    """Refuse a path that cannot be written, before the episodes are played."""
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: no folder {path.parent}")
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder: name a file")


def report(evaluation: Evaluation, env: EnvConfig, gif: Path) -> None:
    """Print the returns, write the first episode as a GIF, and as an MP4 if PyAV is installed."""
    print(summary(evaluation, env))
    seed, total_reward = evaluation.seeds[0], evaluation.returns[0]
    title = f"{env.id}, reset seed {seed}"
    trouble = save_landing(gif, env, evaluation, title=title)
    warn(trouble)
    if trouble is None:
        print(f"first episode, reset seed {seed}, return {total_reward:.1f} -> {gif}")
        if can_write_mp4():
            video = gif.with_suffix(".mp4")
            warn(save_video(video, env, evaluation, title=title))


def summary(evaluation: Evaluation, env: EnvConfig) -> str:
    """Mean and spread of the returns, and how often the environment was solved."""
    line = (
        f"{env.id}: return {evaluation.return_mean:.1f} +- {evaluation.return_std:.1f} "
        f"over {len(evaluation.returns)} episodes"
    )
    threshold = solved_return(env)
    if threshold is None:
        return line
    return f"{line}, {evaluation.success_rate(threshold):.0%} reach {threshold:g}"


COMMANDS = {
    "train": train,
    "resume": resume,
    "fly": fly,
    "random": random,
}
