"""python -m tests.cluster.namespaces: a host is cut off in mid-trial and given back.

Two hosts as network namespaces of this machine, each with a name and process ids of its own;
PostgreSQL and MLflow's server are on the bridge between them. For root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from optuna.trial import FrozenTrial, TrialState

from sweeps.doctor.doctor import examine
from sweeps.lifecycle.start import start_sweep
from sweeps.schema import REASON, RETRY_OF, RUN_ID, WORKER, Reason
from sweeps.store.budget_storage import GRACE
from sweeps.store.database import STORAGE_ENV
from sweeps.store.store import Store, quiet
from sweeps.study.study import read_study
from sweeps.sweep import Sweep, open_sweep
from tests.cluster.hosts import Host
from tests.cluster.postgres import Postgres
from tests.processes import TrackingServer, until
from tests.studies import CUT_OFF

BRIDGE: Final = "sweeps0"
NETWORK: Final = "10.213.77"
FIRST, SECOND = "sweeps-a", "sweeps-b"
TOTAL: Final = read_study(CUT_OFF, source="cut").settings.trials
PATIENCE: Final = 3.0 * GRACE
"""Seconds until a condition counts as never met."""
HOLD: Final = """
import sys, time
from pathlib import Path
from sweeps.store.store import Store
with Store(Path(sys.argv[-1])).lock:
    print("held", flush=True)
    time.sleep(3600)
"""
"""A program that holds the lock of the store while its host is cut off."""


class Clock:
    """Prints events with their times."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {text}", flush=True)

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for a condition, then print it."""
        until(condition, seconds=PATIENCE)
        self.say(what)


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


@contextmanager
def network(*names: str) -> Generator[None]:
    """A bridge, and hosts of these names on it; nothing is left behind."""
    with ExitStack() as undo:
        ip("link", "add", BRIDGE, "type", "bridge")
        undo.callback(ip, "link", "del", BRIDGE)
        ip("address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number, name in enumerate(names, start=2):
            ip("netns", "add", name)
            undo.callback(ip, "netns", "del", name)  # the cable goes with it
            ip("link", "add", cable(name), "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", cable(name), "master", BRIDGE, "up")
            ip("-n", name, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield


def cable(name: str) -> str:
    """The bridge's end of the cable of a host."""
    return f"{name}-eth"


def on(name: str) -> list[str]:
    """The words before a command that run it on that host."""
    isolated = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["ip", "netns", "exec", name, *isolated, "sh", "-c", f'hostname {name}; exec "$@"', "sh"]


def trials_of(store: Store, host: str) -> list[FrozenTrial]:
    """The trials whose worker is, or was, on a host."""
    trials = open_sweep(store, "cut").read_trials().all
    return [trial for trial in trials if trial.user_attrs.get(WORKER, "").startswith(f"{host}:")]


def at_work(store: Store, host: str) -> list[FrozenTrial]:
    """Those among them that are being trained."""
    trials = trials_of(store, host)
    return [t for t in trials if t.state == TrialState.RUNNING and RUN_ID in t.user_attrs]


def cut_off(folder: Path, clock: Clock) -> bool:
    """Run the whole scenario; whether all checks hold."""
    with ExitStack() as everything:
        everything.enter_context(network(FIRST, SECOND))
        bridge = f"{NETWORK}.1"
        postgres = everything.enter_context(Postgres(bridge, f"{NETWORK}.0/24"))
        database = postgres.create_database("mlflow")
        tracking = everything.enter_context(TrackingServer(database, folder / "server", bridge))
        clock.say(f"PostgreSQL and MLflow's server are up on {bridge}")
        os.environ[STORAGE_ENV] = postgres.create_database("optuna")
        os.environ["MLFLOW_TRACKING_URI"] = tracking.uri
        store = Store(folder / "store")
        start_sweep(read_study(CUT_OFF, source="cut"), store, trials=None, command=["run"])
        first, second = (
            everything.enter_context(Host(folder / name, prefix=on(name)))
            for name in (FIRST, SECOND)
        )
        workers = [host.start("work", "--study", "cut") for host in (first, second)]
        clock.wait(
            f"a worker on {FIRST} and one on {SECOND}, each has a trial",
            lambda: bool(at_work(store, FIRST) and at_work(store, SECOND)),
        )
        holder = first.start(command=[sys.executable, "-c", HOLD])
        assert holder.stdout is not None
        holder.stdout.readline()
        (taken,) = at_work(store, FIRST)
        ip("link", "set", cable(FIRST), "down")
        clock.say(f"{FIRST} is cut off, in trial {taken.number}, and with the lock of the store")
        before = len(trials_of(store, SECOND))
        clock.wait(
            f"{SECOND} has begun another trial: the server took the lock from {FIRST}",
            lambda: len(trials_of(store, SECOND)) > before,
        )
        clock.wait(
            f"trial {taken.number} is lost: no sign of life for {GRACE} s; it is tried again",
            lambda: taken.number in roots(open_sweep(store, "cut")),
        )
        ip("link", "set", cable(FIRST), "up")
        clock.say(f"{FIRST} is given back")
        known = len(trials_of(store, FIRST))
        clock.wait(
            f"the worker on {FIRST} has noticed, and has another trial",
            lambda: len(trials_of(store, FIRST)) > known,
        )
        clock.wait("no trial is left", lambda: all(w.poll() is not None for w in workers))
        return hold(checks(store, [worker.returncode for worker in workers], taken), clock)


def roots(sweep: Sweep) -> list[int]:
    """The trials that are retried."""
    return [
        trial.user_attrs[RETRY_OF]
        for trial in sweep.read_trials().all
        if RETRY_OF in trial.user_attrs
    ]


def checks(store: Store, codes: list[int], taken: FrozenTrial) -> dict[str, bool]:
    """Conditions that must hold at the end."""
    list(examine(store, dry_run=False))  # the sweep's run is still open
    sweep = open_sweep(store, "cut")
    failed = [
        (t.number, t.user_attrs[REASON])
        for t in sweep.read_trials().all
        if t.state == TrialState.FAIL
    ]
    runs = store.runs().search_runs([sweep.experiment_id], "tags.`sweeps.role` = 'trial'")
    numbers = sorted(int(run.data.tags["optuna.trial_number"]) for run in runs)
    return {
        "both workers ended well": codes == [0, 0],
        f"{TOTAL} trials in all, each has ended": [t.state for t in sweep.read_trials().counted]
        == [TrialState.COMPLETE] * TOTAL,
        "one was lost, and tried again once": failed == [(taken.number, Reason.LOST)]
        and roots(sweep) == [taken.number],
        "each has one run": numbers == [trial.number for trial in sweep.read_trials().all],
        "the doctor finds nothing": not list(examine(store, dry_run=True)),
    }


def hold(checked: dict[str, bool], clock: Clock) -> bool:
    """Print which checks hold."""
    for what, holds in checked.items():
        clock.say(f"{'yes' if holds else 'NO '}  {what}")
    return all(checked.values())


def main() -> int:
    """Run it; the exit code."""
    if os.geteuid() or shutil.which("ip") is None:
        print("namespaces: needs root, and ip of iproute2", file=sys.stderr)
        return 2
    quiet()
    try:
        with tempfile.TemporaryDirectory(prefix="sweeps-hosts-") as folder:
            return 0 if cut_off(Path(folder), Clock()) else 1
    except RuntimeError as error:
        print(f"namespaces: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("namespaces: interrupted, nothing is left", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
