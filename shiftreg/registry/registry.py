"""Registry: everything that is kept about bases, shifts and compositions, behind one value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from shiftreg.registry import (
    accounts,
    bases,
    compositions,
    measurements,
    samples,
    shifts,
    training,
    turns,
)
from shiftreg.registry.examination import Examination
from shiftreg.registry.records import BaseRecord, CompositionVersion, Measurement, ShiftVersion
from shiftreg.registry.server_events import ServerEvents
from shiftreg.registry.store import Store, connect


def open_registry(
    home: Path, tracking_uri: str | None = None, *, reading: bool = False
) -> Registry:
    """Opens the registry, and creates it where there is none (which takes some seconds).

    Args:
        home: Folder for the SQLite database and all files.
        tracking_uri: An MLflow tracking server to use in place of the database; ``home`` then
            keeps copies of downloaded files.
        reading: Whether a home that cannot be written will do.

    Raises:
        StorageError: The folder, the database or the server refuses; the message has the remedy.
    """
    return Registry(connect(home, tracking_uri, reading=reading))


class Registry:
    """Bases, versions of shifts and compositions in MLflow.

    Every method raises :class:`~shiftreg.errors.StorageError` when the database or the server
    refuses, and :class:`~shiftreg.errors.IntegrityError` when what it reads was tampered with.
    """

    def __init__(self, store: Store) -> None:
        """Use :func:`open_registry`."""
        self._store = store

    @property
    def uri(self) -> str:
        """Where it is, as ``mlflow ui --backend-store-uri`` takes it."""
        return self._store.uri

    @property
    def is_read_only(self) -> bool:
        """Whether it was opened for reading, since nothing can be written in its home."""
        return self._store.is_read_only

    def events(self) -> ServerEvents:
        """The audit trail that all who use this server share."""
        return ServerEvents(self._store)

    def account(self) -> str | None:
        """The name that the server checks a password for; None if it checks none."""
        return accounts.account(self._store)

    def turn(self) -> AbstractContextManager[None]:
        """A turn to change what is active, and to say so in the audit trail.

        Nobody else's turn comes between, on this machine or on another one. Take it for the
        change alone: trainings and uploads would keep everybody waiting.

        Raises:
            StorageError: Others took too long, or this turn did and was ended by another client.
        """
        return turns.turn(self._store)

    @property
    def examination(self) -> Examination:
        """Reads it as it is, for whoever looks for damage."""
        return Examination(self._store)

    def save_base(self, record: BaseRecord) -> None:
        """Keeps a base's record; the same base again replaces its lists and settings.

        Raises:
            InvalidInputError: The name cannot be a base's.
            AlreadyExistsError: The name stands for a base with another digest.
        """
        bases.save_base(self._store, record)

    def base(self, name: str) -> BaseRecord:
        """The record of a base.

        Raises:
            NotFoundError: No base has this name.
        """
        return bases.read_base(self._store, name)

    def bases(self) -> tuple[BaseRecord, ...]:
        """The records of all bases, by name."""
        return bases.list_bases(self._store)

    def training_run(
        self, base: str, concept: str, parameters: Mapping[str, Any]
    ) -> AbstractContextManager[training.TrainingLog]:
        """A run for one training; it is taken away if the training fails or is interrupted.

        Args:
            base: Name of the base.
            concept: Name of the concept.
            parameters: Of the training, JSON values.

        Returns:
            A context manager that gives the log to write to.

        Raises:
            NotFoundError: No base has this name.
        """
        return training.training_run(self._store, base, concept, parameters)

    def training_curves(self, version: ShiftVersion) -> Mapping[str, Sequence[tuple[int, float]]]:
        """The values of a version's training, step by step; none if it was not trained.

        Returns:
            A name -> ``(step, value)`` in order.
        """
        return training.read_curves(self._store, version.run_id)

    def register_shift(
        self,
        base: str,
        run: training.TrainingLog | str,
        shift_file: Path,
        shift_metadata: Mapping[str, Any],
        metrics: Mapping[str, float],
        *,
        predecessor: str | None = None,
        reason: str = "",
        actor: str = "",
        activate: bool = True,
    ) -> ShiftVersion:
        """Makes a new version from a shift file. Versions never change and are never reused.

        Args:
            base: Name of the base.
            run: The training's log, or the id of its run.
            shift_file: The file; a copy is kept.
            shift_metadata: "concept", "digest", "method" and "protected"; perhaps "aliases",
                "kind" and "base_digest".
            metrics: Measured on the shift.
            predecessor: Digest of the version that it replaces with a wider protection.
            reason: Why it was made.
            actor: Who made it.
            activate: Whether it becomes the active version.

        Raises:
            NotFoundError: The base or the file does not exist.
            IncompatibleError: The shift was made for another base.
            InvalidInputError: Metadata is missing.
            AlreadyExistsError: A registered concept's name differs in punctuation only.
        """
        return shifts.register_shift(
            self._store,
            base,
            run,
            shift_file,
            shift_metadata,
            metrics,
            predecessor=predecessor,
            reason=reason,
            actor=actor,
            activate=activate,
        )

    def concepts(self, base: str) -> tuple[str, ...]:
        """Names of all concepts that have a version, as they were registered."""
        return shifts.list_concepts(self._store, base)

    def versions(self, base: str, concept: str) -> list[ShiftVersion]:
        """All versions of a concept, oldest first.

        Raises:
            NotFoundError: The base or the concept is not registered.
        """
        return shifts.list_versions(self._store, base, concept)

    def all_versions(self, base: str) -> dict[str, list[ShiftVersion]]:
        """All versions of all concepts, in two queries.

        Returns:
            Name of a concept -> its versions, oldest first.
        """
        return shifts.list_all(self._store, base)

    def version(self, base: str, concept: str, ref: str | int | None = None) -> ShiftVersion:
        """One version of a concept.

        Args:
            base: Name of the base.
            concept: Its name or an alias; case and punctuation do not matter.
            ref: A number, "active" or "latest"; by default the active or else the latest one.

        Raises:
            NotFoundError: The base, the concept or the version is not registered.
        """
        return shifts.read_version(self._store, base, concept, ref)

    def active(self, base: str) -> list[ShiftVersion]:
        """The active versions of all concepts, by concept."""
        return shifts.list_active(self._store, base)

    def activate(self, base: str, concept: str, version: str | int | ShiftVersion) -> ShiftVersion:
        """Makes one version the active one. Take a :meth:`turn` around it.

        Raises:
            NotFoundError: The base, the concept or the version is not registered.
        """
        return shifts.activate(self._store, base, concept, version)

    def deactivate(self, base: str, concept: str) -> ShiftVersion | None:
        """Leaves a concept without active version; its versions stay.

        Take a :meth:`turn` around it.

        Returns:
            The version that was active, as it is now; None if there was none.

        Raises:
            NotFoundError: The base or the concept is not registered.
        """
        return shifts.deactivate(self._store, base, concept)

    def download_shift(self, version: ShiftVersion) -> Path:
        """A local file with the bytes that were registered. It is the registry's: do not change it.

        Raises:
            IntegrityError: The file is missing or was changed.
        """
        return shifts.download_shift(self._store, version)

    def download_samples(self, version: ShiftVersion) -> Path | None:
        """A local image of what a version does, generated when it was made; None if there is none.

        No digest of it is on record: it illustrates, and proves nothing.
        """
        return samples.download_samples(self._store, version)

    def stale(self, base: str) -> dict[ShiftVersion, tuple[str, ...]]:
        """Active versions that do not protect every other registered concept.

        Returns:
            Version -> names of the concepts that it does not protect.
        """
        return shifts.list_stale(self._store, base)

    def register_composition(
        self,
        base: str,
        shifts: Iterable[ShiftVersion],
        *,
        digest: str,
        form: str = "",
        export_path: str = "",
        export_digest: str = "",
        recipe_digest: str = "",
        restored: Iterable[str] | None = None,
        verification: Mapping[str, Any] | None = None,
        files: Iterable[Path] = (),
        reason: str = "",
        actor: str = "",
    ) -> CompositionVersion:
        """Keeps what was composed and exported.

        Args:
            base: Name of the base.
            shifts: The versions that were applied.
            digest: Of the composition.
            form: Of the file: "ckpt", "safetensors" or "folder", or "adapter, kohya" and the like.
            export_path: Where the checkpoint was written.
            export_digest: Of the checkpoint.
            recipe_digest: Of the recipe beside it.
            restored: Names of concepts left alone; all other registered ones by default.
            verification: The verification's report, JSON values.
            files: Files to keep, such as the recipe and a report.
            reason: Why it was made.
            actor: Who made it.

        Raises:
            NotFoundError: The base or a file does not exist.
        """
        return compositions.register_composition(
            self._store,
            base,
            shifts,
            digest=digest,
            form=form,
            export_path=export_path,
            export_digest=export_digest,
            recipe_digest=recipe_digest,
            restored=restored,
            verification=verification,
            files=files,
            reason=reason,
            actor=actor,
        )

    def remove_version(self, version: ShiftVersion | CompositionVersion) -> None:
        """Takes a version away, in one step; its number is given to no other one.

        Take a :meth:`turn` around it.
        """
        if isinstance(version, ShiftVersion):
            shifts.remove_version(self._store, version)
        else:
            compositions.remove_version(self._store, version)

    def drop_run(self, base: str, run_id: str) -> None:
        """Deletes the run of a version that was removed, unless another one needs it.

        MLflow keeps its files until ``mlflow gc``.
        """
        compositions.drop_run(self._store, base, run_id)

    def remove_composition(self, version: CompositionVersion) -> None:
        """Takes back a composition whose files were put back; MLflow can restore its run."""
        compositions.remove_composition(self._store, version)

    def compositions(self, base: str) -> list[CompositionVersion]:
        """All compositions of a base, oldest first."""
        return compositions.list_compositions(self._store, base)

    def record_measurement(
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
            base: Name of the base.
            kind: "verification", "evaluation", "attack" or "report".
            digest: Of the composition.
            report: The report's file.
            metrics: Worth comparing between measurements.
            passed: Whether what was asked for holds; None where nothing was.
            export_digest: Of the exported file that was measured, if one was.
            concept: The one concept that it is about.
            files: Images to keep beside the report.
        """
        return measurements.record_measurement(
            self._store,
            base,
            kind,
            digest,
            report,
            metrics=metrics,
            passed=passed,
            export_digest=export_digest,
            concept=concept,
            files=files,
        )

    def mark_exports(self, base: str, measurement: Measurement) -> None:
        """Marks the exports that a measurement is about, as recording it does."""
        measurements.mark_exports(self._store, base, measurement)

    def measurements(self, base: str, kind: str) -> list[Measurement]:
        """All measurements of a kind, oldest first."""
        return measurements.list_measurements(self._store, base, kind)

    def download_report(self, measurement: Measurement) -> Path:
        """A local file with a measurement's report. It is the registry's: do not change it.

        Raises:
            IntegrityError: The file is missing or was changed.
        """
        return measurements.download_report(self._store, measurement)
