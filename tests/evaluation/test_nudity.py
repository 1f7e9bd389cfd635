"""Counting exposed body parts, on images that show none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftreg import miniature
from shiftreg.errors import InvalidInputError, MissingExtraError
from shiftreg.evaluation import nudity
from shiftreg.evaluation.nudity import EXPOSED_PARTS, best_scores, exposed_parts
from shiftreg.pipelines import generate, load_pipeline

nudenet = pytest.importorskip("nudenet")


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """An astronaut in her suit, of which NudeNet detects the face."""
    data = pytest.importorskip("skimage.data")
    return data.astronaut()


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(3, 64, 64, 3), dtype=np.uint8)


def test_the_parts_are_all_that_the_detector_calls_exposed() -> None:
    labels = vars(nudenet.nudenet)["__labels"]
    assert sorted(EXPOSED_PARTS) == sorted(label for label in labels if label.endswith("_EXPOSED"))
    assert len(EXPOSED_PARTS) == 9


def test_noise_and_plain_images_show_nothing(noise: np.ndarray) -> None:
    images = np.concatenate([noise, np.full_like(noise, 200), np.zeros_like(noise)])
    assert exposed_parts(images) == [{}] * 9


def test_the_miniatures_images_show_nothing() -> None:
    pipeline = load_pipeline(miniature.BASE_FOLDER)
    prompts = ["a house by Van Gogh", "a portrait of a woman", "a boat by Picasso"]
    images = generate(pipeline, prompts, [0, 1, 2], steps=8, guidance=3)
    assert exposed_parts(images) == [{}] * 3


def test_a_dressed_person_shows_nothing(portrait: np.ndarray) -> None:
    assert exposed_parts(portrait[None]) == [{}]


@pytest.fixture
def detections(portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What the detector really says of the portrait: a face, with its score and box."""
    found = nudity._detector().detect(np.ascontiguousarray(portrait[..., ::-1]))
    assert [set(detection) for detection in found] == [{"class", "score", "box"}]
    assert found[0]["class"] == "FACE_FEMALE"
    assert 0.25 < found[0]["score"] < 1
    return found


def test_a_face_is_no_exposed_part_and_an_exposed_part_is(
    detections: list[dict[str, object]],
) -> None:
    assert best_scores(detections) == {}
    as_covered = [detection | {"class": "BELLY_COVERED"} for detection in detections]
    assert best_scores(as_covered) == {}
    as_part = [detection | {"class": "BELLY_EXPOSED"} for detection in detections]
    assert best_scores(as_part) == {"BELLY_EXPOSED": detections[0]["score"]}


def test_a_part_that_is_found_twice_counts_with_its_surest_detection() -> None:
    found = [
        {"class": "FEET_EXPOSED", "score": 0.3, "box": [0, 0, 5, 5]},
        {"class": "FEET_EXPOSED", "score": 0.7, "box": [5, 0, 5, 5]},
        {"class": "FEET_EXPOSED", "score": 0.5, "box": [9, 0, 5, 5]},
        {"class": "ARMPITS_EXPOSED", "score": 0.4, "box": [0, 9, 5, 5]},
    ]
    assert best_scores(found) == {"ARMPITS_EXPOSED": 0.4, "FEET_EXPOSED": 0.7}
    assert best_scores([]) == {}


def test_images_are_read_as_the_detector_reads_files(
    portrait: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nudity, "EXPOSED_PARTS", ("FACE_FEMALE",))
    Image.fromarray(portrait).save(tmp_path / "portrait.png")
    (from_file,) = nudenet.NudeDetector().detect(str(tmp_path / "portrait.png"))
    # Red and blue exchanged, its confidence is another one.
    (exchanged,) = nudenet.NudeDetector().detect(portrait)
    assert abs(from_file["score"] - exchanged["score"]) > 0.01
    assert exposed_parts(portrait[None])[0]["FACE_FEMALE"] == pytest.approx(from_file["score"])


def test_no_images_and_other_types_are_refused(noise: np.ndarray) -> None:
    assert exposed_parts(noise[:0]) == []
    with pytest.raises(InvalidInputError, match="uint8"):
        exposed_parts(noise.astype(np.float32))


def test_without_the_extra_the_error_says_how_to_install_it(
    noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    nudity._detector.cache_clear()
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'shiftreg\[nudity\]'"):
        exposed_parts(noise)
