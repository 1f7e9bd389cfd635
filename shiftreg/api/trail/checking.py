"""Whether the audit trail holds, and its head for others to keep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from shiftreg.api.workspace import Workspace
from shiftreg.audit import AuditReport, Checkpoint, PublicKeys
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError

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
        workspace: Where.
        head: Digest of an event that was noted earlier, and must still be there.
        checkpoint: A file that :func:`write_checkpoint` made, of which the trail must be a
            continuation.
        keys: Public keys to check signatures with; those of the project's settings by default.
        all_signed: Whether an event that none of the keys vouches for is a problem.

    Raises:
        NotFoundError: The checkpoint or a key does not exist.
        InvalidInputError: The head is no digest, or all events are to be signed and no key is
            known.
        IntegrityError: The checkpoint is none.
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
        workspace: Where.
        path: Of the file; to be kept where who writes the trail cannot write.
        overwrite: Replace an existing file.

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
