"""Opening a workspace: settings become a registry, an audit trail and the base to work on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

from shiftreg.api.workspace import Workspace
from shiftreg.audit import AuditLog, Cause, FileEvents, WriteAheadLog, current_actor
from shiftreg.keys import load_signing_key
from shiftreg.registry import BaseRecord, open_registry
from shiftreg.settings import Settings


def open_workspace(
    settings: Settings,
    *,
    reason: str = "",
    request: str = "",
    licence: str = "",
    reading: bool = False,
    warn: Callable[[str], object] = warnings.warn,
) -> Workspace:
    """Opens the registry and the audit trail, creating them at first use.

    What a killed command left half-done is completed or taken back first, unless all that is done
    here is reading, which changes and appends nothing.

    Args:
        reason: Why things are done in this workspace, for the audit trail.
        request: Reference of the request that is answered.
        licence: Reference of the licence that is made use of.
        reading: Whether a home that cannot be written will do.
        warn: Notified of write-ahead records that are left alone.

    Raises:
        StorageError: The home cannot be written, or the database cannot be opened.
        NotFoundError: There is no such signing key.
        InvalidInputError: The signing key cannot be used.
    """
    signer = load_signing_key(settings.signing_key) if settings.signing_key else None
    registry = open_registry(settings.home, settings.tracking_uri, reading=reading)
    audit = AuditLog(
        # The chain is kept with the registry, so that all who share that share one chain.
        registry.events if settings.tracking_uri else FileEvents(settings.home / "audit.jsonl"),
        Cause(reason, request, licence),
        signer,
        cache(lambda: registry.account() or current_actor()),
    )
    write_ahead = WriteAheadLog(
        settings.home / "write-ahead",
        lambda: f"{audit.who()} {signer.public.fingerprint if signer else ''} {registry.uri}",
    )
    workspace = Workspace(settings, registry, audit, write_ahead, _register_miniature, reading)
    if not reading and write_ahead.paths():
        from shiftreg.api.recovery import recover  # which reads weights: most have no need of it

        recover(workspace)
        if left := write_ahead.foreign():
            warn(
                f"Left alone, since nothing proves that you recorded it here: {left[0]}"
                f"{f' and {len(left) - 1} more' if left[1:] else ''}. See: shiftreg doctor"
            )
    return workspace


def _register_miniature(workspace: Workspace) -> BaseRecord:
    from shiftreg.api.bases import register_base

    return register_base(workspace)
