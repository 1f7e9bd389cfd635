"""How a composition stands is said by reports that the audit trail knows, and by no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftreg import api
from tests.worlds import Worlds


@pytest.fixture
def verified(home: Path, worlds: Worlds) -> api.Workspace:
    """A composition whose policy is met by a verification on record."""

    def make(home: Path) -> None:
        api.verify(worlds.open(home, "Caravaggio"), images=1)

    workspace = worlds.filled(home, "a verification", make)
    workspace = api.open_workspace(replace(workspace.settings, policy={"verify": True}))
    standing = api.policy_standing(workspace)
    assert standing.met
    assert standing.warnings == ()
    return workspace


def test_a_report_that_is_recorded_past_the_trail_counts_for_nothing(
    verified: api.Workspace, tmp_path: Path
) -> None:
    (kept,) = verified.registry.measurements.all("miniature", "verification")
    report = tmp_path / "forged.json"
    content = verified.registry.measurements.download(kept).read_text(encoding="utf-8")
    report.write_text(content.replace('"passed": false', '"passed": true') + " ", encoding="utf-8")
    forged = verified.registry.measurements.record(
        "miniature", "verification", kept.digest, report, metrics={}, passed=True
    )
    standing = api.policy_standing(verified)
    assert standing.met, "the true one is on record"
    (warning,) = standing.warnings
    assert f"verification {forged.run_id[:12]}" in warning


def test_what_is_gone_is_missed(verified: api.Workspace) -> None:
    (kept,) = verified.registry.measurements.all("miniature", "verification")
    MlflowClient(verified.registry.uri).delete_run(kept.run_id)
    standing = api.policy_standing(verified)
    assert [check.name for check in standing.checks if not check.passed] == ["verification"]
    (warning,) = standing.warnings
    assert "no true report of event" in warning
