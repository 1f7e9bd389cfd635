"""Images from files: PNG and JPEG, as `shiftreg generate` and other tools write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError, StorageError

SUFFIXES = (".png", ".jpg", ".jpeg")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_images(source: Path | Sequence[Path]) -> tuple[tuple[str, ...], np.ndarray]:
    """Reads images of one size.

    Args:
        source: A folder, whose PNG and JPEG files are read in the order of their names, but not
            those of its subfolders and no hidden ones; or files, in the order that they are given.

    Returns:
        The files' names, and uint8 ``(N, H, W, 3)``, RGB; an alpha channel is dropped.

    Raises:
        NotFoundError: No such folder or file.
        InvalidInputError: No image, images of different sizes, or no 8 bits a channel.
        IntegrityError: An image is damaged, or no PNG or JPEG.
        StorageError: A file cannot be read.
    """
    files = image_files(source) if isinstance(source, Path) else list(source)
    if not files:
        raise InvalidInputError("No image was given, and at least one is needed.")
    images = [_read(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise InvalidInputError(
                f"Images that are measured together have one size: '{files[0]}' has "
                f"{_size(images[0])} pixels, and '{file}' {_size(image)}. Resize them first."
            )
    return tuple(file.name for file in files), np.stack(images)


def image_files(folder: Path) -> list[Path]:
    """The PNG and JPEG files directly in a folder, by name; no hidden ones.

    Raises:
        NotFoundError: No such folder.
        InvalidInputError: It is a file, or holds no image.
        StorageError: It cannot be read.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no folder '{folder}'. Check the path.") from error
    except NotADirectoryError as error:
        raise InvalidInputError(f"'{folder}' is a file, and a folder is needed.") from error
    except OSError as error:
        raise StorageError(f"'{folder}' could not be read: {error.strerror or error}.") from error
    files = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        below = [path.name for path in entries if path.is_dir()]
        hint = f" Its subfolders are {', '.join(below[:5])}: give one of them." if below else ""
        raise InvalidInputError(f"'{folder}' holds no PNG or JPEG file.{hint}")
    return files


def _read(file: Path) -> np.ndarray:
    """One image, uint8 (H, W, 3)."""
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            if image.mode not in _MODES:
                raise InvalidInputError(
                    f"Images have 8 bits a channel here, and '{file}' is of mode "
                    f"'{image.mode}'. Convert it first."
                )
            return np.asarray(image.convert("RGB"))
    except InvalidInputError:
        raise
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no image '{file}'. Check the path.") from error
    except UnidentifiedImageError as error:
        raise IntegrityError(f"'{file}' is no PNG or JPEG image. Make it again.") from error
    # Pillow reports damage as anything from SyntaxError to a plain OSError without a number.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno:
            raise StorageError(f"'{file}' could not be read: {error.strerror}.") from error
        raise IntegrityError(f"'{file}' is damaged: {error}. Make it again.") from error


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def read_classes(folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Reads images with their labels.

    Args:
        folder: Its subfolders hold PNG or JPEG files, and at least one each; hidden subfolders
            and files beside the subfolders are passed over.

    Returns:
        A label an image, the classes in the order of their names; and uint8 (N, H, W, 3).

    Raises:
        NotFoundError: No such folder.
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
