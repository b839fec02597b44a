"""How many environment steps a second of training takes in, and stepping alone reaches."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from math import ceil
from typing import Any, Final

from lander.config import TrainConfig
from tests.bench.process import (
    QUICK,
    Options,
    envpool_installed,
    interleaved,
    one_core,
    origin,
)
from tests.bench.settings import (
    SETTINGS,
    describe,
    rollout_size,
    setting,
    stable_baselines,
    unmatched,
    values,
)
from tests.bench.sides import Side
from tests.bench.updates import STEPS

TRIAL_STEPS: Final = 200_000
Sample = dict[str, Any]


def run(options: Options) -> dict[str, Any]:
    """Every contender at every setting, again in every round; then a trial of every version."""
    turns = [
        (name, contender, side)
        for name in SETTINGS
        for contender, sides in contenders(name, options).items()
        for side in sides
    ]
    samples: list[Sample] = []
    for turn, (name, contender, side) in interleaved(options.rounds, turns):
        sample = measured(name, contender, side, options)
        which = {"setting": name, "contender": contender, "side": side.name}
        samples.append({"round": turn} | which | sample)
        rate = sample["steps"] / sample["seconds"]
        label = f"{turn}/{options.rounds}  {name:<7} {contender:<14} {side.name:<7}"
        print(f"speed    {label} {rate:>9,.0f} steps/s", flush=True)
    described = {name: describe(setting(name, quick=options.quick)) for name in SETTINGS}
    return origin(options) | {
        "settings": described,
        "samples": samples,
        "trials": whole_trials(options),
    }


def contenders(name: str, options: Options) -> dict[str, Sequence[Side]]:
    """Contender at a setting -> the versions in which it is measured."""
    now: Sequence[Side] = (options.now,)
    versions = {
        "sb3": () if unmatched(setting(name)) else now,
        "gymnasium": options.sides,
        "envpool": now if envpool_installed() else (),
        "env-stock": now,
        "env-gymnasium": options.sides,
        "env-envpool": now if envpool_installed() else (),
    }
    return {contender: sides for contender, sides in versions.items() if sides}


def measured(name: str, contender: str, side: Side, options: Options) -> Sample:
    """One sample, by a process of its own."""
    if contender == "sb3":
        return side.measure("speed", name, *options.flags)
    backend = contender.removeprefix("env-")
    fields = values(name, quick=options.quick)
    if backend != "stock":
        fields = fields | {"env.backend": backend}
    if contender == backend:
        return side.measure("updates", json.dumps(fields), *options.flags)
    kind = "stock" if backend == "stock" else "training"
    return side.measure("environments", kind, json.dumps(fields), *options.flags)


def whole_trials(options: Options) -> list[Sample]:
    """A trial of the default study's base, in every version and every round."""
    fields = json.dumps(values("study") | {"total_steps": TRIAL_STEPS})
    samples: list[Sample] = []
    for turn, side in interleaved(options.rounds, options.sides):
        sample = side.measure("trial", fields, *options.flags)
        samples.append({"round": turn, "side": side.name} | sample)
        share = sample["evaluation_seconds"] / sample["seconds"]
        label = f"{turn}/{options.rounds}  trial   {side.name:<7} {sample['seconds']:.1f} s"
        print(f"speed    {label}, {share:.1%} of it evaluation", flush=True)
    return samples


def theirs(config: TrainConfig, *, quick: bool) -> dict[str, float]:
    """Whole updates of Stable-Baselines3."""
    size = rollout_size(config)
    steps = size if quick else size * ceil(STEPS / size)
    model = stable_baselines(config, seed=config.seed)
    with closing(model.get_env()):
        model.learn(size)
        started = time.perf_counter()
        model.learn(steps, reset_num_timesteps=False)
        return {"steps": steps, "seconds": time.perf_counter() - started}


def main(argv: Sequence[str]) -> None:
    """SETTING: take one sample of Stable-Baselines3."""
    one_core()
    name, *flags = argv
    quick = QUICK in flags
    print(json.dumps(theirs(setting(name, quick=quick), quick=quick)))


if __name__ == "__main__":
    main(sys.argv[1:])
