"""Changes of the registry, each with its event in the audit trail, whatever happens in between.

A write-ahead record is written, the change made, its event recorded, and the write-ahead record
removed. A command that is killed leaves that record; :mod:`shiftreg.api.recovery` then completes
the change or takes it back.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shiftreg.api.workspace import Workspace

if TYPE_CHECKING:
    from PIL.Image import Image

    from shiftreg.attacks.results import AttackReport
    from shiftreg.evaluation.results import Evaluation

Report = TypeVar("Report", "AttackReport", "Evaluation")
WRITE_AHEAD = "write_ahead"
"""The detail of an event that names the write-ahead record that it completes."""


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
    _note: Callable[[Mapping[str, Any]], None]
    _is_recorded: bool = False

    def note(self, **recovery: Any) -> None:
        """Writes down what more it takes to complete the change or take it back, JSON values.

        Raises:
            StorageError: The disk refused.
        """
        self._note(recovery)

    def record(self) -> None:
        """Records the event now, once; else that is done at the end of the block."""
        if not self._is_recorded:
            self._append()
            self._is_recorded = True


def appearing(path: Path, word: str, partial: Path) -> dict[str, str]:
    """What is written ahead of a single file, so that recovery can see whether it appeared.

    Args:
        path: Where it will be.
        word: Of its digest in the event.
        partial: Where it is made.
    """
    return {"path": str(path.absolute()), "word": word, "partial": partial.name}


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
    """Makes a change within the block, and records its event at the end.

    Args:
        action: What is done; see ``recovery.RECOVERIES`` for what can be completed.
        digests: What is made or used, as far as it is known.
        details: Anything else, as far as it is known.
        recovery: What else is needed to find out how far an interrupted change got.

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
    ahead: dict[str, Any] = {
        "event": event,
        "recovery": dict(recovery or {}),
        "cause": asdict(workspace.audit.cause),
        "actor": workspace.audit.who(),
        "after": workspace.audit.store.last_place(),
    }
    with workspace.write_ahead.recorded(action, ahead) as record:
        event["details"][WRITE_AHEAD] = record.identity

        def note(recovery: Mapping[str, Any]) -> None:
            ahead["recovery"] |= recovery
            workspace.write_ahead.save(record)

        made = Change(
            event["digests"],
            event["details"],
            lambda: workspace.audit.append(action, **event),
            note,
        )
        yield made
        made.record()


def unique_name(name: str) -> str:
    """A name that no other report takes: several processes may write one at the same moment."""
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(6)}"


@contextmanager
def kept_report(folder: Path, name: str, report: Report, grid: Image) -> Iterator[Report]:
    """Writes a report and its image; what fails leaves neither.

    Args:
        folder: Made if it is missing.
        name: What the names of both begin with.
        report: As JSON; it holds the paths of both files.
        grid: Its image.

    Yields:
        The report with the paths of both files; the block registers them.

    Raises:
        StorageError: The disk is full or read-only.
    """
    from shiftreg.api.front_end import to_json
    from shiftreg.checkpoints import atomic_file
    from shiftreg.reports import save_image

    folder.mkdir(parents=True, exist_ok=True)
    stem = unique_name(name)
    path, image = folder / f"{stem}.json", folder / f"{stem}.png"
    report = replace(report, report_path=path, image=image)
    try:
        with atomic_file(image) as partial:
            save_image(grid, partial)
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(to_json(report), indent=2), encoding="utf-8")
        yield report
    except BaseException:
        image.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise
