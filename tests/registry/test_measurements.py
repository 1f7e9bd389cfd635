from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftreg.errors import IntegrityError, NotFoundError
from shiftreg.registry import Registry, ShiftVersion

Erase = Callable[..., ShiftVersion]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text("{}")
    return path


def test_a_verification_is_a_run_with_its_report_and_numbers(
    registry: Registry, report: Path
) -> None:
    measurement = registry.measurements.record(
        "miniature", "verification", "c" * 64, report, passed=False, metrics={"images": 0.5}
    )
    client = MlflowClient(registry.uri)
    run = client.get_run(measurement.run_id)
    assert run.data.metrics == {"images": 0.5}
    assert run.data.tags["shiftreg.passed"] == "false"
    assert run.info.status == "FINISHED"
    (file,) = client.list_artifacts(measurement.run_id, "verification")
    assert file.path == "verification/report.json"


def test_it_marks_the_exports_that_it_is_about_and_no_others(
    registry: Registry, erase: Erase, report: Path
) -> None:
    picasso = erase("Picasso")
    for digest in ("1" * 64, "2" * 64):
        registry.compositions.register(
            "miniature", [picasso], digest="c" * 64, export_digest=digest
        )
    registry.measurements.record(
        "miniature",
        "verification",
        "c" * 64,
        report,
        passed=True,
        metrics={},
        export_digest="2" * 64,
    )
    other, verified = registry.compositions.all("miniature")
    assert other.verification is None
    assert verified.verification is not None
    assert verified.verification["passed"] is True


def test_a_missing_report_leaves_no_run(registry: Registry, tmp_path: Path) -> None:
    client = MlflowClient(registry.uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    before = len(client.search_runs(experiments))
    with pytest.raises(NotFoundError):
        registry.measurements.record(
            "miniature", "verification", "c" * 64, tmp_path / "none.json", passed=True, metrics={}
        )
    assert len(client.search_runs(experiments)) == before


def test_measurements_are_listed_by_kind_oldest_first(registry: Registry, report: Path) -> None:
    kept = [
        registry.measurements.record(
            "miniature", "attack", "c" * 64, report, metrics={}, concept=concept
        )
        for concept in ("Picasso", "Cezanne")
    ]
    registry.measurements.record("miniature", "evaluation", "c" * 64, report, metrics={})
    assert registry.measurements.all("miniature", "attack") == kept
    assert [m.passed for m in kept] == [None, None]


def test_a_report_comes_back_and_a_changed_one_is_refused(registry: Registry, report: Path) -> None:
    measurement = registry.measurements.record(
        "miniature", "evaluation", "c" * 64, report, metrics={}, files=[report]
    )
    path = registry.measurements.download(measurement)
    assert path.read_text() == "{}"
    path.write_text('{"passed": true}')
    with pytest.raises(IntegrityError, match="was changed"):
        registry.measurements.download(measurement)
