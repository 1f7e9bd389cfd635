"""Compositions: one registered model a base, one version an export; and their measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftreg.canonical import canonical_json
from shiftreg.concepts import slug
from shiftreg.registry.bases import find_experiment
from shiftreg.registry.models import (
    COMPOSITIONS,
    base_tags,
    create_model,
    create_version,
    reading_tags,
    search_versions,
    tag_filter,
    utc,
)
from shiftreg.registry.records import CompositionVersion, Measurement, ShiftVersion
from shiftreg.registry.runs import (
    fetch_verified,
    file_digest,
    from_tag,
    kept_run,
    log_file,
    log_text,
    to_tag,
)
from shiftreg.registry.store import Section, Store, paged, translates_errors
from shiftreg.registry.training import log_metrics

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion


PAGE = 1000
JSON_FIELDS = ("shifts", "erased", "restored", "verification")
TEXT_FIELDS = (
    "digest", "form", "export_path", "export_digest", "recipe_digest", "reason", "actor",
)  # fmt: skip


class Compositions(Section):
    """What was composed and exported."""

    @translates_errors
    def register(
        self,
        base: str,
        shifts: Iterable[ShiftVersion],
        *,
        digest: str,
        form: str = "",
        export_path: str = "",
        export_digest: str = "",
        recipe_digest: str = "",
        restored: Iterable[str] = (),
        files: Iterable[Path] = (),
        reason: str = "",
        actor: str = "",
    ) -> CompositionVersion:
        """Keeps what was composed and exported.

        Args:
            shifts: The versions that were applied.
            form: Of the file: "ckpt", "safetensors" or "folder", or "adapter, kohya" and the like.
            recipe_digest: Of the recipe beside it.
            restored: Names of known concepts that it leaves alone.
            files: Files to keep, such as the recipe and a report.

        Raises:
            NotFoundError: The base or a file does not exist.
        """
        store = self.store
        experiment = find_experiment(store, base)
        shifts = tuple(shifts)
        erased = tuple(shift.concept for shift in shifts)
        values: dict[str, Any] = {
            "digest": digest,
            "form": form,
            "shifts": [[shift.concept, shift.version, shift.digest] for shift in shifts],
            "erased": list(erased),
            "restored": list(restored),
            "export_path": export_path,
            "export_digest": export_digest,
            "recipe_digest": recipe_digest,
            "verification": None,  # a mark of the measurement's, later
            "reason": reason,
            "actor": actor,
        }
        title = "Without " + ", ".join(erased) if erased else "The base, unchanged"
        run_tags = {
            "shiftreg.kind": "composition",
            "shiftreg.digest": digest,
            "mlflow.note.content": f"{title}. {reason}".strip(),
        }
        with kept_run(
            store, experiment.experiment_id, f"compose {digest[:12]}", run_tags
        ) as run_id:
            log_text(store, run_id, canonical_json(values), "composition/composition.json")
            for path in files:
                log_file(store, run_id, Path(path), f"composition/{Path(path).name}")
            name = f"{slug(base)}.{COMPOSITIONS}"
            tags = base_tags(base, "composition")
            about = f"Checkpoints made from the base `{base}` and its shifts."
            create_model(store, name, tags, about)
            for key in JSON_FIELDS:
                values[key] = to_tag(store, run_id, key, values[key])
            tags |= {f"shiftreg.{key}": value for key, value in values.items()}
            source, note = f"runs:/{run_id}/composition", run_tags["mlflow.note.content"]
            entry = create_version(store, name, source, run_id, tags, note)
        return composition_version(store, entry)

    @translates_errors
    def all(self, base: str) -> list[CompositionVersion]:
        """All compositions of a base, oldest first."""
        entries = search_versions(self.store, tag_filter(base, "composition"))
        return [composition_version(self.store, entry) for entry in entries]


def composition_version(store: Store, entry: ModelVersion) -> CompositionVersion:
    """What a version in MLflow says.

    Raises:
        IntegrityError: A tag is missing, or what it stands for was changed.
    """
    tags, run_id = entry.tags, entry.run_id or ""
    with reading_tags(entry):
        values = {
            name: from_tag(store, run_id, name, tags[f"shiftreg.{name}"]) for name in JSON_FIELDS
        }
        return CompositionVersion(
            base=tags["shiftreg.base"],
            version=int(entry.version),
            shifts=tuple(
                (name, int(version), digest) for name, version, digest in values["shifts"]
            ),
            erased=tuple(values["erased"]),
            restored=tuple(values["restored"]),
            verification=values["verification"],
            created=utc(entry.creation_timestamp),
            run_id=run_id,
            **{name: tags.get(f"shiftreg.{name}", "") for name in TEXT_FIELDS},
        )


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
