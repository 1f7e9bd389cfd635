"""What lies beside an export, and what MLflow keeps of it, is compared with the audit trail."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftreg import api
from shiftreg.release import sidecar_files


def damage(workspace: api.Workspace) -> list[tuple[str, str]]:
    findings = api.examine_registry(workspace).findings
    return [(f.subject, f.problem) for f in findings if f.severity == "damage"]


def test_a_deleted_run_of_an_export_is_noticed(
    workspace: api.Workspace, client: MlflowClient
) -> None:
    target = workspace.settings.home / "model.safetensors"
    api.export_composition(workspace, api.plan_composition(workspace), target)
    (composition,) = workspace.registry.compositions.all("miniature")
    client.delete_run(composition.run_id)
    ((subject, problem),) = damage(workspace)
    assert (subject, "run was deleted" in problem) == (str(target), True)
    client.restore_run(composition.run_id)
    assert damage(workspace) == []


@pytest.fixture
def signing_key(tmp_path: Path) -> Path:
    key = tmp_path / "signing.pem"
    options = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command = ["openssl", "genpkey", *options, "-out", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return key


def test_what_lies_beside_an_export_is_compared_with_the_trail(
    workspace: api.Workspace, signing_key: Path, tmp_path: Path
) -> None:
    workspace = api.open_workspace(replace(workspace.settings, signing_key=signing_key))
    target = tmp_path / "model.safetensors"
    plan = api.plan_composition(workspace)
    api.export_composition(workspace, plan, target, request=api.ReleaseRequest(sign=True, images=1))
    assert damage(workspace) == []
    for word, path in sidecar_files(target).items():
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        ((subject, problem),) = damage(workspace)
        assert subject == str(path)
        assert f"The {word} beside the export was changed" in problem
        path.unlink()
        assert "is gone" in damage(workspace)[0][1]
        path.write_bytes(content)
    target.unlink()
    assert damage(workspace) == [], "a file that was moved takes its papers along"
