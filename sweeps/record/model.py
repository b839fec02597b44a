"""A trial's policy as an MLflow model: raw observations in, env actions out.

torch.export imports a hundred megabytes. Workers that are forked from one process let another one
of its children write their models, so that only that one needs them.
"""

from __future__ import annotations

import json
import os
import select
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

import mlflow
import numpy as np
import torch

from lander.checkpoint import load
from lander.env import env_spec
from lander.policy import DeterministicActor
from lander.trust import TYPED
from sweeps.errors import one_line
from sweeps.record.provenance import package_version

DONE: Final = "done"
PATIENCE: Final = 60.0
"""Seconds to wait for the other process; a model takes a fraction of one."""
EXPORTER: Final[list[socket.socket]] = []
"""The way to the other process, if there is one; forked processes inherit it."""


def save_model(policy: Path, folder: Path) -> None:
    """Write the model of a checkpoint to a new folder.

    Raises:
        RuntimeError: what the other process says; any other exception if it is this process.
    """
    answer = ask(EXPORTER[0], policy, folder) if EXPORTER else ""
    if not answer:  # nor if it was killed
        export(policy, folder)
    elif answer != DONE:
        raise RuntimeError(answer)


def export(policy: Path, folder: Path) -> None:
    """`save_model` in this process."""
    actor, config = load(policy, origin=TYPED)  # it has just been trained there
    for weights in actor.parameters():  # torch.export warns of weights stored column by column
        weights.data = weights.data.contiguous()
    spec = env_spec(config.env)
    mlflow.pytorch.save_model(
        DeterministicActor(actor),
        folder,
        # two rows, or the export would fix the batch at one, as it fixes the type; requirements
        # given, or they are inferred for seconds
        input_example=np.zeros((2, spec.obs_dim), dtype=spec.obs_dtype),
        pip_requirements=[f"torch=={package_version('torch')}"],
    )


def ask(exporter: socket.socket, policy: Path, folder: Path) -> str:
    """The other process's answer; empty if there is none."""
    message = json.dumps([str(policy.absolute()), str(folder.absolute())])
    ours, theirs = os.pipe()
    with os.fdopen(ours) as answer:
        try:
            socket.send_fds(exporter, [message.encode()], [theirs])
        except OSError:
            return ""
        finally:
            os.close(theirs)
        return answer.read() if select.select([answer], [], [], PATIENCE)[0] else ""


def start_exporter() -> None:
    """Fork a process that writes models for all that are forked from now on; it ends with this
    one."""
    # datagrams stay whole, however many processes send them
    requests, exporter = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    parent = os.getpid()
    if os.fork() == 0:
        try:
            exporter.close()
            with Path(os.devnull).open("r+b") as nothing:
                for number in range(3):  # else who reads the output would wait for this process
                    os.dup2(nothing.fileno(), number)
            answer_all(requests, parent=parent)
        finally:
            os._exit(0)
    requests.close()
    EXPORTER.append(exporter)


def answer_all(requests: socket.socket, *, parent: int) -> None:
    """Write models until the parent ends."""
    torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(2, 1),))  # imports what it needs
    requests.settimeout(1.0)
    while os.getppid() == parent:
        with suppress(TimeoutError):
            answer(requests)


def answer(requests: socket.socket) -> None:
    """Write one model."""
    message, (reply, *_), *_ = socket.recv_fds(requests, 2**16, 1)
    policy, folder = json.loads(message)
    with os.fdopen(reply, "w") as asker, suppress(BrokenPipeError):
        try:
            export(Path(policy), Path(folder))
            asker.write(DONE)
        except Exception as error:
            asker.write(one_line(error))
