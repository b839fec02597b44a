"""python -m tests.bench.elsewhere RESULTS.json SEEDS BASE.toml OTHER.toml ..

Does a gain carry over? Trains each config in Stable-Baselines3, by the script that the command
`sweeps export --for sb3` prints, under training seeds 1, 2, .., and flies the policy on the reset
seeds of quoted results. One line per training, with the fields that differ from the defaults of
`lander`; trainings that the file has are not repeated.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch

from lander.config import TrainConfig
from lander.dotted import flatten, from_toml
from lander.export import sb3
from lander.files import replace_text
from lander.resolve import resolve
from lander.seeds import REPORT_SEED
from sweeps.record.provenance import cpu_model, package_version
from sweeps.run.cores import usable_cores

EPISODES: Final = 100
PACKAGES: Final = ("stable-baselines3", "torch", "gymnasium")


def train_there(config: TrainConfig, *, seed: int) -> list[float]:
    """Returns of the final episodes of one training in Stable-Baselines3."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "train.py"
        path.write_text(sb3.script(resolve(config), title=""))
        script: dict[str, Any] = runpy.run_path(str(path))
    model = script["train"](seed)
    returns: list[float] = script["fly"](model, episodes=EPISODES, first=REPORT_SEED)
    return returns


def main(argv: Sequence[str]) -> None:
    """Train every config under the first seed before any under the second, one on each core."""
    results, seeds, *files = argv
    configs = {
        Path(file).stem: replace(from_toml(Path(file).read_text(), source=file), seed=0)
        for file in files
    }
    if len(configs) < len(files):
        raise SystemExit("two configs have the same name: rename one of the files")
    base, defaults = next(iter(configs)), flatten(TrainConfig())
    fields = {
        name: {k: v for k, v in flatten(config).items() if defaults.get(k) != v}
        for name, config in configs.items()
    }
    path = Path(results)
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    for row in rows:
        if row["fields"] != fields.get(row["config"], row["fields"]):
            raise SystemExit(f"{path} has trainings of another {row['config']}: rename one of them")
    done = {(row["config"], row["seed"]) for row in rows}
    origin = {
        "machine": cpu_model(),
        "versions": {name: package_version(name) for name in PACKAGES},
    }
    workers = ProcessPoolExecutor(
        usable_cores(),
        mp_context=get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    )
    with workers:
        begun = {
            workers.submit(train_there, config, seed=seed): {
                "config": name,
                "base": name == base,
                "seed": seed,
                "fields": fields[name],
            }
            for seed in range(1, int(seeds) + 1)
            for name, config in configs.items()
            if (name, seed) not in done
        }
        for training in as_completed(begun):
            if error := training.exception():
                print(f"{begun[training]['config']}: {error!r}", file=sys.stderr)
                continue
            returns = [round(one, 2) for one in training.result()]
            rows.append(begun[training] | origin | {"returns": returns})
            lines = sorted(map(json.dumps, rows))
            replace_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1:])
