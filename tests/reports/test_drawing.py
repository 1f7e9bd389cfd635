from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from shiftreg.reports import curve, embed_image


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_small_image_is_kept_to_the_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    drawn = embed_image(image, "noise")
    assert (np.asarray(decoded(drawn.uri)) == image).all()
    assert (drawn.width, drawn.height, drawn.is_small) == (64, 64, True)


def test_a_large_image_is_reduced_in_proportion() -> None:
    drawn = embed_image(np.zeros((512, 1024, 3), dtype=np.uint8), "black")
    assert (drawn.width, drawn.height, drawn.is_small) == (256, 128, False)
    assert decoded(drawn.uri).size == (256, 128)


def points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


def test_a_curve_runs_through_its_box_and_up_is_more() -> None:
    drawn = curve("loss", [(1, 4.0), (2, 2.0), (5, 3.0)])
    assert drawn is not None
    assert points(drawn.points) == [(66, 12), (127.5, 112), (312, 62)]
    assert (drawn.top, drawn.bottom, drawn.start, drawn.end) == ("4", "2", 1, 5)
    assert not drawn.logarithmic


def test_a_curve_over_powers_of_ten_is_logarithmic() -> None:
    drawn = curve("loss", [(1, 1.0), (2, 0.01), (3, 0.0001)])
    assert drawn is not None
    assert drawn.logarithmic
    assert [y for _, y in points(drawn.points)] == [12, 62, 112]


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    drawn = curve("loss", [(step, float(step)) for step in range(1, 5001)])
    assert drawn is not None
    line = points(drawn.points)
    assert len(line) <= 301
    assert (line[0], line[-1]) == ((66, 112), (312, 12))


def test_a_constant_has_one_label() -> None:
    drawn = curve("tau", [(1, 0.5), (2, 0.5)])
    assert drawn is not None
    assert (drawn.top, drawn.bottom) == ("0.5", "")


@pytest.mark.parametrize("history", [[], [(1, 0.5)], [(1, float("nan")), (2, 1.0)]])
def test_fewer_than_two_values_are_no_curve(history: list[tuple[int, float]]) -> None:
    assert curve("loss", history) is None
