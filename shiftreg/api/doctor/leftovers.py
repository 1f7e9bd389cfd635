"""What interrupted commands left, and taking it away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from shiftreg.api.doctor.findings import Finding
from shiftreg.checkpoints.atomic import is_left
from shiftreg.registry import Registry
from shiftreg.registry.examination import OpenRun

WRITTEN = ("attacks", "bases", "classifiers", "evaluations", "reports", "samples", "unfinished")
"""Folders of a home that commands write to, with whatever lies below them."""

REPAIR = "Take it away: shiftreg doctor --repair"


def left_runs(registry: Registry, base: str) -> tuple[OpenRun, ...]:
    """Runs of processes of this machine that are gone."""
    return tuple(run for run in registry.examination.open_runs(base) if run.is_left)


def written_folders(home: Path) -> Iterator[Path]:
    """The folders of a home that files are made in, but for those that MLflow writes."""
    yield home
    for name in WRITTEN:
        for folder, below, _ in os.walk(home / name):
            yield Path(folder)
            # What was never finished goes as a whole; scenes have artifacts of their own.
            below[:] = [sub for sub in below if sub != "artifacts" and not is_left(Path(sub))]


def left_files(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Files and folders that were being written by processes that are gone."""
    found = {
        path for folder in folders if folder.is_dir() for path in folder.iterdir() if is_left(path)
    }
    return tuple(sorted(found))


def leftover_findings(runs: Sequence[OpenRun], files: Sequence[Path]) -> Iterator[Finding]:
    """Says what there is."""
    for run in runs:
        yield Finding(
            "leftover",
            f"run {run.name}",
            f"This {run.kind} was interrupted, and its run in MLflow never ended.",
            REPAIR,
        )
    for path in files:
        yield Finding(
            "leftover", str(path), "It was being written by a process that is gone.", REPAIR
        )


def clear_files(files: Iterable[Path]) -> None:
    """Removes what was never finished."""
    for path in files:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
