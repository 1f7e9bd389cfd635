"""Registry: everything that is kept about bases, shifts and compositions, behind one value."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from shiftreg.concepts import slug
from shiftreg.registry.bases import Bases
from shiftreg.registry.compositions import Compositions, Measurements
from shiftreg.registry.examination import Examination
from shiftreg.registry.lock import lock
from shiftreg.registry.models import COMPOSITIONS, find_model, search_versions, tag_filter
from shiftreg.registry.records import CompositionVersion, ShiftVersion
from shiftreg.registry.server import account
from shiftreg.registry.server_events import ServerEvents
from shiftreg.registry.shifts import Shifts
from shiftreg.registry.store import Section, Store, connect, translates_errors
from shiftreg.registry.training import Trainings


def open_registry(
    home: Path, tracking_uri: str | None = None, *, reading: bool = False
) -> Registry:
    """Opens the registry, and creates it if there is none yet (which takes some seconds).

    Args:
        home: Folder for the SQLite database and all files.
        tracking_uri: An MLflow tracking server to use in place of the database; ``home`` then
            keeps copies of downloaded files.
        reading: Whether a home that cannot be written will do.

    Raises:
        StorageError: The folder, the database or the server refuses; the message has the remedy.
    """
    return Registry(connect(home, tracking_uri, reading=reading))


class Registry(Section):
    """Bases, versions of shifts and compositions in MLflow.

    Attributes:
        events: The audit trail that all who use this server share.
        examination: Reads it as it is, for whoever looks for damage.
    """

    def __init__(self, store: Store) -> None:
        """Use :func:`open_registry`."""
        super().__init__(store)
        self.bases = Bases(store)
        self.shifts = Shifts(store)
        self.compositions = Compositions(store)
        self.measurements = Measurements(store)
        self.trainings = Trainings(store)
        self.events = ServerEvents(store)
        self.examination = Examination(store)

    @property
    def uri(self) -> str:
        """Where it is, as ``mlflow ui --backend-store-uri`` takes it."""
        return self.store.uri

    @property
    def is_read_only(self) -> bool:
        """Whether it was opened for reading, since nothing can be written in its home."""
        return self.store.is_read_only

    @translates_errors
    def account(self) -> str | None:
        """The name that the server checks a password for; None if it checks none."""
        return account(self.uri)

    def lock(self) -> AbstractContextManager[None]:
        """Keeps everybody else, on any machine, from changing what is active.

        Hold it for the change and its event alone: trainings and uploads would keep all waiting.

        Raises:
            StorageError: Others held it too long, or another client took it away from this one.
        """
        return lock(self.store)

    @translates_errors
    def remove_version(self, version: ShiftVersion | CompositionVersion) -> None:
        """Deletes a version, in one step; its number is never reused. Hold the :meth:`lock`."""
        name = (
            find_model(self.store, version.base, version.concept).name
            if isinstance(version, ShiftVersion)
            else f"{slug(version.base)}.{COMPOSITIONS}"
        )
        self.store.client.delete_model_version(name, str(version.version))

    @translates_errors
    def drop_run(self, base: str, run_id: str) -> None:
        """Deletes the run of a version that was removed, unless another one needs it.

        MLflow keeps its files until ``mlflow gc``.
        """
        client = self.store.client
        for kind in ("shift", "composition"):
            entries = search_versions(self.store, tag_filter(base, kind))
            if any(entry.run_id == run_id for entry in entries):
                return
        if client.get_run(run_id).info.lifecycle_stage == "active":
            client.delete_run(run_id)
