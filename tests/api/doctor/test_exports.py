"""What lies beside an export, and what MLflow keeps of it, is compared with the audit trail."""

from __future__ import annotations

from mlflow import MlflowClient

from shiftreg import api


def damage(workspace: api.Workspace) -> list[tuple[str, str]]:
    findings = api.examine_registry(workspace).findings
    return [(f.subject, f.problem) for f in findings if f.severity == "damage"]


def test_a_deleted_run_of_an_export_is_noticed(
    workspace: api.Workspace, client: MlflowClient
) -> None:
    target = workspace.settings.home / "model.safetensors"
    api.export_composition(workspace, api.plan_composition(workspace), target)
    (composition,) = workspace.registry.compositions("miniature")
    client.delete_run(composition.run_id)
    ((subject, problem),) = damage(workspace)
    assert (subject, "run was deleted" in problem) == (str(target), True)
    client.restore_run(composition.run_id)
    assert damage(workspace) == []
