"""Do exports say of their last verification what the audit trail says?

An export's record is sealed but for this: it changes with every verification of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shiftreg.api.doctor.findings import Finding
from shiftreg.api.trail.measurements import told
from shiftreg.audit import AuditEvent
from shiftreg.registry import CompositionVersion
from shiftreg.registry.examination import Entry
from shiftreg.registry.measurements import mark_of
from shiftreg.registry.records import Measurement


def mark_findings(
    entries: Sequence[Entry[CompositionVersion]],
    verifications: Sequence[Measurement],
    own: Sequence[AuditEvent],
) -> Iterator[Finding]:
    """Examines the outcome of the last verification, as every export of a base says it.

    Args:
        entries: The exports.
        verifications: The stored ones of the base.
        own: What the audit trail says of the base.
    """
    for entry in entries:
        if (composition := entry.record) is None:
            continue
        if problem := _problem(composition, verifications, own):
            yield Finding(
                "damage",
                composition.export_path or f"composition {composition.version}",
                f"{problem}: its tag shiftreg.verification was edited.",
                "Undo the change in MLflow, or verify the file again: shiftreg verify FILE",
            )


def _problem(
    composition: CompositionVersion,
    verifications: Sequence[Measurement],
    own: Sequence[AuditEvent],
) -> str:
    mark, export = composition.verification, composition.export_digest
    events = [
        event
        for event in told(own, composition.base, "verification")
        if export and event.digests.get("export") == export
    ]
    if not events:
        return "It claims a verification that the audit trail does not know" if mark else ""
    last = events[-1]
    if not mark:
        # The same content may have been verified before it was exported to this place.
        exported = [e.sequence for e in own if e.digests.get("record") == composition.record_digest]
        is_later = bool(exported) and last.sequence > min(exported)
        return f"It lacks its verification, event {last.sequence}" if is_later else ""
    passed = last.details.get("passed")
    stored = [one for one in verifications if one.report_digest == last.digests["report"]]
    expected = [mark_of(one) | {"passed": passed} for one in stored]
    # Where the run itself is gone, that is said of the run.
    is_same = mark in expected if expected else mark.get("passed") == passed
    return "" if is_same else f"It says something else than its verification, event {last.sequence}"
