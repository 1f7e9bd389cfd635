"""Are the bases what they were registered as?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from shiftreg.api.doctor.findings import Finding
from shiftreg.api.loaded_base import base_folder
from shiftreg.audit import AuditEvent
from shiftreg.checkpoints import folder_digest
from shiftreg.errors import NotFoundError, ShiftregError
from shiftreg.registry import BaseRecord, Registry
from shiftreg.registry.examination import Entry


def base_findings(
    registry: Registry, entry: Entry[BaseRecord], own: Sequence[AuditEvent]
) -> Iterator[Finding]:
    """Examines one base: its weights on this machine, and its record.

    Args:
        registry: Where it is.
        entry: Its record, as far as it can be read.
        own: What the audit trail says of it.
    """
    subject = f"base {entry.name}"
    run = registry.examination.base_run(entry.name)
    if not registry.examination.is_run_kept(run):
        yield Finding(
            "damage",
            subject,
            "The run with its record was deleted in MLflow, and a cleanup there would take it.",
            f"Restore the run {run} in MLflow, or register the base again: shiftreg init",
        )
    if (base := entry.record) is None:
        yield Finding(
            "damage",
            subject,
            entry.problem,
            "Put its record back from a backup, or register the base again with the same options: "
            "shiftreg init",
        )
        return
    yield from _story(base, own)
    yield from _weights(base)


def lost_bases(names: Collection[str], events: Sequence[AuditEvent]) -> Iterator[Finding]:
    """Names the bases that the audit trail tells of and that the registry does not have.

    Args:
        names: Of the registered bases.
        events: What the audit trail says.
    """
    # Others may name a base in passing, as the settings do.
    told = {event.base: event for event in events if event.action == "init" and event.base}
    for name in sorted(told.keys() - set(names)):
        yield Finding(
            "damage",
            f"base {name}",
            f"The audit trail says that it was registered (event {told[name].sequence}), and the "
            "registry has no record of it: its experiment was deleted or changed in MLflow. None "
            "of its shifts and exports can be examined.",
            f"Restore the experiment '{name}' and its tags in MLflow, or the registry from a "
            "backup.",
        )


def _story(base: BaseRecord, own: Sequence[AuditEvent]) -> Iterator[Finding]:
    subject = f"base {base.name}"
    told = [event for event in own if event.action == "init"]
    if not told:
        yield Finding(
            "damage",
            subject,
            "The audit trail does not know it: it was registered past shiftreg, or the trail was "
            "cut.",
            "Compare the trail with a checkpoint of it: shiftreg audit verify. If the base is "
            "yours, register it again: shiftreg init",
        )
    elif told[-1].digests.get("record", base.record_digest) != base.record_digest:
        yield Finding(
            "damage",
            subject,
            f"Its record was edited since it was registered (event {told[-1].sequence}).",
            "Register it again: shiftreg init",
        )


def _weights(base: BaseRecord) -> Iterator[Finding]:
    subject = f"base {base.name}"
    try:
        folder = base_folder(base.source)
        digest = folder_digest(folder)
    except NotFoundError as error:
        yield Finding(
            "note",
            subject,
            f"Its weights are not on this machine: {error}",
            f"Put them back to '{base.source}' to erase, compose or verify here.",
        )
        return
    except ShiftregError as error:
        yield Finding("damage", subject, str(error), "Put the whole folder back from a backup.")
        return
    if digest != base.digest:
        yield Finding(
            "damage",
            subject,
            f"The weights in '{folder}' have digest {digest[:12]}, and {base.digest[:12]} was "
            "registered: they were changed.",
            "Put the folder back from a backup, or register the changed one under another name.",
        )
