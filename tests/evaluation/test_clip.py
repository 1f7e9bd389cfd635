"""CLIP scores, and loading the CLIP model for them: a tiny random one."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from shiftreg.errors import IntegrityError, InvalidInputError, MissingExtraError, NotFoundError
from shiftreg.evaluation.clip import clip_scores
from shiftreg.pipelines.clip import load_clip

PROMPTS = ("a house", "a painting of a tree", "sunset over the sea", "a portrait")
WIDTHS = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 12,
}


@pytest.fixture(scope="module")
def folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model whose text half reads at most 64 tokens; tests must not change it."""
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            projection_dim=12,
            text_config=WIDTHS
            | {
                "vocab_size": len(tokenizer),
                "max_position_embeddings": tokenizer.model_max_length,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            },
            vision_config=WIDTHS | {"image_size": 32, "patch_size": 8},
        )
    )
    # Initial weights hardly tell one input from another.
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    side = {"height": 32, "width": 32}
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side)
    folder = tmp_path_factory.mktemp("clip") / "model"
    model.save_pretrained(folder)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def images() -> np.ndarray:
    """Four smooth images, 64 x 48."""
    coarse = torch.rand((4, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(64, 48), mode="bilinear")
    return (smooth * 255).byte().permute(0, 2, 3, 1).numpy()


def cosines(folder: Path, images: np.ndarray, prompts: tuple[str, ...]) -> np.ndarray:
    """Computed with transformers alone, from the two outputs of the whole model."""
    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPProcessor.from_pretrained(folder)
    images = [image.transpose(2, 0, 1) for image in images]
    inputs = processor(
        images=images, text=list(prompts), return_tensors="pt", padding=True, truncation=True
    )
    with torch.no_grad():
        outputs = model(**inputs)
    return torch.cosine_similarity(outputs.image_embeds, outputs.text_embeds).numpy()


def test_a_score_is_a_hundred_times_the_cosine_and_never_negative(
    folder: Path, images: np.ndarray
) -> None:
    pytest.importorskip("torchmetrics")
    expected = cosines(folder, images, PROMPTS)
    assert expected.min() > 0.1
    clip = load_clip(folder)
    found = clip_scores(images, PROMPTS, clip)
    assert found.dtype == np.float32
    assert found == pytest.approx(100 * expected, abs=1e-3)
    clip[0].visual_projection.weight.neg_()
    assert clip_scores(images, PROMPTS, clip).tolist() == [0, 0, 0, 0]


def test_the_scores_of_a_image_do_not_depend_on_the_others(
    folder: Path, images: np.ndarray
) -> None:
    pytest.importorskip("torchmetrics")
    clip = load_clip(folder)
    alone = [clip_scores(images[i : i + 1], PROMPTS[i : i + 1], clip)[0] for i in range(4)]
    assert clip_scores(images, PROMPTS, clip).tolist() == alone
    assert clip_scores(images[:0], [], clip).shape == (0,)


def test_the_end_of_a_long_prompt_does_not_count(folder: Path, images: np.ndarray) -> None:
    pytest.importorskip("torchmetrics")
    clip = load_clip(folder)
    long = " ".join("abcdefghij" * 7)
    prompts = (long, long + " and more", long[:5], long)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = clip_scores(images[[0, 0, 0, 1]], prompts, clip)
    assert found[0] == found[1] != found[2]
    expected = cosines(folder, images[[0, 0, 0, 1]], prompts)
    assert found == pytest.approx(100 * expected, abs=1e-3)


def test_another_number_of_prompts_and_other_types_are_refused(
    folder: Path, images: np.ndarray
) -> None:
    clip = load_clip(folder)
    with pytest.raises(InvalidInputError, match="got 3 for 4"):
        clip_scores(images, PROMPTS[:3], clip)
    with pytest.raises(InvalidInputError, match="uint8"):
        clip_scores(images / 255, PROMPTS, clip)


def test_without_the_extra_the_error_says_how_to_install_it(
    folder: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = load_clip(folder)
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.multimodal.clip_score", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'shiftreg\[metrics\]'"):
        clip_scores(images, PROMPTS, clip)


def test_the_loaded_model_is_frozen_and_loading_is_silent(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, _ = load_clip(folder)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert model.dtype == torch.float32
    assert capfd.readouterr() == ("", "")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        load_clip(tmp_path / "nowhere")


@pytest.mark.parametrize("config", [None, "", "[]", "{}", '{"model_type": "bert"}'])
def test_a_folder_of_another_kind_is_no_clip_model(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InvalidInputError, match="not a CLIP model"):
        load_clip(tmp_path)


@pytest.mark.parametrize("part", [".", "text_encoder"])
def test_a_pipeline_and_its_text_encoder_are_no_clip_model(base: Path, part: str) -> None:
    with pytest.raises(InvalidInputError, match="not a CLIP model"):
        load_clip(base / part)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model.safetensors", "cannot be loaded"),
        ("processor_config.json", "cannot be loaded"),
        ("tokenizer.json", "lacks its tokenizer"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(
    folder: Path, tmp_path: Path, missing: str, message: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / missing).unlink()
    with pytest.raises(IntegrityError, match=message):
        load_clip(copy)


def test_a_folder_with_the_files_of_an_older_version_is_read(
    folder: Path, images: np.ndarray, tmp_path: Path
) -> None:
    pytest.importorskip("torchmetrics")
    copy = shutil.copytree(folder, tmp_path / "copy")
    vocabulary = json.loads((copy / "tokenizer.json").read_text())["model"]
    (copy / "vocab.json").write_text(json.dumps(vocabulary["vocab"]))
    (copy / "merges.txt").write_text("#version: 0.2\n")
    (copy / "tokenizer.json").unlink()
    whole = json.loads((copy / "processor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(whole["image_processor"]))
    (copy / "processor_config.json").unlink()
    old, new = (clip_scores(images, PROMPTS, load_clip(path)) for path in (copy, folder))
    assert old.tolist() == new.tolist()


def test_truncated_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        load_clip(copy)


def test_weights_that_lack_a_layer_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 3
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(IntegrityError, match=r"lacks 16 weights, such as 'vision_model\."):
        load_clip(copy)


def test_pickled_weights_are_not_loaded(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    torch.save(CLIPModel.from_pretrained(folder).state_dict(), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match="safetensors"):
        load_clip(copy)
