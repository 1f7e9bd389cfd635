"""Gallery: pictures on disk, painted once for each composition, prompt and seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import atomic_file
from shiftreg.concepts import slug

BATCH = 25


class Shot(NamedTuple):
    """A picture that is asked for."""

    prompt: str
    seed: int


def shots(prompts: Sequence[str], seed: int = 0) -> tuple[Shot, ...]:
    """One picture a prompt; a repeated prompt gets further seeds, the same in every list.

    Args:
        prompts: One a picture.
        seed: Moves all seeds.
    """
    seen: Counter[str] = Counter()
    wanted = []
    for prompt in prompts:
        wanted.append(Shot(prompt, seed + crc32(prompt.encode()) % 100_000 + seen[prompt]))
        seen[prompt] += 1
    return tuple(wanted)


class Gallery:
    """Pictures of a base and its compositions in a folder: an interrupted painting goes on."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        """Opens a folder.

        Args:
            workspace: Whose base paints.
            folder: Made when the first picture is.
        """
        self._workspace, self._folder = workspace, folder

    def paint(
        self,
        wanted: Iterable[Shot],
        digest: str = "",
        weights: Mapping[str, Tensor] | None = None,
        observe: Callable[[int, int], None] | None = None,
    ) -> dict[Shot, np.ndarray]:
        """Gives pictures, painting those that are not there.

        Args:
            wanted: What to paint; repeated ones are painted once.
            digest: Of the composition; "" for the base.
            weights: The composition's; None for the base's own.
            observe: Told of the number of pictures that are there, and of all.

        Returns:
            A picture each, uint8 ``(H, W, 3)``.

        Raises:
            StorageError: The disk is full or read-only.
        """
        workspace = self._workspace
        pictures: dict[Shot, np.ndarray] = {}
        missing = []
        for shot in dict.fromkeys(wanted):
            picture = _read(self._path(digest, shot))
            if picture is None:
                missing.append(shot)
            else:
                pictures[shot] = picture
        total = len(pictures) + len(missing)
        with pipelines.applied_weights(workspace.network, weights or {}):
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                painted = pipelines.generate(
                    workspace.pipeline,
                    [shot.prompt for shot in batch],
                    [shot.seed for shot in batch],
                    steps=workspace.base.steps,
                    guidance=workspace.base.guidance,
                )
                for shot, picture in zip(batch, painted, strict=True):
                    _write(self._path(digest, shot), picture)
                    pictures[shot] = picture
                if observe:
                    observe(len(pictures), total)
        return pictures

    def _path(self, digest: str, shot: Shot) -> Path:
        base = self._workspace.base
        # Whatever makes another picture makes another folder.
        made = f"{base.digest}{base.steps}{base.guidance}{digest}"
        painter = f"{digest[:12] or 'base'}-{hashlib.sha256(made.encode()).hexdigest()[:8]}"
        prompt = f"{slug(shot.prompt)[:60]}-{crc32(shot.prompt.encode()):08x}"
        return self._folder / painter / prompt / f"{shot.seed}.png"


def _read(path: Path) -> np.ndarray | None:
    """A whole picture, or None: one that is damaged is painted again."""
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError):
        return None


def _write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, overwrite=True) as partial:
        Image.fromarray(picture).save(partial, format="PNG")
