"""Measurements: a run each, with its report, and a mark on every export that was verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftreg.canonical import canonical_json
from shiftreg.concepts import slug
from shiftreg.registry.bases import find_experiment
from shiftreg.registry.compositions import Compositions
from shiftreg.registry.models import COMPOSITIONS, utc
from shiftreg.registry.records import Measurement
from shiftreg.registry.runs import fetch_verified, file_digest, kept_run, log_file
from shiftreg.registry.store import Section, paged, translates_errors
from shiftreg.registry.training import log_metrics

if TYPE_CHECKING:
    from mlflow.entities import Run

PAGE = 1000


class Measurements(Section):
    """Stored reports about compositions."""

    @translates_errors
    def record(
        self,
        base: str,
        kind: str,
        digest: str,
        report: Path,
        *,
        metrics: Mapping[str, float],
        passed: bool | None = None,
        export_digest: str = "",
        concept: str = "",
        files: Sequence[Path] = (),
    ) -> Measurement:
        """Keeps a report about a composition, and marks the exports that it is about.

        Args:
            kind: "verification", "evaluation", "attack" or "report".
            report: The report's file.
            metrics: Worth comparing between measurements.
            passed: Whether what was asked for holds; None where nothing was.
            export_digest: Of the exported file that was measured, if one was.
            concept: The one concept that it is about.
            files: Images to keep beside the report.
        """
        store = self.store
        experiment = find_experiment(store, base)
        outcome = {True: ": passed", False: ": failed", None: ""}[passed]
        of = f" of `{concept}`" if concept else ""
        tags = {
            "shiftreg.kind": kind,
            "shiftreg.digest": digest,
            "shiftreg.export_digest": export_digest,
            "shiftreg.concept": concept,
            "shiftreg.passed": "" if passed is None else str(passed).lower(),
            "shiftreg.report": report.name,
            "mlflow.note.content": f"{kind.capitalize()}{of} on `{digest[:12]}`{outcome}.",
        }
        name = f"{kind} {concept or digest[:12]}"
        with kept_run(store, experiment.experiment_id, name, tags) as run_id:
            log_metrics(store, run_id, metrics)
            for path in (report, *files):
                log_file(store, run_id, path, f"{kind}/{path.name}")
            store.client.set_tag(run_id, "shiftreg.report_sha256", file_digest(report))
        measurement = _measurement(store.client.get_run(run_id))
        self.mark_exports(base, measurement)
        return measurement

    @translates_errors
    def mark_exports(self, base: str, measurement: Measurement) -> None:
        """Marks the exports that a measurement is about, as recording it does."""
        if not measurement.export_digest or measurement.passed is None:
            return
        mark = canonical_json(mark_of(measurement))
        for version in Compositions(self.store).all(base):
            if version.export_digest == measurement.export_digest:
                self.store.client.set_model_version_tag(
                    f"{slug(base)}.{COMPOSITIONS}",
                    str(version.version),
                    f"shiftreg.{measurement.kind}",
                    mark,
                )

    @translates_errors
    def all(self, base: str, kind: str, *, deleted: bool = False) -> list[Measurement]:
        """All finished measurements of a kind, oldest first; or else those that were deleted."""
        from mlflow.entities import ViewType

        experiment = find_experiment(self.store, base)
        runs = paged(
            self.store.client.search_runs,
            [experiment.experiment_id],
            f"tags.`shiftreg.kind` = '{kind}' and attributes.status = 'FINISHED'",
            run_view_type=ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY,
            max_results=PAGE,
            order_by=["attributes.start_time ASC"],
        )
        return [_measurement(run) for run in runs]

    @translates_errors
    def download(self, measurement: Measurement) -> Path:
        """A local file with a measurement's report. It is the registry's: do not change it.

        Raises:
            IntegrityError: The file is missing or was changed.
        """
        return fetch_verified(
            self.store,
            measurement.run_id,
            f"{measurement.kind}/{measurement.report}",
            measurement.report_digest,
        )


def mark_of(measurement: Measurement) -> dict[str, Any]:
    """What an export says of its last measurement."""
    return {
        "passed": measurement.passed,
        "run_id": measurement.run_id,
        "report": measurement.report,
    }


def _measurement(run: Run) -> Measurement:
    tags = {key.removeprefix("shiftreg."): value for key, value in run.data.tags.items()}
    return Measurement(
        run_id=run.info.run_id,
        kind=tags["kind"],
        digest=tags.get("digest", ""),
        export_digest=tags.get("export_digest", ""),
        concept=tags.get("concept", ""),
        passed={"true": True, "false": False}.get(tags.get("passed", "")),
        created=utc(run.info.start_time),
        report=tags.get("report", ""),
        report_digest=tags.get("report_sha256", ""),
    )
