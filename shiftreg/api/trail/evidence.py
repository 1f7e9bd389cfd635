"""Evidence about one concept as one page: for a rights-holder, or an auditor."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shiftreg import __version__, checkpoints
from shiftreg.api.changes import appearing, change
from shiftreg.api.trail.events import is_about, verify_trail
from shiftreg.api.trail.exports import ConceptExports, exports_of
from shiftreg.api.trail.stored_checks import VerificationLine, attack_parts, verification_lines
from shiftreg.api.values import Observer, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.attacks.results import AttackReport
from shiftreg.audit import AuditEvent, AuditReport
from shiftreg.registry import BaseRecord, ShiftVersion
from shiftreg.reports import EmbeddedImage, Note, embed_image, render_evidence
from shiftreg.reports.numbers import moment

LONGEST_SIDE = 1400
SENTENCES = {
    "erase": "It was erased",
    "activate": "It was erased again, with a stored shift",
    "refresh": "Its shift was made to protect what had been registered since",
    "import": "A shift that another tool had made was registered",
    "decouple": "Its shift was made separable",
    "restore": "It was restored: it generates again",
    "delete": "A version of its shift, or a record of an export, was deleted",
    "export": "A model without it was exported",
    "verify": "A model without it was verified",
    "attack": "Attacks tried to bring it back",
    "evaluate": "A model without it was evaluated",
    "report": "A report on a model without it was written",
    "evidence": "A page of evidence was written",
}


@dataclass(frozen=True)
class ErasurePart:
    """One version of the shift that erases the concept.

    Attributes:
        version: As it is registered.
        samples: Same-seed images without and with it, or None.
    """

    version: ShiftVersion
    actor: str
    reason: str
    request: str
    samples: EmbeddedImage | None


@dataclass(frozen=True)
class EvidencePage:
    """Everything on the page.

    Attributes:
        tool: Name and version of what made it.
        exports: Where the concept is erased now, and in which exported files.
        story: What happened, a sentence each, oldest first.
        verifications: Oldest first.
        attacks: The latest one on each composition.
        report: The check of the whole trail.
        head: Digest of the trail's last event, "" if the trail is damaged.
    """

    created: str
    tool: str
    base: BaseRecord
    exports: ConceptExports
    story: tuple[tuple[str, str], ...]
    erasures: tuple[ErasurePart, ...]
    verifications: tuple[VerificationLine, ...]
    attacks: tuple[AttackReport, ...]
    notes: tuple[Note, ...]
    events: tuple[AuditEvent, ...]
    report: AuditReport
    head: str


@dataclass(frozen=True)
class EvidenceResult:
    """A page that was written.

    Attributes:
        digest: SHA-256 of the page.
        events: How many events it shows.
        head: Digest of the trail's last event when it was written, "" if the trail is damaged.
        problems: What the check of the trail found.
    """

    concept: str
    path: Path
    digest: str
    events: int
    releases: int
    head: str
    problems: tuple[str, ...]


def write_evidence(
    workspace: Workspace,
    concept: str,
    path: Path,
    *,
    look: bool = True,
    overwrite: bool = False,
    observe: Observer = ignore_progress,
) -> EvidenceResult:
    """Writes all that is on record about one concept as one HTML file.

    Args:
        look: Whether to compare exported files with their digests; see ``exports_of``.

    Raises:
        NotFoundError: Unknown concept.
        AlreadyExistsError: The page exists.
        StorageError: The disk is full or read-only.
    """
    from shiftreg import checkpoints

    # Written ahead before the page appears, and recorded after it.
    with ExitStack() as stack, checkpoints.atomic_file(path, overwrite=overwrite) as partial:
        exports = exports_of(workspace, concept, look=look, observe=observe)
        page = _page(workspace, exports)
        partial.write_text(render_evidence(page), encoding="utf-8")
        digest = checkpoints.file_digest(partial)
        if page.report.valid:  # nothing can continue a damaged trail, and the page says that it is
            coming = change(
                workspace,
                "evidence",
                base=exports.base,
                concepts=(exports.concept,),
                digests={"base": page.base.digest, "page": digest, "head": page.report.head},
                details={"path": str(path.absolute())},
                recovery=appearing(path, "page", partial),
            )
            stack.enter_context(coming)
    return EvidenceResult(
        concept=exports.concept,
        path=path,
        digest=digest,
        events=len(page.events),
        releases=len(exports.exports),
        head=page.head,
        problems=page.report.problems,
    )


def _page(workspace: Workspace, exports: ConceptExports) -> EvidencePage:
    name = exports.concept
    report, events = _trail(workspace, name)
    verifications, missing_verifications = verification_lines(workspace, name)
    attacks, missing_attacks = attack_parts(workspace, name)
    return EvidencePage(
        created=moment(datetime.now(UTC).isoformat()),
        tool=f"shiftreg {__version__}",
        base=workspace.base,
        exports=exports,
        story=tuple((moment(event.time), _sentence(event, name)) for event in events),
        erasures=tuple(_erasure(workspace, v, events) for v in workspace.versions(name)),
        verifications=verifications,
        attacks=attacks,
        notes=missing_verifications + missing_attacks,
        events=events,
        report=report,
        head=report.head if report.valid and report.count else "",
    )


def _trail(workspace: Workspace, concept: str) -> tuple[AuditReport, tuple[AuditEvent, ...]]:
    """The check of the whole trail, and the events about the concept on this base."""
    report = verify_trail(workspace)
    base, events = workspace.base.name, workspace.audit.readable_events()
    return report, tuple(e for e in events if e.base == base and is_about(e, concept))


def _sentence(event: AuditEvent, concept: str) -> str:
    """An event as a sentence: what, by whom, on which reference, why."""
    what = SENTENCES.get(event.action, event.action.capitalize())
    if event.action == "export" and concept not in event.concepts:
        what = "A model that generates it was exported"
    parts = [f"{what}, by {event.actor}"]
    if path := event.details.get("path"):
        parts.append(f"as {Path(str(path)).name}")
    if "passed" in event.details:
        parts.append("all checks passed" if event.details["passed"] else "checks FAILED")
    parts += [f"request {event.request}"] if event.request else []
    parts += [f"licence {event.licence}"] if event.licence else []
    return "; ".join(parts) + (f": {event.reason}" if event.reason else ".")


def _erasure(
    workspace: Workspace, version: ShiftVersion, events: Sequence[AuditEvent]
) -> ErasurePart:
    # The first event that names a shift is the one that made it.
    made = next((e for e in events if e.digests.get("shift") == version.digest), None)
    return ErasurePart(
        version=version,
        actor=version.actor or (made.actor if made else ""),
        reason=version.reason or (made.reason if made else ""),
        request=made.request if made else "",
        samples=_samples(workspace, version, events),
    )


def _samples(
    workspace: Workspace, version: ShiftVersion, events: Sequence[AuditEvent]
) -> EmbeddedImage | None:
    """The kept image of what a version does, if it is one that the trail knows."""
    import numpy as np
    from PIL import Image

    path = workspace.registry.shifts.download_samples(version)
    known = {e.digests.get("samples") for e in events if e.digests.get("shift") == version.digest}
    if path is None or checkpoints.file_digest(path) not in known:
        return None
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None  # who changed the image must not keep the page from being made
    words = (
        f"Prompts about {version.concept}, generated without the shift of version "
        f"{version.version} and with it"
    )
    return embed_image(pixels, words, LONGEST_SIDE)
