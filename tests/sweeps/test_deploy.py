"""What starts workers on clusters starts what there is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import mlflow.cli
import pytest
import yaml

from sweeps.__main__ import parse
from sweeps.publish.page import HOST

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "sweeps" / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]


def test_the_kubernetes_job_gives_every_worker_a_core_and_runs_one() -> None:
    job = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert container["command"][0] == "sweeps"
    assert parse(container["command"][1:]).command == "work"
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
    assert parse(container["command"][1:]).store == Path("/store")
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


@pytest.mark.parametrize(("service", "command"), [("sweep", "run"), ("worker", "work")])
def test_a_container_of_compose_runs_a_command_of_sweeps(service: str, command: str) -> None:
    words = [word.replace("${STUDY:-lander}", "lander") for word in SERVICES[service]["command"]]
    args = parse(words)
    assert (args.command, args.study, args.store) == (command, "lander", Path("mlruns"))
    assert command == "work" or args.workers == 0  # those are containers of their own
    assert 'ENTRYPOINT ["sweeps"]' in DOCKERFILE


def test_the_server_of_compose_is_started_with_options_that_it_has() -> None:
    server, *options = SERVICES["mlflow"]["command"]
    assert SERVICES["mlflow"]["entrypoint"] == ["mlflow"]
    given = mlflow.cli.cli.commands[server].make_context(server, options).params
    assert given["port"] == 5000
    assert "mlflow:5000" in given["allowed_hosts"].split(",")


def test_compose_opens_one_port_and_to_this_machine_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"mlflow": [f"{HOST}:5000:5000"]}


def test_compose_holds_no_password_and_refuses_to_start_without_one() -> None:
    secrets = re.findall(r"(?:sweeper:|PASSWORD: )([^@\n]+)", COMPOSE)
    assert len(secrets) == 3
    assert set(secrets) == {"${POSTGRES_PASSWORD:?set it to a password}"}


def test_trials_and_runs_of_compose_are_in_databases_that_exist() -> None:
    trials = SERVICES["worker"]["environment"]["SWEEPS_STORAGE"]
    runs = SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert trials.endswith("@postgres/" + SERVICES["postgres"]["environment"]["POSTGRES_DB"])
    created = yaml.safe_load(COMPOSE)["configs"]["databases"]["content"]
    assert created == f"CREATE DATABASE {runs.rpartition('@postgres/')[2]};"
    assert SERVICES["worker"]["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"


def test_the_dockerfile_copies_what_exists_and_installs_the_tested_set() -> None:
    copied = [
        word for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.M) for word in line.split()
    ]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if "!" in line]
    assert sorted(copied) == sorted(kept)
    assert all((ROOT / name).exists() for name in copied)
    extra = re.search(
        r"pip install .*--constraint constraints.txt \$PIP_ARGS '.\[(\w+)]'", DOCKERFILE
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extra is not None
    assert extra[1] in project["optional-dependencies"]
    assert any(fnmatch(line, "FROM python:3.1[123]-slim") for line in DOCKERFILE.splitlines())


def test_the_programs_in_the_image_run_as_a_user_without_rights() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.M)
    assert int(user) > 0
    assert DOCKERFILE.index("USER ") < DOCKERFILE.index("ENTRYPOINT")
