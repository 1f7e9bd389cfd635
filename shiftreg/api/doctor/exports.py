"""Are the exported files what was registered, and does the audit trail know them?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from shiftreg.api.doctor.findings import Finding, damage, unreadable
from shiftreg.api.workspace import deleted_versions
from shiftreg.audit import AuditEvent
from shiftreg.checkpoints import checkpoint_digest, file_digest, recipe_path_of
from shiftreg.errors import ShiftregError
from shiftreg.registry import CompositionVersion, Registry, ShiftVersion
from shiftreg.registry.examination import Examined
from shiftreg.release import sidecar_files


def export_findings(
    registry: Registry,
    entries: Sequence[Examined[CompositionVersion]],
    versions: Sequence[Examined[ShiftVersion]],
    own: Sequence[AuditEvent],
) -> Iterator[Finding]:
    """Examines every composition of a base, and the files here, by the base's own events."""
    shifts = {(e.record.concept, e.record.version): e for e in versions if e.record}
    known, forgotten = match_exports([e.record for e in entries if e.record], own)
    newest: dict[str, CompositionVersion] = {}
    for entry in entries:
        if (composition := entry.record) is None:
            yield unreadable(entry)
            continue
        subject = _name(composition)
        yield from _parts(composition, shifts, own)
        if not registry.examination.is_run_kept(composition.run_id):
            yield damage(
                subject,
                "Its run was deleted in MLflow, and a cleanup there would take its files.",
                f"Restore the run {composition.run_id} in MLflow.",
            )
        if composition.export_path:
            newest[composition.export_path] = composition
        event = known.get(composition.version)
        if event is None:
            yield damage(
                subject,
                "The audit trail does not know this export: it was registered past shiftreg, or "
                "the trail was cut.",
                "Compare the trail with a checkpoint of it: shiftreg audit verify. If the export "
                "is yours, say so: shiftreg doctor --repair",
            )
        elif event.digests.get("record", composition.record_digest) != composition.record_digest:
            yield damage(
                subject,
                "Its record in MLflow was edited since it was registered.",
                "Undo the change of its tags in MLflow.",
            )
    for event in forgotten:
        yield damage(
            str(event.details.get("path", event.digests["export"][:12])),
            f"The audit trail says that it was exported (event {event.sequence}), and the registry "
            "does not know it: its record was deleted.",
            "Restore the registry from a backup.",
        )
    # A file that was overwritten belongs to its last export alone.
    for composition in newest.values():
        yield from _file(composition)
        if (event := known.get(composition.version)) and Path(composition.export_path).exists():
            yield from _papers(Path(composition.export_path), event)


def match_exports(
    compositions: Sequence[CompositionVersion], own: Sequence[AuditEvent]
) -> tuple[dict[int, AuditEvent], tuple[AuditEvent, ...]]:
    """Which event is of which composition: the same content may be exported more than once.

    Returns:
        Number of a composition -> the event that has its record, or else one that only has its
        digest: then the record was edited. And the events of which no composition is left.
    """
    deleted = {e.digests["record"] for e in own if e.action == "delete"}
    left = [
        event
        for event in own
        if event.action == "export"
        and "export" in event.digests
        and event.digests.get("record") not in deleted
    ]
    matched: dict[int, AuditEvent] = {}
    for name, value in (("record", "record_digest"), ("export", "export_digest")):
        for composition in compositions:
            found = (e for e in left if e.digests.get(name) == getattr(composition, value))
            if composition.version not in matched and (event := next(found, None)):
                matched[composition.version] = event
                left.remove(event)
    return matched, tuple(left)


def _parts(
    composition: CompositionVersion,
    shifts: dict[tuple[str, int], Examined[ShiftVersion]],
    own: Sequence[AuditEvent],
) -> Iterator[Finding]:
    deleted = deleted_versions(own, composition.base)
    for concept, number, digest in composition.shifts:
        entry = shifts.get((concept, number))
        if entry is None and number in deleted.get(concept, ()):
            yield Finding(
                "note",
                _name(composition),
                f"It holds shift {digest[:12]}, {concept}@{number}, which was deleted.",
                "Nothing; but it can no longer be verified. Export again without it.",
            )
        elif entry is None or entry.record is None or entry.record.digest != digest:
            yield damage(
                _name(composition),
                f"It holds shift {digest[:12]} as {concept}@{number}, which the registry no longer "
                "has.",
                "Restore the registry from a backup; until then the file cannot be verified.",
            )


def _file(composition: CompositionVersion) -> Iterator[Finding]:
    path = Path(composition.export_path)
    if not path.exists():
        yield Finding(
            "note",
            str(path),
            "The exported file is not on this machine (any more).",
            "Nothing, if it was moved or deleted on purpose.",
        )
        return
    again = "Do not use it; export again: shiftreg compose --export --force"
    try:
        digest = checkpoint_digest(path)
    except (ShiftregError, OSError) as error:
        yield damage(str(path), f"It cannot be read: {error}", again)
        return
    if digest != composition.export_digest:
        yield damage(
            str(path),
            f"Its digest is {digest[:12]}, and {composition.export_digest[:12]} was exported: it "
            "was changed or replaced.",
            again,
        )
    recipe = recipe_path_of(path)
    if not recipe.is_file() or file_digest(recipe) != composition.recipe_digest:
        yield damage(
            str(recipe),
            "The recipe beside the export is missing or was changed.",
            f"Take it from run {composition.run_id} in MLflow, or export again.",
        )


def _papers(target: Path, event: AuditEvent) -> Iterator[Finding]:
    """Are card, signature, attestation and bill those that appeared with the file?"""
    for word, path in sidecar_files(target).items():
        digest = event.digests.get(word)
        if digest is None:
            continue
        try:
            found = file_digest(path) if path.exists() else ""
        except OSError as error:
            found = f"unreadable: {error.strerror or error}"
        if found != digest:
            yield damage(
                str(path),
                f"The {word} beside the export {'was changed' if found else 'is gone'}: event "
                f"{event.sequence} of the audit trail has its digest, {digest[:12]}.",
                "Put it back from a backup or from the export's run in MLflow, or export again.",
            )


def _name(composition: CompositionVersion) -> str:
    return composition.export_path or f"composition {composition.version}"
