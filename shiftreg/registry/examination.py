"""Everything that a base has in MLflow, read one by one, so that one damaged entry hides no other.

Also what no other reader looks at: runs that were left or deleted, and the database itself.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from shiftreg.errors import IntegrityError, ShiftregError, StorageError
from shiftreg.registry.bases import base_experiments, base_record, find_experiment
from shiftreg.registry.compositions import composition_version
from shiftreg.registry.failures import translated_errors
from shiftreg.registry.models import ATTEMPT, search_versions, tag_filter
from shiftreg.registry.records import BaseRecord, CompositionVersion, ShiftVersion
from shiftreg.registry.runs import is_left
from shiftreg.registry.shifts import active_numbers, shift_version
from shiftreg.registry.store import Section, paged, translates_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

PAGE = 1000
Record = TypeVar("Record", BaseRecord, ShiftVersion, CompositionVersion)


@dataclass(frozen=True)
class Examined(Generic[Record]):
    """One version or base in MLflow, as far as it can be read.

    Attributes:
        name: Of the registered model, or of the base.
        number: Of the version; 0 for a base.
        record: The version or base; None if it cannot be read.
        problem: Why it cannot.
        attempt: Which request made it; copies of one version have the same.
    """

    name: str
    number: int
    record: Record | None
    problem: str
    attempt: str = ""


@dataclass(frozen=True)
class OpenRun:
    """A run that has not ended.

    Attributes:
        kind: "training", "composition", "verification", ...
        is_left: Its process ran on this machine and is gone, so that nobody will end it.
    """

    run_id: str
    name: str
    kind: str
    is_left: bool


class Examination(Section):
    """Reads a registry as it is, for whoever looks for damage.

    Every method raises :class:`~shiftreg.errors.StorageError` when the database or the server
    refuses, and :class:`~shiftreg.errors.NotFoundError` for an unknown base.
    """

    @translates_errors
    def bases(self) -> tuple[Examined[BaseRecord], ...]:
        """Every base, by name."""
        entries: list[Examined[BaseRecord]] = []
        for experiment in base_experiments(self.store):
            try:
                record = base_record(self.store, experiment)
                entries.append(Examined(experiment.name, 0, record, ""))
            except IntegrityError as error:
                entries.append(Examined(experiment.name, 0, None, str(error)))
        return tuple(entries)

    @translates_errors
    def base_run(self, base: str) -> str:
        """The run in MLflow that keeps the record of a base."""
        return str(find_experiment(self.store, base).tags["shiftreg.base_run"])

    @translates_errors
    def shifts(self, base: str) -> tuple[Examined[ShiftVersion], ...]:
        """Every version of every shift of a base, oldest first."""
        store = self.store
        find_experiment(store, base)
        active = active_numbers(store, base)

        def read(entry: ModelVersion) -> ShiftVersion:
            return shift_version(store, entry, str(entry.version) == active.get(entry.name))

        return _versions(search_versions(store, tag_filter(base, "shift")), read)

    @translates_errors
    def compositions(self, base: str) -> tuple[Examined[CompositionVersion], ...]:
        """Every composition of a base, oldest first."""
        store = self.store
        find_experiment(store, base)
        entries = search_versions(store, tag_filter(base, "composition"))
        return _versions(entries, lambda entry: composition_version(store, entry))

    def is_run_kept(self, run_id: str) -> bool:
        """Whether a run exists undeleted: MLflow's cleanup takes the files of deleted ones."""
        try:
            with translated_errors(self.store.uri):
                return self.store.client.get_run(run_id).info.lifecycle_stage == "active"
        except StorageError as error:
            if "not found" in str(error):
                return False
            raise

    @translates_errors
    def open_runs(self, base: str) -> tuple[OpenRun, ...]:
        """The runs of a base that have not ended: those of living processes, and leftovers."""
        experiment = find_experiment(self.store, base)
        runs: Iterator[Run] = paged(
            self.store.client.search_runs,
            [experiment.experiment_id],
            "attributes.status = 'RUNNING'",
            max_results=PAGE,
        )
        return tuple(
            OpenRun(run.info.run_id, run.info.run_name or "", kind, is_left(run))
            for run in runs
            if (kind := run.data.tags.get("shiftreg.kind")) is not None
        )

    @translates_errors
    def remove_run(self, run_id: str) -> None:
        """Ends a run that its process left, and deletes it; MLflow can bring it back."""
        self.store.client.set_terminated(run_id, "KILLED")
        self.store.client.delete_run(run_id)

    @translates_errors
    def end_run(self, run_id: str) -> None:
        """Ends a run that its process left, and that is needed."""
        self.store.client.set_terminated(run_id)

    @translates_errors
    def remove_version(self, entry: Examined[Any]) -> None:
        """Deletes a version in MLflow."""
        self.store.client.delete_model_version(entry.name, str(entry.number))

    def database_damage(self) -> str:
        """What SQLite finds wrong with the database; empty if nothing, or for a server."""
        if not self.store.is_own:
            return ""
        with closing(sqlite3.connect(self.store.home / "registry.db")) as connection:
            try:
                lines = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
            except sqlite3.DatabaseError as error:
                return str(error)
        return "" if lines == ["ok"] else "; ".join(lines)


def _versions(
    entries: Iterable[ModelVersion], read: Callable[[ModelVersion], Record]
) -> tuple[Examined[Record], ...]:
    examined = []
    for entry in entries:
        record, problem = None, ""
        try:
            record = read(entry)
        except ShiftregError as error:
            problem = str(error)
        attempt = entry.tags.get(ATTEMPT, "")
        examined.append(Examined(entry.name, int(entry.version), record, problem, attempt))
    return tuple(examined)
