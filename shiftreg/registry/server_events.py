"""ServerEvents: the audit trail's chain in MLflow, so that all who use a server share one.

The events are the versions of one registered model. MLflow gives each version the next number,
and no number twice: that makes :meth:`ServerEvents.add` a compare-and-swap. A writer makes
its event for the number that it expects. If MLflow gives it a later one, somebody else was first:
the version stays, void, and the event is made again for the next number.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from shiftreg.audit.events import GENESIS, AuditEvent, Contents, Draft, Entry
from shiftreg.errors import IntegrityError, StorageError
from shiftreg.registry.failures import DENIED, MISSING, Suppressed, translated_errors
from shiftreg.registry.models import create_model, search_versions
from shiftreg.registry.runs import (
    TAG_BYTES,
    artifacts,
    fetch_verified,
    find_or_create_experiment,
    log_text,
)
from shiftreg.registry.store import Section, paged

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

NAME = "shiftreg-audit"
EVENT = "shiftreg.event"
LOCK_SECONDS = 5
RACE_SECONDS = 120
LONGEST_WAIT = 4.0
PAGE = 20
FILE = re.compile("sha256:([0-9a-f]{64})")
DESCRIPTION = (
    "The audit trail of shiftreg: a version an event, each naming the digest of the one before. "
    "Change nothing here: `shiftreg audit verify` would say so."
)


class ServerEvents(Section):
    """A chain of events in an MLflow server or database."""

    def add(self, draft: Draft) -> AuditEvent:
        """Registers one event; see :meth:`EventStore.add`."""
        deadline, wait = time.monotonic() + RACE_SECONDS, 0.1
        with self._one_at_a_time(), translated_errors(self.store.uri):
            while time.monotonic() < deadline:
                number, previous = self._end()
                event = draft.event(number, previous)
                if self._create(event) == number or self._arrived(event):
                    self.note_head(event.sequence, event.digest)
                    return event
                # Twice as long each time: the more there are, the fewer places are lost to races.
                time.sleep(random.uniform(0.0, wait))
                wait = min(2 * wait, LONGEST_WAIT)
        raise StorageError(
            f"The audit trail in {self.store.uri} is written to by so many that this event "
            f"lost every race for {RACE_SECONDS} s. Try again."
        )

    def contents(self) -> Contents:
        """All versions; see :meth:`EventStore.contents`."""
        with translated_errors(self.store.uri):
            entries = tuple(
                Entry(int(version.version), self._line(version))
                for version in search_versions(self.store, f"name = '{NAME}'")
            )
        name = f"audit trail '{NAME}' in {self.store.uri}"
        return Contents(name, tuple(sorted(entries, key=lambda e: e.number)), "version", True)

    def last_place(self) -> int:
        """The number of the last version; see :meth:`EventStore.last_place`."""
        with translated_errors(self.store.uri):
            return self._end()[0] - 1

    def noted_head(self) -> tuple[int, str] | None:
        """What this home saw last; a damaged note is as good as none."""
        try:
            noted = json.loads(self._note.read_text(encoding="utf-8"))
            return int(noted["sequence"]), str(noted["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note_head(self, sequence: int, digest: str) -> None:
        """Remembers the head beside the home's other files, if anything can be written there."""
        if self.store.is_read_only:
            return
        self._note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=self._note.parent, prefix=".audit-", delete=False, encoding="utf-8"
        ) as file:
            json.dump({"sequence": sequence, "digest": digest}, file)
        os.replace(file.name, self._note)

    @property
    def _note(self) -> Path:
        """One file a server; its address may hold a password, and so its digest names the file."""
        server = hashlib.sha256(self.store.uri.encode()).hexdigest()[:12]
        return self.store.home / "audit" / f"head-{server}.json"

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Keeps the writers of one home from racing each other, for a while.

        A courtesy, which spares void versions: the numbers decide, with the lock or without.
        """
        lock = FileLock(self._note.with_suffix(".lock"), timeout=LOCK_SECONDS)
        self._note.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _end(self) -> tuple[int, str]:
        """The number of the next version, and the digest that its event continues."""
        search, order = self.store.client.search_model_versions, ["version_number DESC"]
        following = 0
        for version in paged(search, f"name = '{NAME}'", max_results=PAGE, order_by=order):
            number = int(version.version)
            following = following or number + 1
            event = self._sound(version)
            if event.sequence == number:
                return following, event.digest
            if event.sequence > number:
                raise _damaged(number, f"it holds event {event.sequence}")
        return following or 1, GENESIS

    def _sound(self, version: ModelVersion) -> AuditEvent:
        """The event of a version that nobody changed."""
        try:
            event = AuditEvent.from_line(self._line(version))
        except IntegrityError as error:
            raise _damaged(version.version, str(error)) from error
        if not event.is_sound:
            raise _damaged(version.version, "its content does not match its digest")
        return event

    def _create(self, event: AuditEvent) -> int:
        """Makes the next version, and says which number it has got."""
        line = event.to_line()
        if len(line.encode()) > TAG_BYTES:
            digest = hashlib.sha256(line.encode()).hexdigest()
            log_text(self.store, self._run, line, _file_of(digest))
            line = f"sha256:{digest}"

        def create() -> int:
            version = self.store.client.create_model_version(
                NAME,
                f"runs:/{self._run}/events",
                run_id=self._run,
                tags={EVENT: line},
                await_creation_for=0,
            )
            return int(version.version)

        with Suppressed(MISSING, DENIED):
            return create()
        create_model(self.store, NAME, {"shiftreg.kind": "audit"}, DESCRIPTION)
        return create()

    def _arrived(self, event: AuditEvent) -> bool:
        """Whether the event is at its place after all.

        A request whose answer is lost is sent again by MLflow's client: then the first one made
        the event, and the second a void copy of it.
        """
        version = None
        with Suppressed(MISSING):
            version = self.store.client.get_model_version(NAME, str(event.sequence))
        return version is not None and self._line(version) == event.to_line().encode()

    def _line(self, version: ModelVersion) -> bytes:
        """What a version holds; for a long event, the text of a file."""
        text: str = version.tags.get(EVENT, "")
        if not (stored := FILE.fullmatch(text)):
            return text.encode()
        digest = stored[1]
        run_id, file = version.run_id or "", _file_of(digest)
        try:
            return fetch_verified(self.store, run_id, file, digest).read_bytes()
        except Exception as error:
            files = artifacts(self.store, run_id).list_artifacts(Path(file).parent.as_posix())
            if isinstance(error, IntegrityError) or file not in [found.path for found in files]:
                return text.encode()  # Not an event: whoever reads it says so, and where.
            raise

    @cached_property
    def _run(self) -> str:
        """A run that versions can name as their source, and that keeps long events."""
        client = self.store.client
        found = find_or_create_experiment(
            self.store,
            NAME,
            {"shiftreg.kind": "audit", "mlflow.note.content": DESCRIPTION},
            self.store.artifacts(NAME),
        )
        runs = client.search_runs([found.experiment_id], max_results=1)
        if runs:
            return runs[0].info.run_id
        run = client.create_run(
            found.experiment_id, run_name="events", tags={"shiftreg.kind": "audit"}
        )
        client.set_terminated(run.info.run_id)
        return run.info.run_id


def _file_of(digest: str) -> str:
    return f"events/{digest}.json"


def _damaged(number: int | str, problem: str) -> IntegrityError:
    return IntegrityError(
        f"Version {number} of the audit trail is damaged ({problem}), so nothing can continue it. "
        "See: shiftreg audit verify. Put the tag back as it was, from a backup of the database."
    )
