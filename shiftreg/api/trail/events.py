"""The events of the audit trail: asking for them, checking them, and a checkpoint to keep."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time
from pathlib import Path

from shiftreg.api.workspace import Workspace
from shiftreg.audit import AuditEvent, AuditReport, Checkpoint, PublicKeys
from shiftreg.concepts import normalised
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError

SHORTEST_DIGEST = 8
COLUMNS = (
    "sequence", "time", "actor", "host", "action", "base", "concepts", "reason", "request",
    "licence", "digests", "digest", "previous", "key",
)  # fmt: skip


def list_events(
    workspace: Workspace,
    *,
    concept: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    since: str | None = None,
    until: str | None = None,
    export: str | None = None,
) -> tuple[AuditEvent, ...]:
    """The events that fulfil all conditions, oldest first, of all bases.

    Args:
        concept: Name of a concept that they are about; case does not matter.
        action: What was done: "erase", "export", ...
        since: A date or time, ISO 8601; UTC where it names no zone.
        until: Likewise; a date includes that day.
        export: An exported file, or the first 8 or more digits of a digest.

    Raises:
        NotFoundError: No event and no concept has this name, or the file does not exist.
        InvalidInputError: Not a time.
        IntegrityError: An entry of the trail is not an event.
    """
    events = workspace.audit.events()
    earliest = _moment(since, "--since", time.min) if since else None
    latest = _moment(until, "--until", time.max) if until else None
    digests = _digest_of(events, export) if export else None
    if concept is not None and not any(is_about(event, concept) for event in events):
        concept = workspace.find(concept)
    return tuple(
        event
        for event in events
        if (concept is None or is_about(event, concept))
        and (actor is None or event.actor.casefold() == actor.casefold())
        and (action is None or event.action.casefold() == action.casefold())
        and (earliest is None or datetime.fromisoformat(event.time) >= earliest)
        and (latest is None or datetime.fromisoformat(event.time) <= latest)
        and (digests is None or any(d.startswith(digests) for d in event.digests.values()))
    )


def events_csv(events: Iterable[AuditEvent]) -> str:
    """Events as a table for spreadsheets: a line each, after one of names.

    A cell that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for event in events:
        values = vars(event) | {
            "concepts": "; ".join(event.concepts),
            "digests": "; ".join(f"{word} {digest}" for word, digest in event.digests.items()),
        }
        writer.writerow([_harmless(values[name]) for name in COLUMNS])
    return text.getvalue()


def is_about(event: AuditEvent, concept: str) -> bool:
    """Whether something was done to a concept, or a file was exported in which it generates."""
    states = event.details.get("states")
    names = (*event.concepts, *(states if isinstance(states, Mapping) else ()))
    return normalised(concept) in map(normalised, names)


def _moment(text: str, option: str, end: time) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(
            f"{option} takes a date or time such as 2026-11-24 or 2026-11-24T18:30, not '{text}'."
        ) from error
    if len(text) <= len("2026-11-24"):
        moment = datetime.combine(moment.date(), end)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _digest_of(events: tuple[AuditEvent, ...], export: str) -> str:
    """The digest that an export is known by, or the beginning of one."""
    from shiftreg import checkpoints

    path = Path(export)
    if path.exists():
        return checkpoints.checkpoint_digest(path)
    if len(export) >= SHORTEST_DIGEST and set(export.lower()) <= set("0123456789abcdef"):
        return export.lower()
    written = {str(path), str(path.absolute())}
    for event in reversed(events):  # a file that is gone may still be named by its path
        if event.digests.get("export") and str(event.details.get("path", "")) in written:
            return event.digests["export"]
    raise NotFoundError(
        f"There is no file '{export}', and no event of one. Give a file, or {SHORTEST_DIGEST} or "
        "more digits of a digest."
    )


def _harmless(value: object) -> object:
    return f"'{value}" if str(value)[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


DIGEST = re.compile("[0-9a-f]{64}")


def verify_trail(
    workspace: Workspace,
    *,
    head: str | None = None,
    checkpoint: Path | None = None,
    keys: Sequence[Path] = (),
    all_signed: bool = False,
) -> AuditReport:
    """Checks every event of the audit trail, and that each continues the one before.

    Args:
        head: Digest of an event that was noted earlier, and must still be there.
        checkpoint: A file that :func:`write_checkpoint` made, of which the trail must be a
            continuation.
        keys: Public keys to check signatures with; those of the project's settings by default.
        all_signed: Whether an event that none of the keys vouches for is a problem.

    Raises:
        NotFoundError: The checkpoint or a key does not exist.
        InvalidInputError: The head is not a digest, or all events are to be signed and no key is
            known.
        IntegrityError: The file is not a checkpoint.
    """
    if head is not None and not DIGEST.fullmatch(head):
        raise InvalidInputError(
            f"A head is a whole digest of 64 hexadecimal digits, and '{head}' is not."
        )
    given = tuple(keys) or tuple(filter(None, [workspace.settings.verifying_key]))
    if all_signed and not given:
        raise InvalidInputError(
            "Signatures are checked with public keys, and none is known. Give --key FILE, or "
            "verifying_key in shiftreg.toml."
        )
    return workspace.audit.verify(
        head,
        checkpoint=_read_checkpoint(checkpoint) if checkpoint else None,
        keys=PublicKeys.load(given) if given else None,
        all_signed=all_signed,
    )


def write_checkpoint(workspace: Workspace, path: Path, *, overwrite: bool = False) -> Checkpoint:
    """Writes the head of the trail to a file, signed if there is a signing key.

    Args:
        path: Of the file; to be kept where who writes the trail cannot write.

    Raises:
        AlreadyExistsError: The file exists.
        InvalidInputError: The trail has no events.
        IntegrityError: The trail is damaged.
    """
    from shiftreg import checkpoints

    checkpoint = workspace.audit.checkpoint()
    with checkpoints.atomic_file(path, overwrite=overwrite) as partial:
        partial.write_text(checkpoint.to_json(), encoding="utf-8")
    return checkpoint


def _read_checkpoint(path: Path) -> Checkpoint:
    try:
        return Checkpoint.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no checkpoint '{path}'. Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"The checkpoint '{path}' cannot be read: {error}.") from error
