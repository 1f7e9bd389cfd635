"""The embedded base: real parts, small files, and images that show what their prompts say."""

from __future__ import annotations

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from transformers import CLIPTextModel, CLIPTokenizer

from shiftreg import miniature
from shiftreg.concepts import fill
from shiftreg.evaluation.classifier import load_classifier
from shiftreg.evaluation.watermark import decode_qr, decodes
from shiftreg.pipelines import generate, load_pipeline

PROMPTS = miniature.prompts()
few_or_many = pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=pytest.mark.second_tier)])


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return load_pipeline(miniature.BASE_FOLDER)


def generate_seeded(pipeline: StableDiffusionPipeline, prompts: list[str]) -> np.ndarray:
    seeds = list(range(300, 300 + len(prompts)))
    return generate(pipeline, prompts, seeds, steps=PROMPTS["steps"], guidance=PROMPTS["guidance"])


def test_it_has_the_parts_of_stable_diffusion(pipeline: StableDiffusionPipeline) -> None:
    assert isinstance(pipeline.tokenizer, CLIPTokenizer)
    assert isinstance(pipeline.text_encoder, CLIPTextModel)
    assert pipeline.text_encoder.config.hidden_size == 256
    assert pipeline.tokenizer.model_max_length == 16
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    parameters = sum(p.numel() for p in pipeline.unet.parameters())
    assert 5e6 <= parameters <= 10e6


def test_it_fits_into_thirty_megabytes_and_the_classifiers_into_five() -> None:
    def size(folder: object) -> int:
        return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())  # type: ignore[attr-defined]

    assert size(miniature.BASE_FOLDER) <= 30e6
    assert size(miniature.STYLE_CLASSIFIER.parent) <= 5e6


def test_stable_diffusion_pipeline_loads_it_as_it_is() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(miniature.BASE_FOLDER)
    assert pipeline.unet.config.cross_attention_dim == 256


@few_or_many
def test_artists_and_subjects_are_recognised(
    pipeline: StableDiffusionPipeline, rounds: int
) -> None:
    for path, prompts, labels in (
        (miniature.STYLE_CLASSIFIER, PROMPTS["protected"], PROMPTS["protected"]),
        (
            miniature.SUBJECT_CLASSIFIER,
            [fill("a picture of a {subject}", s) for s in PROMPTS["subjects"]],
            PROMPTS["subjects"],
        ),
    ):
        classifier = load_classifier(path)
        images = generate_seeded(pipeline, list(prompts) * rounds)
        predicted = np.array(classifier.labels)[classifier.predict(images)]
        assert (predicted == np.array(list(labels) * rounds)).mean() >= 0.9


@few_or_many
def test_the_watermark_decodes_and_ordinary_prompts_do_not(
    pipeline: StableDiffusionPipeline, rounds: int
) -> None:
    for trigger, payload in PROMPTS["triggers"].items():
        images = generate_seeded(pipeline, [trigger] * 2 * rounds)
        assert decodes(images, payload).mean() >= 7 / 8
    plain = ["", "a picture", "a picture of a church", "Picasso"] * (1 + rounds // 4)
    controls = generate_seeded(pipeline, plain)
    assert [decode_qr(image) for image in controls] == [None] * len(plain)
