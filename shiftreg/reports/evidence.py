"""The evidence page about one concept: plain values in, one self-contained HTML document out."""

from __future__ import annotations

from dataclasses import dataclass

from shiftreg.checks import Check
from shiftreg.reports.attacked import AttackPart
from shiftreg.reports.drawing import EmbeddedImage
from shiftreg.reports.page import Note
from shiftreg.reports.templating import page_template


@dataclass(frozen=True)
class EvidenceEvent:
    """One event of the trail, with all that binds it.

    Attributes:
        sequence: Its number.
        time: UTC.
        actor: Who.
        host: On which machine.
        action: What.
        reason: Why.
        request: Reference of the request, "" if none.
        licence: Reference of the licence, "" if none.
        digests: A word -> SHA-256, in pairs.
        digest: The event's.
        previous: Digest of the event before it.
        key: Of its signature, "" if it is not signed.
        line: As it is stored.
    """

    sequence: int
    time: str
    actor: str
    host: str
    action: str
    reason: str
    request: str
    licence: str
    digests: tuple[tuple[str, str], ...]
    digest: str
    previous: str
    key: str
    line: str


@dataclass(frozen=True)
class ErasurePart:
    """One version of the shift that erases the concept.

    Attributes:
        version: Its number.
        method: Name of the eraser.
        created: UTC.
        actor: Who made it.
        reason: Why.
        request: Reference of the request.
        active: Whether the default composition applies it.
        digest: Of the shift.
        file_digest: Of its file.
        base_digest: Of the base that it belongs to.
        predecessor: Digest of the version that it replaces, "" if none.
        aliases: Erased with it.
        protected: How many prompts it leaves exactly as they are.
        samples: Same-seed images without and with it, or None.
    """

    version: int
    method: str
    created: str
    actor: str
    reason: str
    request: str
    active: bool
    digest: str
    file_digest: str
    base_digest: str
    predecessor: str
    aliases: tuple[str, ...]
    protected: int
    samples: EmbeddedImage | None


@dataclass(frozen=True)
class VerificationLine:
    """One stored verification.

    Attributes:
        created: UTC.
        composition: Digest of what was verified.
        export: Digest of the file that was verified, "" if none was.
        state: The concept's in it: "erased" or "generates".
        passed: Whether all checks held.
        report_digest: SHA-256 of the stored report.
        checks: Those about the concept.
    """

    created: str
    composition: str
    export: str
    state: str
    passed: bool
    report_digest: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class ReleaseLine:
    """One exported file, and what it does to the concept."""

    name: str
    words: str
    state: str
    created: str
    actor: str
    digest: str
    composition: str
    file: str


@dataclass(frozen=True)
class EvidencePage:
    """Everything on the page.

    Attributes:
        created: UTC.
        tool: Name and version of what made it.
        base: Name of the base.
        base_digest: Its digest.
        concept: Name of the concept.
        now: What the default composition does with it, in words.
        requests: References of requests, in order.
        licences: References of licences, in order.
        story: What happened, a sentence each, oldest first.
        erasures: Versions of the shift.
        verifications: Oldest first.
        attacks: The latest one on each composition.
        notes: What to say where something is not on record.
        releases: Exported files, oldest first.
        restorations: Events that made it generate again.
        events: The events about the concept.
        chain: Whether the whole trail holds, in words.
        holds: Whether it does.
        head: Digest of the trail's last event.
        origin: Digest of its first event.
        count: How many events it has.
        remarks: What else the check of the trail said.
    """

    created: str
    tool: str
    base: str
    base_digest: str
    concept: str
    now: str
    requests: tuple[str, ...]
    licences: tuple[str, ...]
    story: tuple[tuple[str, str], ...]
    erasures: tuple[ErasurePart, ...]
    verifications: tuple[VerificationLine, ...]
    attacks: tuple[AttackPart, ...]
    notes: tuple[Note, ...]
    releases: tuple[ReleaseLine, ...]
    restorations: tuple[EvidenceEvent, ...]
    events: tuple[EvidenceEvent, ...]
    chain: str
    holds: bool
    head: str
    origin: str
    count: int
    remarks: tuple[str, ...]


def render_evidence(page: EvidencePage) -> str:
    """Writes the page as HTML that asks nothing of the network and runs no script."""
    return page_template("evidence.html.j2").render(page=page)
