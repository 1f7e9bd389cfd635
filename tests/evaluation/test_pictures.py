"""Pictures read from files of the common kinds, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.evaluation.pictures import read_pictures


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 12, 8, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray) -> Path:
    """Three pictures, with what else lies in a folder of them."""
    for name, picture in zip("abc", pixels, strict=True):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    (tmp_path / "metadata.csv").write_text("file_name\n")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "deeper.png").mkdir()
    return tmp_path


def test_a_folder_is_read_in_the_order_of_names(folder: Path, pixels: np.ndarray) -> None:
    names, pictures = read_pictures(folder)
    assert names == ("a.png", "b.png", "c.png")
    assert (pictures.dtype, pictures.shape) == (np.uint8, (3, 12, 8, 3))
    assert (pictures == pixels).all()


def test_files_are_read_in_the_order_given(folder: Path, pixels: np.ndarray) -> None:
    names, pictures = read_pictures([folder / "c.png", folder / "a.png"])
    assert names == ("c.png", "a.png")
    assert (pictures == pixels[[2, 0]]).all()


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
    names, pictures = read_pictures(tmp_path)
    assert names == (f"white{suffix}",)
    assert pictures.shape == (1, 12, 8, 3)
    assert pictures.min() >= 254


def test_more_than_8_bits_are_refused_rather_than_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InvalidInputError, match=r"8 bits a channel.*deep\.png"):
        read_pictures(tmp_path)


def test_pictures_of_different_sizes_are_refused(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "d.png")
    with pytest.raises(InvalidInputError, match=r"a\.png' has 8 x 12 pixels, and .*d\.png' 8 x 8"):
        read_pictures(folder)


def test_a_folder_without_pictures_is_refused_and_its_subfolders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no PNG or JPEG"):
        read_pictures(tmp_path)
    (tmp_path / "base").mkdir()
    with pytest.raises(InvalidInputError, match="subfolders are base: give one"):
        read_pictures(tmp_path)
    with pytest.raises(InvalidInputError, match="No picture was given"):
        read_pictures([])


def test_missing_places_are_refused(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        read_pictures(folder / "nowhere")
    with pytest.raises(NotFoundError, match="no picture"):
        read_pictures([folder / "nothing.png"])
    with pytest.raises(InvalidInputError, match="is a file"):
        read_pictures(folder / "a.png")


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
        read_pictures(tmp_path)


def test_a_flipped_byte_is_refused(folder: Path) -> None:
    path = folder / "b.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"b\.png' is damaged"):
        read_pictures(folder)


def test_another_kind_of_file_under_the_name_of_a_picture_is_refused(folder: Path) -> None:
    Image.new("RGB", (8, 12)).save(folder / "z.png", format="BMP")
    with pytest.raises(IntegrityError, match=r"z\.png' is no PNG or JPEG"):
        read_pictures(folder)
