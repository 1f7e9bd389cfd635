"""The folder of a painting on disk: one job a folder, one writer at a time, never half a picture.

``paint.json`` says which job it is, ``prompts.csv`` is a copy of the cases, and each composition
has a subfolder of pictures. Everything can be read by tools that know nothing of this package.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from shiftreg.api.painting import manifest as paint_manifest
from shiftreg.checkpoints import atomic_file
from shiftreg.concepts import slug
from shiftreg.errors import AlreadyExistsError, InvalidInputError, ShiftregError, StorageError
from shiftreg.evaluation.prompt_file import CASE, PROMPT, SEED, PromptCase
from shiftreg.reports import save_picture

MANIFEST = paint_manifest.NAME
PROMPTS, METADATA, LOCK = "prompts.csv", "metadata.csv", ".paint.lock"
_PICTURE = re.compile(r"\d+_\d+\.png", flags=re.ASCII)
_PARTIAL = ".*.partial"


@dataclass(frozen=True)
class Picture:
    """One picture of a job, the same for every composition.

    Attributes:
        case: Its prompt and seed.
        number: Which slice of the case's noise it starts from.
        file: Relative to the composition's folder: ``{case}_{number}.png``.
    """

    case: PromptCase
    number: int
    file: str


def pictures_of(cases: Sequence[PromptCase], count: int, by_prompt: bool) -> list[Picture]:
    """The pictures of a job, case by case.

    Args:
        cases: What is painted.
        count: Pictures a case.
        by_prompt: Put those of each prompt into a subfolder, as torchvision's ``ImageFolder`` and
            its like read classes.
    """
    places = _prompt_folders(cases) if by_prompt else {}
    return [
        Picture(case, i, (Path(places.get(case.prompt, "")) / f"{case.case}_{i}.png").as_posix())
        for case in cases
        for i in range(count)
    ]


def is_whole(path: Path, size: tuple[int, int]) -> bool:
    """Whether a file is an undamaged PNG of this width and height."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            picture.verify()
            return picture.size == size
    # Pillow reports damage as anything from SyntaxError to a plain OSError.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return False


def check_place(folder: Path, manifest: Mapping[str, Any], overwrite: bool) -> list[str]:
    """Refuses a folder that holds anything but this job; compositions may be added to it.

    Args:
        folder: May be missing.
        manifest: Of the job.
        overwrite: Accept another painting, which will be replaced.

    Returns:
        Sentences about what will not fit perfectly.

    Raises:
        InvalidInputError: It is a file.
        AlreadyExistsError: It holds other files, or another job.
        IntegrityError: Its manifest is damaged.
        StorageError: It cannot be read.
    """
    with _refusals(folder):
        if not folder.exists():
            return []
        if not folder.is_dir():
            raise InvalidInputError(f"'{folder}' is a file, and pictures go to a folder.")
        if not (folder / MANIFEST).exists():
            visible = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
            if visible:
                raise AlreadyExistsError(
                    f"'{folder}' holds '{visible[0]}' and no {MANIFEST}: it was not painted by "
                    "shiftreg. Choose an empty or a new folder."
                )
            return []
        there = paint_manifest.read_manifest(folder)
    if overwrite:
        return []
    if differing := paint_manifest.differences(there, manifest):
        raise AlreadyExistsError(
            f"'{folder}' holds another painting: {'; '.join(differing)}. Choose another folder, "
            "or replace all that was painted there with --force."
        )
    return paint_manifest.other_tools(there, manifest)


@contextmanager
def writing(
    folder: Path, manifest: Mapping[str, Any], prompts: bytes, overwrite: bool
) -> Iterator[None]:
    """Makes a folder ready for a job, and keeps other writers out while the block runs.

    Args:
        folder: Created if it is missing.
        manifest: Of the job; compositions that were painted before stay in it.
        prompts: The file of prompts, to be copied.
        overwrite: Remove all that was painted there before.

    Raises:
        StorageError: Another process is painting there, or the disk is full or read-only.
        AlreadyExistsError: As for :func:`check_place`.
    """
    check_place(folder, manifest, overwrite)
    with _refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise StorageError(
                f"Another process is painting to '{folder}'. Wait for it to end, or choose another "
                "folder."
            ) from error
    try:
        check_place(folder, manifest, overwrite)  # again, now that nobody else changes it
        with _refusals(folder):
            _prepare(folder, manifest, prompts, overwrite)
        yield
    finally:
        lock.release()


def save_picture_file(picture: np.ndarray, path: Path) -> None:
    """Writes a picture, uint8 ``(H, W, 3)``, whole or not at all; a damaged one is replaced."""
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path, overwrite=True) as partial:
        save_picture(Image.fromarray(picture), partial)


def save_metadata(folder: Path, pictures: Sequence[Picture]) -> None:
    """Writes what each picture shows, in the form that Hugging Face's imagefolder reads.

    Args:
        folder: Of one composition's pictures.
        pictures: All that are in it.
    """
    table = io.StringIO()
    writer = csv.writer(table)  # its "\r\n" has a lone "\r" quoted, which "\n" would not
    writer.writerow(["file_name", PROMPT, SEED, CASE])
    for picture in pictures:
        case = picture.case
        writer.writerow([picture.file, case.prompt, case.seed, case.case])
    _write(folder / METADATA, table.getvalue().encode())


def _prompt_folders(cases: Iterable[PromptCase]) -> dict[str, str]:
    """A folder for each prompt: its slug, and a digest where several prompts have the same."""
    words = {case.prompt: slug(case.prompt)[:60].strip("-") or "blank" for case in cases}
    holders = Counter(words.values())
    return {
        prompt: word
        if holders[word] == 1
        else f"{word}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"
        for prompt, word in words.items()
    }


def _prepare(folder: Path, manifest: Mapping[str, Any], prompts: bytes, overwrite: bool) -> None:
    folders = dict(manifest["folders"])
    if (folder / MANIFEST).exists():
        there = paint_manifest.read_manifest(folder)
        for name in there["folders"]:
            _sweep(folder / name, _PARTIAL)  # what a killed process left
        if overwrite:
            for name in there["folders"]:
                _sweep(folder / name, "*.png", METADATA)
        else:
            folders |= there["folders"]
    # First of all: with it, whatever happens next can be continued.
    text = json.dumps(dict(manifest) | {"folders": folders}, indent=2, ensure_ascii=False)
    _write(folder / MANIFEST, text.encode())
    _write(folder / PROMPTS, prompts)
    for name in manifest["folders"]:
        (folder / name).mkdir(exist_ok=True)


def _sweep(folder: Path, *patterns: str) -> None:
    """Removes files of ours from a picture folder and its subfolders, and those left empty."""
    for pattern in patterns:
        for path in (*folder.glob(pattern), *folder.glob(f"*/{pattern}")):
            if path.suffix != ".png" or _PICTURE.fullmatch(path.name):
                path.unlink()
    for path in (*folder.glob("*/"), folder):
        with suppress(OSError):  # not empty: somebody else's files are in it
            path.rmdir()


def _write(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    with atomic_file(path, overwrite=True) as partial:
        partial.write_bytes(content)


@contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    """Turns a refusal of the disk into an error of ours."""
    try:
        yield
    except ShiftregError:
        raise
    except OSError as error:
        raise StorageError(
            f"'{folder}' cannot be used: {error.strerror or error}. Choose a folder that you may "
            "write to, with free space."
        ) from error
