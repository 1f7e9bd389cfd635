"""Images on disk, generated once for each composition, prompt and seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from PIL import Image, UnidentifiedImageError

from shiftreg.api.generation.batches import Batch, generate_batches
from shiftreg.api.generation.folder import save_image_file
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition
from shiftreg.concepts import slug
from shiftreg.engines import Engine, InProcess

BATCH = 25


class Shot(NamedTuple):
    """An image that is asked for."""

    prompt: str
    seed: int


def shots(prompts: Sequence[str], seed: int = 0) -> tuple[Shot, ...]:
    """One image a prompt; a repeated prompt gets further seeds, the same in every list.

    Args:
        prompts: One an image.
        seed: Moves all seeds.
    """
    seen: Counter[str] = Counter()
    wanted = []
    for prompt in prompts:
        wanted.append(Shot(prompt, seed + crc32(prompt.encode()) % 100_000 + seen[prompt]))
        seen[prompt] += 1
    return tuple(wanted)


class Gallery:
    """Images of a base and its compositions in a folder: an interrupted run continues."""

    def __init__(self, workspace: Workspace, folder: Path, engine: Engine | None = None) -> None:
        """Opens a folder.

        Args:
            folder: Made when the first image is.
            engine: Where it generates; here by default.
        """
        self._workspace, self._folder = workspace, folder
        self._engine = engine or InProcess()

    def generate(
        self,
        wanted: Iterable[Shot],
        composition: Composition | None = None,
        observe: Callable[[int, int], None] | None = None,
    ) -> dict[Shot, np.ndarray]:
        """Gives images, generating those that are missing.

        Args:
            wanted: What to generate; repeated ones are generated once.
            composition: Whose images; None for the base's own.
            observe: Notified of how many images there are, and of all.

        Returns:
            An image each, uint8 ``(H, W, 3)``.

        Raises:
            StorageError: The disk is full or read-only.
        """
        base = self._workspace.base
        digest = composition.digest if composition else ""
        wanted = tuple(dict.fromkeys(wanted))
        images = self.kept(wanted, digest)
        missing = [shot for shot in wanted if shot not in images]
        total = len(images) + len(missing)
        parts = [missing[start : start + BATCH] for start in range(0, len(missing), BATCH)]

        def keep(number: int, generated: np.ndarray) -> None:
            for shot, image in zip(parts[number], generated, strict=True):
                save_image_file(image, self._path(digest, shot))
                images[shot] = image
            if observe:
                observe(len(images), total)

        batches = [
            Batch(
                record=base,
                composition=composition or Composition.of(base.digest, ()),
                prompts=tuple(shot.prompt for shot in part),
                seeds=tuple(shot.seed for shot in part),
                steps=base.steps,
                guidance=base.guidance,
            )
            for part in parts
        ]
        generate_batches(self._workspace, batches, self._engine, keep)
        return images

    def kept(self, wanted: Iterable[Shot], digest: str = "") -> dict[Shot, np.ndarray]:
        """Those of some images that are there, and whole.

        Args:
            digest: Of the composition; "" for the base's own.
        """
        read = {shot: _read(self._path(digest, shot)) for shot in wanted}
        return {shot: image for shot, image in read.items() if image is not None}

    def _path(self, digest: str, shot: Shot) -> Path:
        base = self._workspace.base
        # Whatever makes another image makes another folder.
        made = f"{base.digest}{base.steps}{base.guidance}{digest}"
        generator = f"{digest[:12] or 'base'}-{hashlib.sha256(made.encode()).hexdigest()[:8]}"
        written = hashlib.sha256(shot.prompt.encode()).hexdigest()
        prompt = f"{slug(shot.prompt)[:60]}-{written[:16]}"
        return self._folder / generator / prompt / f"{shot.seed}.png"


def _read(path: Path) -> np.ndarray | None:
    """A whole image, or None: one that is damaged is generated again."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError):
        return None
