"""The deployment of a team's server: what its files say, as docs/team.md promises it.

That start.sh starts a server that works is what all tests on a server show (tests/servers.py).
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEAM = ROOT / "examples" / "team"
SECRET = re.compile("PASSWORD|SECRET|KEY")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    deployment: dict[str, Any] = yaml.safe_load((TEAM / "compose.yaml").read_text())
    return deployment


@pytest.fixture(scope="module")
def dockerfile() -> list[str]:
    return (TEAM / "Dockerfile").read_text().splitlines()


def test_mlflow_waits_for_a_database_that_answers(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"postgres", "mlflow"}
    assert compose["services"]["mlflow"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"}
    }
    for service in compose["services"].values():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["restart"] == "unless-stopped"


def test_no_secret_has_a_default(compose: dict[str, Any]) -> None:
    """Compose refuses to start where a variable written so is missing or empty."""
    asked = set()
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            if SECRET.search(name):
                assert value == f"${{{name}:?}}"
                asked.add(name)
    lines = (TEAM / "example.env").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert {name for name, value in example.items() if not value} == asked
    assert "/examples/team/.env" in (ROOT / ".gitignore").read_text().split()


def test_only_this_machine_is_listened_to(compose: dict[str, Any]) -> None:
    assert compose["services"]["mlflow"]["ports"] == ["127.0.0.1:5000:5000"]
    assert "ports" not in compose["services"]["postgres"]


def test_what_must_last_lies_in_volumes(compose: dict[str, Any], dockerfile: list[str]) -> None:
    mounts = [mount for service in compose["services"].values() for mount in service["volumes"]]
    kept = dict(mount.split(":")[:2] for mount in mounts if not mount.startswith("."))
    assert set(kept) == set(compose["volumes"])
    assert kept["database"] == "/var/lib/postgresql/data"
    # The place that start.sh has MLflow keep files in, and that the image's user may write to.
    assert f"${{ARTIFACTS:-{kept['artifacts']}}}" in (TEAM / "start.sh").read_text()
    assert any(f"chown mlflow {kept['artifacts']}" in line for line in dockerfile)
    for mount in mounts:
        if mount.startswith("."):
            assert (TEAM / mount.split(":")[0]).is_file()


def test_the_image_runs_start_sh_as_an_ordinary_user(dockerfile: list[str]) -> None:
    assert "USER mlflow" in dockerfile
    assert dockerfile.index('CMD ["./start.sh"]') > dockerfile.index("USER mlflow")
    assert any(line.startswith("COPY") and "start.sh" in line for line in dockerfile)


def test_the_image_has_the_mlflow_that_shiftreg_needs(dockerfile: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (needed,) = [line for line in project["dependencies"] if line.startswith("mlflow")]
    assert f"'{needed.replace('mlflow', 'mlflow[auth]')}'" in " ".join(dockerfile)


def test_start_sh_wants_a_password_and_lets_nobody_else_read_it(tmp_path: Path) -> None:
    script = TEAM / "start.sh"
    for given in ({}, {"POSTGRES_PASSWORD": "abc"}):
        run = subprocess.run(
            [script],
            env={"PATH": "/usr/bin:/bin", **given},  # where no MLflow is, so that nothing starts
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert run.returncode != 0
        file = tmp_path / "authentication.ini"
        if given:
            assert file.stat().st_mode & 0o077 == 0
            assert "mlflow:abc@postgres/users" in file.read_text()
        else:
            assert "POSTGRES_PASSWORD" in run.stderr
            assert not file.exists()
