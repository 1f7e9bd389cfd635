"""What the use cases work in: settings, registry, audit trail, loaded base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from shiftreg import miniature
from shiftreg.api.loaded_base import LoadedBase
from shiftreg.audit import AuditEvent, AuditLog, WriteAheadLog
from shiftreg.concepts import find_name, normalised
from shiftreg.errors import IntegrityError, NotFoundError
from shiftreg.registry import BaseRecord, Registry, ShiftVersion
from shiftreg.settings import Settings

if TYPE_CHECKING:
    from shiftreg.shift import ConceptShift

DELETE = "delete"
"""The action of the event of a deletion."""
MADE = ("erase", "refresh", "import", "decouple")
"""Actions whose event says that a version was made."""


@dataclass
class Workspace(LoadedBase):
    """Settings with what they open; the base is loaded when it is first needed.

    Attributes:
        reading: Whether nothing is changed here: then the miniature is not registered either.
    """

    settings: Settings
    registry: Registry
    audit: AuditLog
    write_ahead: WriteAheadLog
    register_miniature: Callable[[Workspace], BaseRecord]
    reading: bool = False
    _shifts: dict[str, ConceptShift] = field(default_factory=dict)

    @cached_property
    def base(self) -> BaseRecord:
        """The base that commands work on; the miniature registers itself at its first change.

        Raises:
            NotFoundError: No such base.
        """
        try:
            return self.registry.bases.read(self.settings.base)
        except NotFoundError:
            if self.settings.base != miniature.NAME:
                raise
        return self.register_miniature(self)

    def known_names(self) -> tuple[str, ...]:
        """Every concept that has a shift or that the base protects, in that order."""
        names = (*self.registry.shifts.concepts(self.base.name), *self.base.protected)
        return tuple(dict.fromkeys(names))

    def find(self, name: str) -> str:
        """The registered spelling of a concept's name.

        Raises:
            NotFoundError: Unknown concept, with a suggestion.
        """
        try:
            return find_name(name, self.known_names(), self.base.name)
        except NotFoundError:
            # A concept whose versions were all deleted still has a history to show.
            for deleted in self.deleted_versions():
                if normalised(deleted) == normalised(name):
                    return deleted
            raise

    def shift(self, version: ShiftVersion) -> ConceptShift:
        """Loads the shift of a version, its content checked against the registered digest.

        Raises:
            IntegrityError: The stored file is not the one that was registered.
        """
        from shiftreg.checkpoints import load_shift

        if version.digest not in self._shifts:
            shift = load_shift(self.registry.shifts.download(version))
            if shift.digest != version.digest:
                raise IntegrityError(
                    f"The stored shift of '{version.concept}' version {version.version} has digest "
                    f"{shift.digest[:12]}, and {version.digest[:12]} was registered. It was "
                    f"replaced: erase '{version.concept}' again."
                )
            self._shifts[version.digest] = shift
        return self._shifts[version.digest]

    def versions(self, concept: str) -> list[ShiftVersion]:
        """All versions of a known concept, oldest first; none if it was never erased."""
        if concept not in self.registry.shifts.concepts(self.base.name):
            return []
        return self.registry.shifts.versions(self.base.name, concept)

    def shift_of(self, concept: str, version: int) -> ConceptShift:
        """Loads the shift of a concept's version."""
        return self.shift(self.registry.shifts.version(self.base.name, concept, str(version)))

    def deleted_versions(self) -> dict[str, tuple[int, ...]]:
        """Concept -> numbers of its deleted versions, in the order of their deletion.

        None where the audit trail cannot be read: that must not hide the registry.
        """
        return deleted_versions(self.audit.readable_events(), self.base.name)

    def require_agreement(self) -> None:
        """Refuses to release anything by a registry that has other active versions than the trail.

        Raises:
            IntegrityError: They disagree, or the trail is damaged.
        """
        differing = self._differing()
        if differing and not self.reading:
            with self.registry.lock():  # somebody may be between a change and its event
                differing = self._differing()
        if differing:
            name = min(differing)
            now, then = (
                f"version {one[0]} ({one[1][:12]})" if one else "no version"
                for one in differing[name]
            )
            others = f" (and so on, {len(differing)} concepts)" if len(differing) > 1 else ""
            raise IntegrityError(
                f"Of '{name}' {now} is active in the registry of base '{self.base.name}', and "
                f"{then} by the audit trail{others}: one of the two was changed or lost. "
                "See: shiftreg doctor"
            )

    def _differing(self) -> dict[str, tuple[ActiveVersion, ActiveVersion]]:
        """Concept -> what is active in the registry and by the audit trail, where they differ."""
        base = self.base.name
        now: Mapping[str, ActiveVersion] = {
            version.concept: (version.version, version.digest)
            for version in self.registry.shifts.active(base)
        }
        then = active_versions(event for event in self.audit.events() if event.base == base)
        both = {name: (now.get(name), then.get(name)) for name in {*now, *then}}
        return {name: (one, other) for name, (one, other) in both.items() if one != other}


ActiveVersion = tuple[int, str] | None
"""Number and digest of a concept's active version; None if none is active."""


def active_versions(own: Iterable[AuditEvent]) -> dict[str, ActiveVersion]:
    """What is active by the audit trail, of every concept that something was done to.

    Args:
        own: Events of one base.
    """
    last: dict[str, ActiveVersion] = {}
    for event in own:
        if event.action in (*MADE, "activate") and event.details.get("active", True):
            made = (event.details.get("version", 0), event.digests.get("shift", ""))
            last |= dict.fromkeys(event.concepts, made)
        elif event.action == "restore" or (event.action == DELETE and event.details.get("active")):
            last |= dict.fromkeys(event.concepts)
    return last


def deleted_versions(events: Iterable[AuditEvent], base: str) -> dict[str, tuple[int, ...]]:
    """The versions of shifts that were deleted, by the audit trail.

    Args:
        events: All of the trail.

    Returns:
        Name of a concept -> numbers, in the order of their deletion.
    """
    found: dict[str, tuple[int, ...]] = {}
    for event in events:
        if event.action == DELETE and event.base == base and "shift" in event.digests:
            (name,) = event.concepts
            found[name] = (*found.get(name, ()), int(event.details["version"]))
    return found
