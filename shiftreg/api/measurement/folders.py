"""Folders of images from any source, with what their ``metadata.csv`` says of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from shiftreg.api.generation.folder import METADATA
from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.image_files import SUFFIXES, image_files, read_images
from shiftreg.evaluation.prompt_file import PROMPT, SEED, read_content

FILE = "file_name"
_PIXELS, _LARGEST_BATCH = 2**21, 64


@dataclass(frozen=True)
class ImageFolder:
    """Images of one size in a folder; none is in memory.

    Attributes:
        names: Of the files, relative to it.
        size: Width and height of each.
        prompts: File name -> prompt, where it is known.
        seeds: File name -> seed as it is written, where it is known.
        notes: Sentences about what does not match.
    """

    path: Path
    names: tuple[str, ...]
    size: tuple[int, int]
    prompts: Mapping[str, str]
    seeds: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def batches(self) -> Iterator[tuple[str, ...]]:
        """The names in portions that fit into memory, by the images' size."""
        width, height = self.size
        step = min(_LARGEST_BATCH, max(1, _PIXELS // (width * height)))
        for start in range(0, len(self.names), step):
            yield self.names[start : start + step]

    def read(self, names: Sequence[str]) -> np.ndarray:
        """Reads some of the images.

        Returns:
            uint8 ``(N, H, W, 3)``, RGB.

        Raises:
            IntegrityError: An image is damaged.
            InvalidInputError: It does not have 8 bits a channel.
            NotFoundError: It is no longer there.
            StorageError: It cannot be read.
        """
        return read_images([self.path / name for name in names])[1]


def open_images(folder: Path) -> ImageFolder:
    """Lists the images in a folder, before any of them is read.

    They are the PNG and JPEG files directly in it; without one, those of its subfolders that its
    ``metadata.csv`` names.

    Args:
        folder: May hold a ``metadata.csv`` with the columns ``file_name``, ``prompt`` and
            ``evaluation_seed``; none of them is needed, and others are ignored.

    Raises:
        NotFoundError: No such folder.
        InvalidInputError: No image, images of different sizes, or metadata that is not CSV.
        IntegrityError: An image is damaged, or not a PNG or JPEG.
        StorageError: It cannot be read.
    """
    rows = _read_metadata(folder / METADATA)
    below = tuple(name for name in rows if "/" in name and _is_image(folder, name))
    try:
        names = tuple(file.name for file in image_files(folder))
    except InvalidInputError:
        if not below:
            raise
        names = below
    there = set(names)
    absent = [name for name in rows if name not in there]
    return ImageFolder(
        path=folder,
        names=names,
        size=_common_size([folder / name for name in names]),
        prompts={name: row[PROMPT] for name, row in rows.items() if row.get(PROMPT) is not None},
        seeds={name: row[SEED] for name, row in rows.items() if row.get(SEED)},
        notes=(
            f"{METADATA} of '{folder}' names {len(absent)} missing images, such as '{absent[0]}'.",
        )
        if absent
        else (),
    )


def _read_metadata(path: Path) -> dict[str, dict[str, str]]:
    """File name -> its row; nothing if the file is missing or is about other things."""
    if not path.is_file():
        return {}
    try:
        text = read_content(path).decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        return {row[FILE]: row for row in rows if row.get(FILE)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(
            f"'{path}' is not a CSV file in UTF-8: {error}. Correct it, or remove it."
        ) from error


def _is_image(folder: Path, name: str) -> bool:
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts
    return inside and path.suffix.lower() in SUFFIXES and (folder / name).is_file()


def _common_size(files: Sequence[Path]) -> tuple[int, int]:
    """The size of all images by their headers: hours of work must not end at the last one."""
    first = _size(files[0])
    for file in files[1:]:
        if (size := _size(file)) != first:
            raise InvalidInputError(
                f"Images that are compared have one size: '{files[0]}' has {describe_size(first)} "
                f"pixels, and '{file}' {describe_size(size)}. Resize them first."
            )
    return first


def _size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            return image.size
    # Pillow reports damage as anything from SyntaxError to a plain OSError.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        read_images([file])  # says what is wrong with it
        raise


def describe_size(size: tuple[int, int]) -> str:
    """A size as "512 x 512"."""
    return f"{size[0]} x {size[1]}"
