"""Compositions: one registered model a base, one version an export."""

from __future__ import annotations

from collections.abc import Iterable
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
from shiftreg.registry.records import CompositionVersion, ShiftVersion
from shiftreg.registry.runs import from_tag, kept_run, log_file, log_text, to_tag
from shiftreg.registry.store import Section, Store, translates_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

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
