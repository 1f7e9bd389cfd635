"""Where a report and its image are kept: both, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path


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
