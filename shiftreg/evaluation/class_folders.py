"""Labelled images in folders: each subfolder is a class, its name the label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation.image_files import image_files, read_images


def read_classes(folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Reads images with their labels.

    Args:
        folder: Its subfolders hold PNG or JPEG files, and at least one each; hidden subfolders
            and files beside the subfolders are passed over.

    Returns:
        A label an image, the classes in the order of their names; and uint8 (N, H, W, 3).

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: There are no subfolders, one of them holds no image, or the images
            are of different sizes.
        IntegrityError: An image is damaged, or no PNG or JPEG.
        StorageError: A file cannot be read.
    """
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder '{folder}'. Check the path.")
    classes = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not classes:
        raise InvalidInputError(
            f"'{folder}' has no subfolders, and the class of an image is that of its subfolder. "
            f"Sort the images, such as into '{folder / 'Van Gogh'}' and '{folder / 'plain'}'."
        )
    files = [(path.name, file) for path in classes for file in image_files(path)]
    _, images = read_images([file for _, file in files])
    return tuple(label for label, _ in files), images
