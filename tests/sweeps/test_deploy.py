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


def test_the_slurm_script_is_one_and_runs_a_worker() -> None:
    script = FOLDER / "slurm.sh"
    subprocess.run([shutil.which("bash") or "bash", "-n", str(script)], check=True)
    (line,) = re.findall(r"^exec \S+ -m sweeps (.*)$", script.read_text(), re.M)
    assert parse(shlex.split(line)).command == "work"


def test_workers_that_join_at_the_same_time_draw_different_parameters() -> None:
    command = ["work", "--study", "mini"]
    assert parse(command).worker != parse(command).worker
