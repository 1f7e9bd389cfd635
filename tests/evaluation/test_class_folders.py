"""Labelled images in folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.evaluation.class_folders import read_classes


def write(path: Path, level: int, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (level, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two images."""
    folder = tmp_path / "images"
    for i, name in enumerate(("plain/b.png", "plain/a.png", "Van Gogh/x.png", "Van Gogh/y.jpg")):
        write(folder / name, 50 * i)
    return folder


def test_subfolders_are_classes_and_images_come_by_name(folder: Path) -> None:
    labels, images = read_classes(folder)
    assert labels == ("Van Gogh", "Van Gogh", "plain", "plain")
    assert images.dtype == np.uint8
    assert images.shape == (4, 8, 8, 3)
    assert images[2:, 0, 0, 0].tolist() == [50, 0]


def test_hidden_folders_and_other_files_are_passed_over(folder: Path) -> None:
    write(folder / ".thumbnails" / "a.png", 0, side=4)
    write(folder / "cover.png", 0, side=4)
    (folder / "plain" / "notes.txt").write_text("two images")
    assert len(read_classes(folder)[0]) == 4


def test_a_class_without_images_is_refused_by_name(folder: Path) -> None:
    (folder / "Picasso").mkdir()
    with pytest.raises(InvalidInputError, match=r"Picasso' holds no PNG or JPEG"):
        read_classes(folder)


def test_a_damaged_image_is_refused_by_name(folder: Path) -> None:
    path = folder / "plain" / "a.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(IntegrityError, match=r"a\.png"):
        read_classes(folder)


def test_images_of_two_sizes_are_refused_even_across_classes(folder: Path) -> None:
    write(folder / "plain" / "c.png", 0, side=9)
    with pytest.raises(InvalidInputError, match=r"c\.png"):
        read_classes(folder)


def test_a_folder_without_subfolders_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no subfolders"):
        read_classes(folder / "plain")
    with pytest.raises(NotFoundError, match="nowhere"):
        read_classes(tmp_path / "nowhere")
