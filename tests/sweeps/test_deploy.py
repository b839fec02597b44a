"""What starts workers on clusters starts what there is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import yaml

from sweeps.__main__ import parse

FOLDER = Path(__file__).parents[2] / "sweeps" / "deploy"


def test_the_kubernetes_job_gives_every_worker_a_core_and_runs_one() -> None:
    job = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert container["command"][:3] == [".venv/bin/python", "-m", "sweeps"]
    assert parse(container["command"][3:]).command == "work"
    assert container["resources"]["limits"]["cpu"] == "1"
    assert spec["restartPolicy"] == "OnFailure"  # an interrupted worker ends with 130


def test_a_pod_of_the_kubernetes_job_has_no_needless_right() -> None:
    job = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    user = spec["securityContext"]
    assert user["runAsNonRoot"] is True
    assert user["runAsUser"] == user["fsGroup"] > 0  # who may write to its volume
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"privileged", "hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert re.fullmatch(r"[A-Z]+/lander-sweeps@sha256:[A-Z]+", container["image"])


def test_the_records_of_a_kubernetes_worker_outlive_its_container() -> None:
    job = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    spec = job["spec"]["template"]["spec"]
    (container,), (volume,) = spec["containers"], spec["volumes"]
    (mount,) = container["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": "/store"}
    assert parse(container["command"][3:]).store == Path("/store")
    assert {"name": "HOME", "value": "/store"} in container["env"]  # its user has no other folder


def test_the_slurm_script_is_one_and_runs_a_worker() -> None:
    script = FOLDER / "slurm.sh"
    subprocess.run([shutil.which("bash") or "bash", "-n", str(script)], check=True)
    (line,) = re.findall(r"^exec \S+ -m sweeps (.*)$", script.read_text(), re.M)
    assert parse(shlex.split(line)).command == "work"


def test_a_requeued_slurm_task_gets_the_store_with_its_records_again() -> None:
    script = (FOLDER / "slurm.sh").read_text()
    (folder,) = re.findall(r'^store="(.*)"$', script, re.M)
    task = {"SLURM_SUBMIT_DIR": "/home/me", "SLURM_JOB_ID": "9"}
    array = task | {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    assert shell(folder, task) == "/home/me/mlruns/slurm-9-0"
    assert shell(folder, array) == "/home/me/mlruns/slurm-7-3"
    assert shell(folder, array | {"STORE": "/scratch/x"}) == "/scratch/x"


def shell(word: str, environ: dict[str, str]) -> str:
    command = [shutil.which("bash") or "bash", "-euc", f'printf %s "{word}"']
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


def test_workers_that_join_at_the_same_time_draw_different_parameters() -> None:
    command = ["work", "--study", "mini"]
    assert parse(command).worker != parse(command).worker
