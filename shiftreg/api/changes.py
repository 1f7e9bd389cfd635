"""Changes of the registry, each with its event in the audit trail, whatever happens in between.

A change is announced, made, told to the audit trail, and no longer announced. A command that is
killed leaves the announcement; :mod:`shiftreg.api.recovery` then completes the change or takes it
back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shiftreg.api.workspace import Workspace

INTENT = "intent"
"""The detail of an event that names the announcement it completes."""


@dataclass
class Change:
    """What the event will say, to be added to while the change is made.

    Attributes:
        digests: A word -> SHA-256.
        details: Anything else, JSON values.
    """

    digests: dict[str, str]
    details: dict[str, Any]
    _append: Callable[[], object]
    _is_told: bool = False

    def tell(self) -> None:
        """Tells the audit trail now, once; else it is told at the end of the block."""
        if not self._is_told:
            self._append()
            self._is_told = True


def appearing(path: Path, word: str) -> dict[str, str]:
    """What a single file announces, so that it can be told whether it appeared.

    Args:
        path: Where it will be.
        word: Of its digest in the event.
    """
    return {"path": str(path.absolute()), "word": word}


def placing(target: Path, family: Iterable[Path]) -> dict[str, Any]:
    """What an export announces, so that it can be taken back: its files, and which were there."""
    paths = [path.absolute() for path in (target, *family)]
    return {
        "paths": [str(path) for path in paths],
        "existed": [str(path) for path in paths if os.path.lexists(path)],
    }


@contextmanager
def change(
    workspace: Workspace,
    action: str,
    *,
    base: str,
    concepts: Iterable[str] = (),
    reason: str = "",
    digests: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
    recovery: Mapping[str, Any] | None = None,
) -> Iterator[Change]:
    """Makes a change within the block, and tells the audit trail at its end.

    Args:
        workspace: Where.
        action: What is done; see ``recovery.RECOVERIES`` for what can be completed.
        base: Name of the base.
        concepts: Names of the concepts.
        reason: Why.
        digests: What is made or used, as far as it is known.
        details: Anything else, as far as it is known.
        recovery: What else is needed to find out how far an interrupted change came.

    Yields:
        What the event will say.

    Raises:
        InvalidInputError: A value that JSON cannot say.
        StorageError: The disk or the server refused. The change may be made all the same: the next
            command finds out.
    """
    event: dict[str, Any] = {
        "base": base,
        "concepts": list(concepts),
        "reason": reason,
        "digests": dict(digests or {}),
        "details": dict(details or {}),
    }
    announced = {
        "event": event,
        "recovery": dict(recovery or {}),
        "cause": asdict(workspace.audit.cause),
        "actor": workspace.audit.who(),
        "after": workspace.audit.store.last_place(),
    }
    with workspace.intents.announced(action, announced) as intent:
        event["details"][INTENT] = intent.identity
        made = Change(
            event["digests"], event["details"], lambda: workspace.audit.append(action, **event)
        )
        yield made
        made.tell()


@contextmanager
def report_with_image(folder: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Names a report and its image after the time; what fails leaves neither.

    Args:
        folder: Made if it is not there.
        name: What both are called, before the time.

    Yields:
        The report's path and the image's; the block writes and registers them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    report, image = folder / f"{stem}.json", folder / f"{stem}.png"
    try:
        yield report, image
    except BaseException:
        image.unlink(missing_ok=True)
        report.unlink(missing_ok=True)
        raise
