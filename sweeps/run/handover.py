"""A training that one worker does for another, as a file holds it, and its replay.

Whoever replays it gets the same reports and the same result, to the bit, as if it had trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from lander.config import TrainConfig
from lander.evaluation import Evaluation
from lander.policy import ActorCritic, make_policy
from lander.resolve import Resolved
from lander.trainer import Progress, State, TrainResult, UpdateHook, snapshot, train
from sweeps.record.meter import cpu_seconds


def trained(resolved: Resolved, *, check: Callable[[], None]) -> State:
    """Train, and return all of it as tensors, numbers and words."""
    updates, cpu, started = list[State](), cpu_seconds(), time.monotonic()

    def on_update(progress: Progress) -> None:
        check()
        updates.append(report_state(progress, resolved.config))

    result = train(resolved, on_update=on_update, check=check)
    return {
        "updates": updates,
        "env_steps": result.env_steps,
        "policy": result.policy.state_dict(),
        "best_policy": result.best_policy.state_dict(),
        "final": evaluation_state(result.final),
        "final_sampled": evaluation_state(result.final_sampled),
        "seconds": time.monotonic() - started,
        "cpu_seconds": cpu_seconds() - cpu,
    }


def replay(done: Mapping[str, Any], resolved: Resolved, *, on_update: UpdateHook) -> TrainResult:
    """Report a training that was done, update by update, and return its result.

    Between two checkpoints the policy of a report has the weights of the earlier one.
    """
    config, evaluations = resolved.config, list[Evaluation]()
    policy = make_policy(config, generator=torch.Generator().manual_seed(config.seed))
    for update in done["updates"]:
        evaluation = None
        if update["evaluation"] is not None:
            evaluation = evaluation_of(update["evaluation"])
            evaluations.append(evaluation)
            policy.load_state_dict(update["policy"])
        on_update(
            Progress(
                env_steps=update["env_steps"],
                checkpoint=update["checkpoint"],
                metrics=update["metrics"],
                evaluation=evaluation,
                state=dict,  # nobody resumes what was trained to its end
                policy=policy,
            )
        )
    return TrainResult(
        config,
        done["env_steps"],
        policy_of(done["policy"], config),
        policy_of(done["best_policy"], config),
        tuple(evaluations),
        final=evaluation_of(done["final"]),
        final_sampled=evaluation_of(done["final_sampled"]),
    )


def report_state(progress: Progress, config: TrainConfig) -> State:
    """What `replay` needs of a report; weights only at a checkpoint, as they are large."""
    state: State = {
        "env_steps": progress.env_steps,
        "checkpoint": progress.checkpoint,
        "metrics": {name: float(value) for name, value in progress.metrics.items()},
        "evaluation": None,
    }
    if progress.evaluation is not None:
        state["evaluation"] = evaluation_state(progress.evaluation)
        state["policy"] = snapshot(progress.policy, config).state_dict()
    return state


def policy_of(weights: Mapping[str, Any], config: TrainConfig) -> ActorCritic:
    """A policy with these weights."""
    policy = make_policy(config, generator=torch.Generator())
    policy.load_state_dict(weights)
    return policy


def evaluation_state(evaluation: Evaluation) -> State:
    """Its state, which leaves out how long it took, and that."""
    return {**evaluation.state(), "seconds": evaluation.seconds}


def evaluation_of(state: Mapping[str, Any]) -> Evaluation:
    """The evaluation that gave this state."""
    return replace(Evaluation.of(state), seconds=state["seconds"])
