"""Images that were generated when a shift was made."""

from __future__ import annotations

from pathlib import Path

from shiftreg.registry.artifacts import fetch
from shiftreg.registry.records import ShiftVersion
from shiftreg.registry.store import Store, translates_errors

FOLDER = "samples"


@translates_errors
def download_samples(store: Store, version: ShiftVersion) -> Path | None:
    """The image of a version's own shift; see :meth:`Registry.download_samples`."""
    # A run may hold the images of several shifts; the digest in the name tells them apart.
    for file in store.client.list_artifacts(version.run_id, FOLDER):
        if Path(file.path).name.startswith(version.digest[:16]):
            return fetch(store, version.run_id, file.path)
    return None
