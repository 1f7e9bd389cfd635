"""The doctor notices what was changed past shiftreg, says where, and puts leftovers in order."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftreg import api
from shiftreg.processes import this_process

pytestmark = pytest.mark.erased("Caravaggio", reason="request 7")
MODEL = "miniature.caravaggio"


@pytest.fixture
def registered(workspace: api.Workspace, tmp_path: Path) -> api.Workspace:
    """One erased concept, and an export of it."""
    plan = api.plan_composition(workspace)
    api.export_composition(workspace, plan, tmp_path / "model.safetensors")
    return workspace


def damage(workspace: api.Workspace) -> list[tuple[str, str]]:
    diagnosis = api.examine_registry(workspace)
    assert diagnosis.healthy == (not any(f.severity == "damage" for f in diagnosis.findings))
    return [(f.subject, f.problem) for f in diagnosis.findings if f.severity == "damage"]


def test_tampering_is_noticed_wherever_it_is(
    registered: api.Workspace, client: MlflowClient, tmp_path: Path
) -> None:
    workspace = registered
    diagnosis = api.examine_registry(workspace)
    assert diagnosis.healthy
    assert diagnosis.findings == ()
    assert diagnosis.examined == {
        "events": 3, "bases": 1, "versions": 1, "exports": 1, "reports": 0,
    }  # fmt: skip

    # Tags of a version: one that the file knows, and ones that only the trail has sealed.
    for tag, value in (
        ("shiftreg.method", "esd"),
        ("shiftreg.reason", "none"),
        ("shiftreg.metrics", json.dumps({"max_drift": 0.0})),
    ):
        old = client.get_model_version(MODEL, "1").tags[tag]
        client.set_model_version_tag(MODEL, "1", tag, value)
        subjects = {subject for subject, _ in damage(workspace)}
        assert subjects == {"Caravaggio@1"}, tag
        client.set_model_version_tag(MODEL, "1", tag, old)
        assert damage(workspace) == []

    # The alias, moved past shiftreg.
    client.delete_registered_model_alias(MODEL, "active")
    ((subject, problem),) = damage(workspace)
    assert (subject, "no version is active" in problem) == ("Caravaggio", True)
    client.set_registered_model_alias(MODEL, "active", "1")

    # The export and its recipe.
    for name in ("model.safetensors", "model.safetensors.recipe.json"):
        path = tmp_path / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert str(path) in {subject for subject, _ in damage(workspace)}
        path.write_bytes(content)
    assert damage(workspace) == []

    # The stored shift, replaced.
    version = workspace.registry.shifts.version("miniature", "Caravaggio")
    stored = workspace.registry.shifts.download(version)
    content = stored.read_bytes()
    stored.write_bytes(content + b" ")
    assert [subject for subject, _ in damage(workspace)] == ["Caravaggio@1"]
    stored.write_bytes(content)

    # Its run, deleted: MLflow's next cleanup would take the file.
    client.delete_run(version.run_id)
    assert any("run was deleted" in problem for _, problem in damage(workspace))
    client.restore_run(version.run_id)
    assert damage(workspace) == []

    # The model, deleted and made again with another shift under the same number.
    tags = client.get_model_version(MODEL, "1").tags
    model = client.get_registered_model(MODEL)
    client.delete_registered_model(MODEL)
    assert ("Caravaggio@1", True) in [(s, "gone" in p) for s, p in damage(workspace)]
    client.create_registered_model(MODEL, tags=model.tags)
    client.create_model_version(
        MODEL, "runs:/x/y", run_id=version.run_id, tags=tags | {"shiftreg.digest": "0" * 64}
    )
    assert any("deleted and made again" in problem for _, problem in damage(workspace))


def test_a_trail_that_was_cut_is_noticed_and_can_be_told(registered: api.Workspace) -> None:
    trail = registered.settings.home / "audit.jsonl"
    trail.write_bytes(trail.read_bytes().splitlines(keepends=True)[0])
    found = damage(registered)
    assert len(found) == 2
    assert all("trail does not know" in problem for _, problem in found)
    repaired = api.examine_registry(registered, repair=True, reason="the trail was lost")
    assert len(repaired.repaired) == 2
    assert repaired.healthy
    last = registered.audit.events()[-2:]
    assert [event.action for event in last] == ["erase", "export"]
    assert all("found" in event.details for event in last)
    assert {event.reason for event in last} == {"the trail was lost"}


def test_leftovers_of_dead_processes_are_taken_away_and_those_of_living_ones_stay(
    registered: api.Workspace, client: MlflowClient, tmp_path: Path
) -> None:
    script = "from shiftreg.processes import this_process; print(this_process())"
    command = [sys.executable, "-c", script]
    dead = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    experiment = client.get_experiment_by_name("miniature")
    assert experiment
    runs = {}
    for process in (dead, this_process(), "another-1"):
        tags = {"shiftreg.kind": "training", "shiftreg.process": process}
        run = client.create_run(experiment.experiment_id, run_name=process, tags=tags)
        runs[process] = run.info.run_id
        (tmp_path / f".model.ckpt.{process}-0123abcd.partial").write_text("half")
    found = api.examine_registry(registered)
    assert found.healthy
    assert [finding.severity for finding in found.findings] == ["leftover", "leftover"]
    done = api.examine_registry(registered, repair=True)
    assert len(done.repaired) == 2
    assert done.findings == ()
    states = {name: client.get_run(run).info.lifecycle_stage for name, run in runs.items()}
    assert states == {dead: "deleted", this_process(): "active", "another-1": "active"}
    assert len(list(tmp_path.glob(".*.partial"))) == 2


@pytest.mark.erased  # nothing
@pytest.mark.parametrize(
    "folder",
    ["attacks", "bases", "classifiers", "evaluations/images", "samples", "unfinished/0a1b/2c"],
)
def test_half_written_files_are_seen_wherever_commands_write(
    workspace: api.Workspace, folder: str
) -> None:
    script = "from shiftreg.processes import this_process; print(this_process())"
    command = [sys.executable, "-c", script]
    dead = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    place = workspace.settings.home / folder
    place.mkdir(parents=True, exist_ok=True)
    before = list(place.iterdir())
    half = place / f".model.{dead}-0123abcd.partial"
    half.mkdir()
    (half / f".inside.{dead}-0123abcd.partial").write_text("half")
    (finding,) = api.examine_registry(workspace).findings
    assert (finding.severity, finding.subject) == ("leftover", str(half))
    assert api.examine_registry(workspace, repair=True).findings == ()
    assert list(place.iterdir()) == before


def test_a_copy_that_a_request_made_when_it_was_sent_again_is_taken_away(
    registered: api.Workspace, client: MlflowClient
) -> None:
    made = client.get_model_version(MODEL, "1")
    client.create_model_version(MODEL, made.source, run_id=made.run_id, tags=made.tags)
    (finding,) = api.examine_registry(registered).findings
    assert (finding.severity, finding.subject) == ("leftover", f"{MODEL} version 2")
    assert "sent again" in finding.problem
    events = len(registered.audit.events())
    done = api.examine_registry(registered, repair=True)
    assert done.repaired == (f"{MODEL} version 2, a copy, was deleted.",)
    assert done.findings == ()
    versions = registered.registry.shifts.versions("miniature", "Caravaggio")
    assert [(version.version, version.active) for version in versions] == [(1, True)]
    assert len(registered.audit.events()) == events


def test_a_base_whose_weights_changed_or_went_is_named(
    workspace: api.Workspace, base: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "mine"
    shutil.copytree(base, folder)
    api.register_base(workspace, str(folder), name="mine", protected=["a"])
    assert damage(workspace) == []
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + " ")
    assert [subject for subject, _ in damage(workspace)] == ["base mine"]
    shutil.rmtree(folder)
    diagnosis = api.examine_registry(workspace)
    assert diagnosis.healthy
    assert [finding.severity for finding in diagnosis.findings] == ["note"]


@pytest.mark.erased("Picasso")
def test_what_was_exported_twice_is_no_damage(workspace: api.Workspace, tmp_path: Path) -> None:
    for name in ("one", "other", "one"):
        plan = api.plan_adapter(
            workspace, tmp_path / f"{name}.safetensors", api.Selection(only=["Picasso"])
        )
        api.export_adapter(workspace, plan, overwrite=True)
    digests = {c.export_digest for c in workspace.registry.compositions.all("miniature")}
    assert len(digests) == 1
    assert api.examine_registry(workspace).findings == ()
