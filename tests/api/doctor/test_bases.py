"""A base that went, or whose record was changed, is named; the others are examined all the same."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from shiftreg import api


def damage(workspace: api.Workspace) -> dict[str, str]:
    findings = api.examine_registry(workspace).findings
    return {f.subject: f"{f.problem} {f.remedy}" for f in findings if f.severity == "damage"}


def test_a_base_whose_experiment_was_deleted_is_missed(
    workspace: api.Workspace, client: MlflowClient
) -> None:
    experiment = client.get_experiment_by_name("miniature")
    assert experiment
    client.delete_experiment(experiment.experiment_id)
    (words,) = damage(workspace).values()
    assert "event 1" in words
    assert "Restore the experiment 'miniature'" in words
    client.restore_experiment(experiment.experiment_id)
    assert damage(workspace) == {}
    client.set_experiment_tag(experiment.experiment_id, "shiftreg.kind", "none")
    assert list(damage(workspace)) == ["base miniature"]


def test_a_base_whose_record_may_be_cleaned_away_is_named(
    workspace: api.Workspace, client: MlflowClient
) -> None:
    run = workspace.registry.examination.base_run("miniature")
    client.delete_run(run)
    assert f"Restore the run {run}" in damage(workspace)["base miniature"]
    client.restore_run(run)
    assert damage(workspace) == {}


def test_a_record_that_cannot_be_read_hides_no_other_damage(
    workspace: api.Workspace, base: Path
) -> None:
    api.register_base(workspace, str(base), name="mine", protected=["a"])
    api.erase(workspace, ["Caravaggio"])
    version = workspace.registry.shifts.version("miniature", "Caravaggio")
    workspace.registry.shifts.download(version).unlink()
    for path in workspace.settings.home.rglob("base.json"):
        path.write_text(path.read_text().replace('"steps":2', '"steps":3') + " ")
    found = damage(api.open_workspace(workspace.settings))
    assert found.keys() == {"base miniature", "base mine", "Caravaggio@1"}
    assert "was changed since it was registered" in found["base mine"]
    assert "shiftreg init" in found["base mine"]
    workspace = api.open_workspace(workspace.settings)
    api.register_base(workspace, steps=2)
    api.register_base(workspace, str(base), name="mine", protected=["a"])
    assert damage(workspace).keys() == {"Caravaggio@1"}
