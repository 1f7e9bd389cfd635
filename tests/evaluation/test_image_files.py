"""Images read from files and from folders of classes, and files that are not images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.evaluation.image_files import read_classes, read_images


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 12, 8, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray) -> Path:
    """Three images, with what else lies in a folder of them."""
    for name, image in zip("abc", pixels, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    (tmp_path / "metadata.csv").write_text("file_name\n")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "deeper.png").mkdir()
    return tmp_path


def test_a_folder_is_read_in_the_order_of_names(folder: Path, pixels: np.ndarray) -> None:
    names, images = read_images(folder)
    assert names == ("a.png", "b.png", "c.png")
    assert (images.dtype, images.shape) == (np.uint8, (3, 12, 8, 3))
    assert (images == pixels).all()


def test_files_are_read_in_the_order_given(folder: Path, pixels: np.ndarray) -> None:
    names, images = read_images([folder / "c.png", folder / "a.png"])
    assert names == ("c.png", "a.png")
    assert (images == pixels[[2, 0]]).all()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", ".png"),
        ("RGBA", ".png"),
        ("P", ".png"),
        ("1", ".PNG"),
        ("CMYK", ".jpg"),
        ("L", ".JPEG"),
    ],
)
def test_other_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    Image.new("RGB", (8, 12), (255, 255, 255)).convert(mode).save(tmp_path / f"white{suffix}")
    names, images = read_images(tmp_path)
    assert names == (f"white{suffix}",)
    assert images.shape == (1, 12, 8, 3)
    assert images.min() >= 254


def test_more_than_8_bits_are_refused_rather_than_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InvalidInputError, match=r"8 bits a channel.*deep\.png"):
        read_images(tmp_path)


def test_images_of_different_sizes_are_refused(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "d.png")
    with pytest.raises(InvalidInputError, match=r"a\.png' has 8 x 12 pixels, and .*d\.png' 8 x 8"):
        read_images(folder)


def test_a_folder_without_images_is_refused_and_its_subfolders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no PNG or JPEG"):
        read_images(tmp_path)
    (tmp_path / "base").mkdir()
    with pytest.raises(InvalidInputError, match="subfolders are base: give one"):
        read_images(tmp_path)
    with pytest.raises(InvalidInputError, match="No image was given"):
        read_images([])


def test_missing_places_are_refused(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        read_images(folder / "nowhere")
    with pytest.raises(NotFoundError, match="no image"):
        read_images([folder / "nothing.png"])
    with pytest.raises(InvalidInputError, match="is a file"):
        read_images(folder / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_file_that_was_cut_off_is_refused_by_name(
    tmp_path: Path, pixels: np.ndarray, suffix: str, kept: float
) -> None:
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(pixels[0].repeat(8, axis=0)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(IntegrityError, match=r"cut\.(png|jpg)"):
        read_images(tmp_path)


def test_a_flipped_byte_is_refused(folder: Path) -> None:
    path = folder / "b.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"b\.png' is damaged"):
        read_images(folder)


def test_another_kind_of_file_under_the_name_of_a_image_is_refused(folder: Path) -> None:
    Image.new("RGB", (8, 12)).save(folder / "z.png", format="BMP")
    with pytest.raises(IntegrityError, match=r"z\.png' is no PNG or JPEG"):
        read_images(folder)


def write(path: Path, level: int, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (level, 0, 0)).save(path)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two classes of two images."""
    folder = tmp_path / "images"
    for i, name in enumerate(("plain/b.png", "plain/a.png", "Van Gogh/x.png", "Van Gogh/y.jpg")):
        write(folder / name, 50 * i)
    return folder


def test_subfolders_are_classes_and_images_come_by_name(classes: Path) -> None:
    labels, images = read_classes(classes)
    assert labels == ("Van Gogh", "Van Gogh", "plain", "plain")
    assert images.dtype == np.uint8
    assert images.shape == (4, 8, 8, 3)
    assert images[2:, 0, 0, 0].tolist() == [50, 0]


def test_hidden_folders_and_other_files_are_passed_over(classes: Path) -> None:
    write(classes / ".thumbnails" / "a.png", 0, side=4)
    write(classes / "cover.png", 0, side=4)
    (classes / "plain" / "notes.txt").write_text("two images")
    assert len(read_classes(classes)[0]) == 4


def test_a_class_without_images_is_refused_by_name(classes: Path) -> None:
    (classes / "Picasso").mkdir()
    with pytest.raises(InvalidInputError, match=r"Picasso' holds no PNG or JPEG"):
        read_classes(classes)


def test_a_damaged_image_is_refused_by_name(classes: Path) -> None:
    path = classes / "plain" / "a.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(IntegrityError, match=r"a\.png"):
        read_classes(classes)


def test_images_of_two_sizes_are_refused_even_across_classes(classes: Path) -> None:
    write(classes / "plain" / "c.png", 0, side=9)
    with pytest.raises(InvalidInputError, match=r"c\.png"):
        read_classes(classes)


def test_a_folder_without_subfolders_is_refused(classes: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no subfolders"):
        read_classes(classes / "plain")
    with pytest.raises(NotFoundError, match="nowhere"):
        read_classes(tmp_path / "nowhere")
