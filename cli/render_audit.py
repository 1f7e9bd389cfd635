"""The audit trail, and where shifts are, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from .console import safe
from .render import make_table, pairs, short, warnings

if TYPE_CHECKING:
    from shiftreg.api import AuditEvent, AuditReport, Checkpoint
    from shiftreg.api.trail.evidence import EvidenceResult
    from shiftreg.api.trail.whereabouts import Whereabouts

FILE_STYLES = {"unchanged": "green", "changed": "bold red", "missing": "red"}
STATE_STYLES = {"erased": "yellow", "generates": "green"}


def timeline(events: Sequence[AuditEvent]) -> RenderableType:
    """Events, a row each."""
    if not events:
        return Text("No events.")
    table = make_table("Event", "When", "Who", "What", "Concepts", "Why", "Digest")
    for event in events:
        references = [
            f"{word} {text}"
            for word, text in (("request", event.request), ("licence", event.licence))
            if text
        ]
        table.add_row(
            str(event.sequence),
            safe(event.time[:19].replace("T", " ")),
            safe(event.actor),
            safe(event.action),
            safe(", ".join(event.concepts)),
            safe("; ".join([*references, *filter(None, [event.reason])])),
            short(event.digest),
        )
    return table


def report(found: AuditReport) -> RenderableType:
    """What a verification of the trail found."""
    parts: list[RenderableType] = [Text(safe(one), style="red") for one in found.problems]
    parts += warnings(found.notes)
    verdict = "The trail holds" if found.valid else "The trail is DAMAGED"
    verdict += f": {found.count} event{'s'[: found.count != 1]}"
    parts.append(Text(verdict, style="bold green" if found.valid else "bold red"))
    parts.append(pairs({"head": found.head if found.valid and found.count else ""}))
    return Group(*parts)


def checkpoint(made: Checkpoint, file: Path) -> RenderableType:
    """A checkpoint that was written."""
    return pairs(
        {
            "written": file,
            "event": made.sequence,
            "head": made.head,
            "signed by": made.key or "nobody: there is no signing key",
        }
    )


def whereabouts(found: Whereabouts) -> RenderableType:
    """The exports that contain or lack a concept's shift, a row each."""
    now = Text(safe(f"{found.concept}: {found.now} in the default composition"))
    if not found.places:
        return Group(now, Text("No export is on record."))
    table = make_table("Concept", "In words", "Written", "Who", "File", "Path", "Digest")
    for place in found.places:
        table.add_row(
            Text(safe(place.state), style=STATE_STYLES.get(place.state, "")),
            safe(place.words),
            safe(place.created[:19].replace("T", " ")),
            safe(place.actor),
            Text(
                f"on {safe(place.host)}" if place.file == "elsewhere" else safe(place.file),
                style=FILE_STYLES.get(place.file, ""),
            ),
            safe(place.path),
            short(place.digest),
        )
    silent = [place.name for place in found.places if not place.in_trail]
    remarks = [f"The audit trail has no event of {', '.join(silent)}."] if silent else []
    return Group(now, table, *warnings(remarks))


def evidence(result: EvidenceResult) -> RenderableType:
    """A page that was written."""
    damage = [f"The audit trail is damaged, and the page says so: {p}" for p in result.problems]
    return Group(
        pairs(
            {
                "written": result.path,
                "about": result.concept,
                "events": result.events,
                "releases": result.releases,
                "digest": result.digest,
                "head": result.head,
            }
        ),
        *warnings(damage),
    )
