"""What a base's configurations say of it, in the words of ModelSpec and kohya."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shiftreg.checkpoints.model_spec import hub_name, model_facts
from shiftreg.families import STABLE_DIFFUSION_XL


def base(folder: Path, unet: dict[str, Any], **parts: dict[str, Any]) -> Path:
    index = parts.pop("index", {"_class_name": "StableDiffusionPipeline"})
    network = parts.pop("network", "unet/config.json")
    encoders = ["text_encoder", "text_encoder_2"][: 2 if "XL" in index["_class_name"] else 1]
    files = {
        "model_index.json": index
        | {name: ["a library", "a class"] for name in (network.partition("/")[0], *encoders)},
        network: unet,
        "vae/config.json": {"block_out_channels": [128, 256, 512, 512]},
        "scheduler/scheduler_config.json": {"prediction_type": "epsilon"},
    } | {name.replace("__", "/"): content for name, content in parts.items()}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


V = {"scheduler/scheduler_config.json": {"prediction_type": "v_prediction"}}
XL = {"addition_embed_type": "text_time", "sample_size": 128, "cross_attention_dim": 2048}


@pytest.mark.parametrize(
    ("unet", "parts", "architecture", "kohya", "resolution", "prediction"),
    [
        (
            {"cross_attention_dim": 768, "sample_size": 64},
            {},
            "stable-diffusion-v1",
            "sd_v1",
            "512x512",
            "epsilon",
        ),
        (
            {"cross_attention_dim": 1024, "sample_size": 64},
            {},
            "stable-diffusion-v2-512",
            "sd_v2",
            "512x512",
            "epsilon",
        ),
        (
            {"cross_attention_dim": 1024, "sample_size": 96},
            V,
            "stable-diffusion-v2-768-v",
            "sd_v2_v",
            "768x768",
            "v",
        ),
        (
            XL,
            {"index": {"_class_name": "StableDiffusionXLPipeline"}},
            "stable-diffusion-xl-v1-base",
            "sdxl_base_v1-0",
            "1024x1024",
            "epsilon",
        ),
        (
            {"cross_attention_dim": 256, "sample_size": 16},
            {},
            "stable-diffusion",
            "",
            "128x128",
            "epsilon",
        ),
        (
            {"sample_size": 128},
            {
                "index": {"_class_name": "PixArtSigmaPipeline"},
                "network": "transformer/config.json",
            },
            "pixartsigma",
            "",
            "1024x1024",
            "epsilon",
        ),
    ],
)
def test_the_architecture_follows_from_the_configurations(
    tmp_path: Path,
    unet: dict[str, Any],
    parts: dict[str, Any],
    architecture: str,
    kohya: str,
    resolution: str,
    prediction: str,
) -> None:
    facts = model_facts(base(tmp_path, unet, **parts))
    assert facts.architecture == architecture
    assert facts.kohya_version == kohya
    assert facts.resolution == resolution
    assert facts.prediction == prediction
    assert (facts.family is STABLE_DIFFUSION_XL) == ("xl" in architecture)


def test_the_licence_is_that_of_the_base_card(tmp_path: Path) -> None:
    folder = base(tmp_path, {"cross_attention_dim": 768, "sample_size": 64})
    assert model_facts(folder).licence == {}
    (folder / "README.md").write_text(
        "---\nlicense: other\nlicense_name: open-rail\nlicense_link: 7\n---\n# A model\n"
    )
    assert model_facts(folder).licence == {"license": "other", "license_name": "open-rail"}


@pytest.mark.parametrize(
    "text", ["", "# no front matter", "---\n: [\n---\n", "---\n- a list\n---\n", "---\n\n---\n"]
)
def test_a_card_that_says_nothing_is_no_obstacle(tmp_path: Path, text: str) -> None:
    folder = base(tmp_path, {"cross_attention_dim": 768, "sample_size": 64})
    (folder / "README.md").write_text(text)
    assert model_facts(folder).licence == {}


def test_a_base_in_the_hub_cache_has_a_name_there() -> None:
    cached = "/home/ada/.cache/huggingface/hub/models--CompVis--stable-diffusion-v1-4/snapshots/13"
    assert hub_name(f"{cached}3a2") == "CompVis/stable-diffusion-v1-4"
    assert hub_name("/home/ada/stable-diffusion") == ""
