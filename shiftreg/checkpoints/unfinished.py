"""Work that takes long, kept on disk until it is finished, so that an interruption costs little."""

from __future__ import annotations

import shutil
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftreg.canonical import canonical_digest
from shiftreg.checkpoints.atomic import atomic_file
from shiftreg.checkpoints.files import make_folder, reading
from shiftreg.checkpoints.torch_file import load_pickle_checkpoint
from shiftreg.errors import ShiftregError


class Unfinished:
    """One piece of work: its images, and where its training stands.

    What lies here is a convenience: anything damaged counts as not there.

    Attributes:
        folder: Named after all that the result depends on, so that only the same work finds it.
        interval: Seconds between two states on disk.
    """

    def __init__(self, folder: Path, interval: float = 20.0) -> None:
        self.folder = folder
        self.interval = interval
        self._saved = time.monotonic()

    @classmethod
    def of(cls, home: Path, *parts: Any) -> Unfinished:
        """The work whose result depends on these parts alone, and on the version of torch.

        Args:
            home: Folder under which unfinished work lies.
            parts: JSON values that tell this work from any other.

        Raises:
            InvalidInputError: A part is not representable as JSON.
        """
        digest = canonical_digest([torch.__version__, *parts])
        return cls(home / "unfinished" / digest[:32])

    def load(self) -> Mapping[str, Any] | None:
        """The state that was last kept; None if nothing was."""
        return self._read("training.pt")

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Keeps a state if the last one is older than the interval.

        Raises:
            StorageError: The disk refused.
        """
        if time.monotonic() - self._saved >= self.interval:
            self._write("training.pt", dict(state()))
            self._saved = time.monotonic()

    def latents(self, name: str, generate: Callable[[], Tensor]) -> Tensor:
        """Images ``(n, C, h, w)`` that were generated before, or that are generated now.

        Raises:
            StorageError: The disk refused.
        """
        kept = self.result(
            f"{name}.latents",  # a concept may be called "training"
            lambda: {"latents": generate()},
            is_whole=lambda kept: isinstance(kept.get("latents"), Tensor),
        )
        return kept["latents"]

    def result(
        self,
        name: str,
        find: Callable[[], Mapping[str, Any]],
        *,
        is_whole: Callable[[Mapping[str, Any]], bool] = bool,
    ) -> Mapping[str, Any]:
        """A part of the work that was done before, or that is done now.

        Raises:
            StorageError: The disk refused.
        """
        file = f"{name}.pt"
        kept = self._read(file)
        if kept is None or not is_whole(kept):
            kept = dict(find())
            self._write(file, kept)
        return kept

    def discard(self) -> None:
        """Forgets it: the work is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        with suppress(ShiftregError), reading(path), zipfile.ZipFile(path) as archive:
            if archive.testzip() is None:  # torch writes check sums, and does not compare them
                return load_pickle_checkpoint(path)
        return None

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        make_folder(self.folder)
        with atomic_file(self.folder / name, overwrite=True) as partial, partial.open("wb") as file:
            torch.save(dict(value), file)
