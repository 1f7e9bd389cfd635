"""A stored report that is not what was measured is noticed, and nobody believes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftreg import api
from shiftreg.api.trail.measurements import on_record
from shiftreg.registry.records import Measurement
from tests.worlds import Worlds


@pytest.fixture
def workspace(home: Path, worlds: Worlds) -> api.Workspace:
    """One erased concept, and a verification that its gates did not let pass."""

    def make(home: Path) -> None:
        workspace = worlds.open(home, "Caravaggio")
        assert not api.verify(workspace, images=1, gates={"ordinary": 0.0}).passed

    return worlds.filled(home, "a verification that did not pass", make)


@pytest.fixture
def verified(workspace: api.Workspace) -> api.Workspace:
    assert api.examine_registry(workspace).findings == ()
    return workspace


@pytest.fixture
def kept(verified: api.Workspace) -> Measurement:
    (measurement,) = verified.registry.measurements.all("miniature", "verification")
    return measurement


def damage(workspace: api.Workspace) -> list[str]:
    findings = api.examine_registry(workspace).findings
    assert all(finding.remedy for finding in findings)
    return [f"{f.subject}: {f.problem}" for f in findings if f.severity == "damage"]


def forge(workspace: api.Workspace, client: MlflowClient, kept: Measurement) -> None:
    """Makes the stored report say that all is well, with all that MLflow knows of it."""
    path = workspace.registry.measurements.download(kept)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["passed"] = True
    for check in document["checks"]:
        check |= {"passed": True, "value": check["limit"]}
    path.write_text(json.dumps(document), encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    client.set_tag(kept.run_id, "shiftreg.report_sha256", digest)
    client.set_tag(kept.run_id, "shiftreg.passed", "true")


def test_a_replaced_report_is_noticed_even_with_its_registered_digest(
    verified: api.Workspace, client: MlflowClient, kept: Measurement
) -> None:
    path = verified.registry.measurements.download(kept)
    content = path.read_bytes()
    path.write_bytes(content + b" ")
    (problem,) = damage(verified)
    assert "was changed since it was registered" in problem
    path.write_bytes(content)
    assert damage(verified) == []

    forge(verified, client, kept)
    unknown, missing = damage(verified)
    assert "trail does not know its report" in unknown
    assert f"verification of event {verified.audit.events()[-1].sequence}" in missing

    path.write_bytes(content)
    client.set_tag(kept.run_id, "shiftreg.report_sha256", kept.report_digest)
    (problem,) = damage(verified)
    assert "shiftreg.passed say something else" in problem
    client.set_tag(kept.run_id, "shiftreg.passed", "false")
    assert damage(verified) == []


@pytest.mark.parametrize("tag", ["shiftreg.digest", "shiftreg.export_digest", "shiftreg.concept"])
def test_a_report_under_the_name_of_another_is_noticed(
    verified: api.Workspace, client: MlflowClient, kept: Measurement, tag: str
) -> None:
    client.set_tag(kept.run_id, tag, "0" * 64)
    (problem,) = damage(verified)
    assert tag in problem
    assert on_record(verified, "miniature", "verification").known == ()


def test_a_deleted_measurement_is_missed_until_it_is_restored_or_made_again(
    verified: api.Workspace, client: MlflowClient, kept: Measurement
) -> None:
    client.delete_run(kept.run_id)
    (finding,) = api.examine_registry(verified).findings
    assert (finding.severity, kept.run_id in finding.remedy) == ("damage", True)
    client.restore_run(kept.run_id)
    assert damage(verified) == []
    client.delete_run(kept.run_id)
    api.verify(verified, images=1)
    (finding,) = api.examine_registry(verified).findings
    assert (finding.severity, "measured again" in finding.problem) == ("note", True)


def test_a_report_that_was_measured_twice_the_same_has_two_runs(verified: api.Workspace) -> None:
    api.verify(verified, images=1, gates={"ordinary": 0.0})
    assert len(verified.registry.measurements.all("miniature", "verification")) == 2
    assert api.examine_registry(verified).findings == ()


def test_a_run_that_no_event_tells_of_is_named(verified: api.Workspace, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text("{}")
    verified.registry.measurements.record("miniature", "attack", "c" * 64, report, metrics={})
    (problem,) = damage(verified)
    assert problem.startswith("attack of run")
    assert "trail does not know its report" in problem


def evidence(workspace: api.Workspace, folder: Path) -> str:
    page = folder / "page.html"
    api.write_evidence(workspace, "Caravaggio", page, overwrite=True)
    return page.read_text(encoding="utf-8")


def standing(workspace: api.Workspace, _: Path) -> str:
    settings = replace(workspace.settings, gates={"ordinary": 0.0}, policy={"verify": True})
    found = api.policy_standing(api.open_workspace(settings))
    assert not found.met
    return " ".join(found.warnings)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [(evidence, "is not shown: the audit trail does not know it"), (standing, "Not believed")],
)
def test_nobody_believes_a_report_that_the_trail_does_not_know(
    verified: api.Workspace,
    client: MlflowClient,
    kept: Measurement,
    tmp_path: Path,
    asked: Callable[[api.Workspace, Path], str],
    answer: str,
) -> None:
    assert answer not in asked(verified, tmp_path)
    forge(verified, client, kept)
    assert answer in asked(verified, tmp_path)
