"""Are the bases what they were registered as?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shiftreg.api.base_at_hand import base_folder
from shiftreg.api.doctor.findings import Finding
from shiftreg.audit import AuditEvent
from shiftreg.checkpoints import folder_digest
from shiftreg.errors import NotFoundError, ShiftregError
from shiftreg.registry import BaseRecord


def base_findings(base: BaseRecord, own: Sequence[AuditEvent]) -> Iterator[Finding]:
    """Examines one base: its weights on this machine, and its record.

    Args:
        base: Its record.
        own: What the audit trail says of it.
    """
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
    elif told[-1].digests.get("record", base.seal) != base.seal:
        yield Finding(
            "damage",
            subject,
            f"Its record was edited since it was registered (event {told[-1].sequence}).",
            "Register it again: shiftreg init",
        )
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
