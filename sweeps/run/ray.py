"""Starts the workers of a sweep on a Ray cluster, each as a task with one CPU."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lander.errors import ConfigError
from lander.trust import inherited
from sweeps.cli import prepare_process
from sweeps.errors import one_line
from sweeps.hints import with_extra
from sweeps.run.worker import work
from sweeps.store.database import STORAGE_ENV
from sweeps.store.store import Store, quiet
from sweeps.sweep import Sweep

PASSED_ON = ("SWEEPS_", "MLFLOW_", "LANDER_")
"""Prefixes of the environment variables that are passed on to workers on other hosts."""


class RayWorker:
    """A worker on some host of the cluster."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray = ray
        self._reference = reference
        self._failure = ""
        self._ended = False

    @property
    def ended(self) -> bool:
        if not self._ended and self._ray.wait([self._reference], timeout=0)[0]:
            self._ended = True
            try:
                self._ray.get(self._reference)
            except self._ray.exceptions.RayError as error:  # its node is gone, or it was killed
                self._failure = one_line(error)
        return self._ended

    @property
    def failure(self) -> str:
        return self._failure

    def interrupt(self) -> None:
        self._cancel(force=False)

    def kill(self) -> None:
        self._cancel(force=True)

    def _cancel(self, *, force: bool) -> None:
        """Send the worker SIGINT, or kill it.

        Ray documents a KeyboardInterrupt in the task, not the signal behind it, which the worker
        handles itself so that it can close its trial; tests/cluster/test_ray.py holds this.
        """
        if not self.ended:
            self._ray.cancel(self._reference, force=force)


class RayLauncher:
    """Starts workers in the cluster that this process is connected to."""

    remote = True

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self.slots = int(ray.cluster_resources().get("CPU", 1))
        # max_calls: each worker in its own process, as on one machine; the supervisor retries,
        # not Ray
        self._run = ray.remote(num_cpus=1, max_retries=0, max_calls=1)(run_task)

    def start(self, sweep: Sweep, *, index: int, seconds: float | None) -> RayWorker:
        """Start a worker, which logs to Ray's own log files."""
        environ = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        environ |= inherited(sweep.store.origin)
        folder = str(sweep.store.folder.resolve())
        return RayWorker(
            self._ray, self._run.remote(folder, sweep.study.name, index, seconds, environ)
        )


def run_task(
    folder: str, name: str, index: int, seconds: float | None, environ: Mapping[str, str]
) -> None:
    """Work as a worker, in a process that Ray started."""
    os.environ.update(environ)
    prepare_process()
    quiet()
    work(Store(Path(folder)), name, index=index, seconds=seconds)


@contextmanager
def connected(store: Store, *, address: str | None) -> Generator[RayLauncher]:
    """Connect to the Ray cluster at an address, or start one on this machine.

    Raises:
        ConfigError: Ray is not installed, no cluster answers, or its hosts would not share the
            databases.
    """
    if find_spec("ray") is None:
        raise ConfigError(f"--launcher ray needs Ray: {with_extra('cluster')}")
    if address is not None and store.database_files:
        raise ConfigError(
            f"workers on other hosts need servers: set {STORAGE_ENV} and MLFLOW_TRACKING_URI"
        )
    if address is None:  # it listens on the network: only this command may use it
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    options: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    ray = import_module("ray")  # reads the environment
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=False,
            **options,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster at {address or 'this machine'}: {one_line(error)}"
        ) from None
    try:
        yield RayLauncher(ray)
    finally:
        ray.shutdown()
