from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from diffusers.utils import convert_state_dict_to_kohya
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from safetensors.torch import load_file, save_file
from torch import Tensor

from shiftreg.checkpoints import WeightChange, read_foreign
from shiftreg.checkpoints.base_folder import read_config
from shiftreg.checkpoints.compvis import unet_key
from shiftreg.errors import IncompatibleError, IntegrityError, InvalidInputError

Pairs = dict[str, tuple[Tensor, Tensor]]
RANK = 3
TO_K = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
FLAT_TO_K = TO_K.replace(".", "_")
CONV = "down_blocks.0.resnets.1.conv1"


def peft_keys(pairs: Pairs, prefix: str = "unet.") -> dict[str, Tensor]:
    tensors = {}
    for module, (down, up) in pairs.items():
        tensors[f"{prefix}{module}.lora_A.weight"] = down
        tensors[f"{prefix}{module}.lora_B.weight"] = up
    return tensors


def kohya_keys(pairs: Pairs, rename: Callable[[str], str] = lambda module: module) -> dict:
    tensors = {}
    for module, (down, up) in pairs.items():
        flat = "lora_unet_" + rename(module).replace(".", "_")
        tensors[f"{flat}.lora_down.weight"] = down
        tensors[f"{flat}.lora_up.weight"] = up
    return tensors


def with_alpha(tensors: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    modules = {name.partition(".")[0] for name in tensors}
    return {**tensors, **{f"{module}.alpha": torch.tensor(alpha) for module in modules}}


def assert_deltas(change: WeightChange, expected: Mapping[str, Tensor], scale: float = 1) -> None:
    assert change.deltas.keys() == expected.keys()
    for name, delta in change.deltas.items():
        assert delta.dtype == torch.float32
        # Within the rounding to single precision.
        assert torch.allclose(delta.double(), scale * expected[name], rtol=1e-7, atol=1e-12), name


@pytest.fixture
def read(tmp_path: Path, stable_diffusion_base: Path) -> Callable[..., WeightChange]:
    """Saves tensors and reads them as a change of the base."""

    def save_and_read(
        tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None, **options: Any
    ) -> WeightChange:
        path = tmp_path / "lora.safetensors"
        copies = {
            name: tensor.clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        save_file(copies, path, metadata)
        return read_foreign(path, stable_diffusion_base, **options)

    return save_and_read


Read = Callable[..., WeightChange]


# Styles


@pytest.mark.parametrize("prefix", ["unet.", "", "base_model.model.", "base_model.model.unet."])
def test_peft_keys_of_every_prefix_give_up_times_down(
    read: Read, pairs: Pairs, products: dict[str, Tensor], unet: dict[str, Tensor], prefix: str
) -> None:
    change = read(peft_keys(pairs, prefix))
    assert change.form == "lora, diffusers/PEFT"
    assert_deltas(change, products)
    assert all(delta.shape == unet[name].shape for name, delta in change.deltas.items())
    assert change.details["ranks"] == [RANK]
    assert change.details["layers"] == len(pairs)
    assert change.details["keys"] == 2 * len(pairs)
    assert change.left_out == ()
    json.dumps(change.details)


def test_a_lora_that_diffusers_saved_is_read(
    pairs: Pairs, products: dict[str, Tensor], tmp_path: Path, stable_diffusion_base: Path
) -> None:
    StableDiffusionPipeline.save_lora_weights(tmp_path / "lora", peft_keys(pairs, ""))
    assert_deltas(read_foreign(tmp_path / "lora", stable_diffusion_base), products)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path / "lora", peft_keys(pairs, ""), weight_name="x.bin", safe_serialization=False
    )
    assert_deltas(read_foreign(tmp_path / "lora" / "x.bin", stable_diffusion_base), products)


def test_the_adapter_metadata_that_diffusers_saves_scales_each_layer(
    pairs: Pairs, products: dict[str, Tensor], tmp_path: Path, stable_diffusion_base: Path
) -> None:
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        peft_keys(pairs, ""),
        unet_lora_adapter_metadata={
            "r": RANK,
            "lora_alpha": 6,
            "alpha_pattern": {"attn2.to_k": 1.5, "^mid_block.*": 12},
            "use_rslora": False,
            "target_modules": {"to_k"},
        },
    )
    change = read_foreign(tmp_path / "pytorch_lora_weights.safetensors", stable_diffusion_base)
    for name, delta in change.deltas.items():
        scale = 0.5 if "attn2.to_k" in name else 4 if name.startswith("mid_block") else 2
        assert torch.allclose(delta.double(), scale * products[name], rtol=1e-6), name
    assert change.details["alphas"] == [1.5, 6, 12]


def test_a_unet_that_saved_its_own_adapter_needs_no_prefix(
    read: Read, pairs: Pairs, products: dict[str, Tensor]
) -> None:
    metadata = {"lora_adapter_metadata": json.dumps({"r": RANK, "lora_alpha": 9})}
    assert_deltas(read(peft_keys(pairs, ""), metadata), products, 3)


def test_metadata_of_the_text_encoder_alone_does_not_scale_the_unet(
    read: Read, pairs: Pairs, products: dict[str, Tensor]
) -> None:
    metadata = {"text_encoder.r": 1, "text_encoder.lora_alpha": 9}
    change = read(peft_keys(pairs), {"lora_adapter_metadata": json.dumps(metadata)})
    assert_deltas(change, products)


@pytest.mark.parametrize("in_folder", [True, False])
@pytest.mark.parametrize(("stabilised", "scale"), [(False, 8 / RANK), (True, 8 / math.sqrt(RANK))])
def test_the_configuration_beside_a_peft_adapter_is_honoured(
    pairs: Pairs,
    products: dict[str, Tensor],
    tmp_path: Path,
    stable_diffusion_base: Path,
    in_folder: bool,
    stabilised: bool,
    scale: float,
) -> None:
    path = tmp_path / "adapter_model.safetensors"
    save_file(peft_keys(pairs, "base_model.model."), path)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "use_rslora": stabilised}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    change = read_foreign(tmp_path if in_folder else path, stable_diffusion_base)
    assert_deltas(change, products, scale)
    assert change.details["rank_stabilised"] is stabilised


def test_layers_may_have_ranks_of_their_own(
    read: Read, pairs: Pairs, products: dict[str, Tensor]
) -> None:
    generator = torch.Generator().manual_seed(5)
    down, up = torch.randn(5, 8, generator=generator), torch.randn(8, 5, generator=generator)
    config = {"r": RANK, "lora_alpha": RANK, "rank_pattern": {"attn2.to_k": 5}}
    change = read(
        peft_keys({**pairs, TO_K: (down, up)}),
        {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in config.items()})},
    )
    expected = {**products, f"{TO_K}.weight": up.double() @ down.double() * 3 / 5}
    assert_deltas(change, expected)
    assert change.details["ranks"] == [3, 5]


def test_the_first_diffusers_styles_are_read(
    read: Read, pairs: Pairs, products: dict[str, Tensor]
) -> None:
    tensors = {}
    for module, (down, up) in pairs.items():
        parent, _, layer = module.partition(".to_")
        stem = f"{module}.lora"
        if layer:
            stem = f"{parent}.processor.to_{layer.removesuffix('.0')}_lora"
        tensors[f"{stem}.down.weight"], tensors[f"{stem}.up.weight"] = down, up
    # An independent reader finds the same modules.
    assert convert_unet_state_dict_to_peft(tensors).keys() == peft_keys(pairs, "").keys()
    for prefix in ("", "unet."):
        assert_deltas(read({prefix + name: t for name, t in tensors.items()}), products)
    assert_deltas(
        read({name.replace(".processor.", "."): t for name, t in tensors.items()}), products
    )


def test_a_lora_that_diffusers_converted_to_kohya_is_read(
    read: Read, pairs: Pairs, products: dict[str, Tensor]
) -> None:
    tensors = convert_state_dict_to_kohya(peft_keys(pairs))
    assert f"lora_unet_{FLAT_TO_K}.lora_down.weight" in tensors
    assert tensors[f"lora_unet_{FLAT_TO_K}.alpha"].dtype == torch.int64
    change = read(tensors)
    assert change.form == "lora, kohya"
    assert_deltas(change, products)
    assert change.details["alphas"] == [RANK]


@pytest.mark.parametrize("alpha", [1.0, 0.25, -2.0])
def test_the_alpha_of_kohya_files_is_divided_by_the_rank(
    read: Read, pairs: Pairs, products: dict[str, Tensor], alpha: float
) -> None:
    change = read(with_alpha(kohya_keys(pairs), alpha))
    assert_deltas(change, products, alpha / RANK)
    assert change.details["alphas"] == [alpha]


def test_without_an_alpha_the_scale_is_one(
    read: Read, pairs: Pairs, products: dict[str, Tensor]
) -> None:
    assert_deltas(read(kohya_keys(pairs)), products)


def test_alphas_in_diffusers_names_are_honoured(
    read: Read, pairs: Pairs, products: dict[str, Tensor]
) -> None:
    alphas = {f"unet.{module}.alpha": torch.tensor(6.0) for module in pairs}
    assert_deltas(read(peft_keys(pairs) | alphas), products, 2)


def test_kohya_files_with_compvis_names_are_read(
    read: Read, pairs: Pairs, products: dict[str, Tensor], stable_diffusion_base: Path
) -> None:
    config = read_config(stable_diffusion_base / "unet")

    def compvis(module: str) -> str:
        return unet_key(f"{module}.weight", config).removesuffix(".weight")

    tensors = kohya_keys(pairs, compvis)
    down = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight"
    assert torch.equal(tensors[down], pairs[TO_K][0])
    change = read(with_alpha(tensors, 1.0))
    assert change.details["style"] == "kohya, CompVis names"
    assert_deltas(change, products, 1 / RANK)


@pytest.mark.parametrize("names", ["diffusers", "CompVis"])
def test_diffusers_finds_the_same_layers_in_kohya_files(
    pairs: Pairs, stable_diffusion_base: Path, names: str, read: Read
) -> None:
    class Config:
        layers_per_block = 2

    config = read_config(stable_diffusion_base / "unet")
    tensors = kohya_keys(
        # The converter of diffusers gives other layers no name that its own UNet has.
        {module: pair for module, pair in pairs.items() if "attentions" in module},
        (lambda module: module)
        if names == "diffusers"
        else lambda module: unet_key(f"{module}.weight", config).removesuffix(".weight"),
    )
    change = read(tensors)
    mapped = _maybe_map_sgm_blocks_to_diffusers(dict(tensors), Config())
    converted, _ = _convert_non_diffusers_lora_to_diffusers(mapped)
    found = convert_unet_state_dict_to_peft(converted)
    modules = {name.removeprefix("unet.").partition(".lora_")[0] for name in found}
    assert {f"{module}.weight" for module in modules} == change.deltas.keys()


def test_differences_of_weights_and_biases_are_taken_as_they_are(
    read: Read, unet: dict[str, Tensor], pairs: Pairs, products: dict[str, Tensor]
) -> None:
    generator = torch.Generator().manual_seed(6)
    expected = {
        name: torch.randn(unet[name].shape, generator=generator).double()
        for name in ("conv_in.weight", "conv_in.bias", "conv_norm_out.weight")
    }
    change = read(
        kohya_keys(pairs)
        | {
            "lora_unet_conv_in.diff": expected["conv_in.weight"].float(),
            "lora_unet_conv_in.diff_b": expected["conv_in.bias"].float(),
            "lora_unet_conv_norm_out.diff": expected["conv_norm_out.weight"].float(),
        }
    )
    assert_deltas(change, products | expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_factors_of_any_precision_are_multiplied_in_double(
    read: Read, pairs: Pairs, dtype: torch.dtype
) -> None:
    down, up = (factor.to(dtype) for factor in pairs[TO_K])
    change = read(peft_keys({TO_K: (down, up)}))
    assert torch.equal(change.deltas[f"{TO_K}.weight"], (up.double() @ down.double()).float())
    assert change.details["dtype"] == str(dtype).removeprefix("torch.")


def test_a_linear_layer_and_a_convolution_of_one_pixel_are_the_same(
    read: Read, pairs: Pairs, products: dict[str, Tensor], unet: dict[str, Tensor]
) -> None:
    proj_in = "down_blocks.1.attentions.0.proj_in"
    assert unet[f"{proj_in}.weight"].ndim == 4
    down, up = pairs[proj_in]
    linear = {proj_in: (down.flatten(1), up.flatten(1))}
    assert_deltas(read(peft_keys(linear)), {f"{proj_in}.weight": products[f"{proj_in}.weight"]})
    down, up = pairs[TO_K]
    convolution = {TO_K: (down[:, :, None, None], up[:, :, None, None])}
    assert_deltas(read(peft_keys(convolution)), {f"{TO_K}.weight": products[f"{TO_K}.weight"]})


def test_layers_that_do_not_change_are_dropped(read: Read, pairs: Pairs) -> None:
    untrained = {TO_K: (pairs[TO_K][0], torch.zeros_like(pairs[TO_K][1]))}
    change = read(peft_keys(pairs | untrained))
    assert change.deltas.keys() == {f"{module}.weight" for module in pairs if module != TO_K}
    with pytest.raises(InvalidInputError, match="never trained"):
        read(peft_keys(untrained))


# Refusals


@pytest.mark.parametrize(
    "key",
    [
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
    ],
)
def test_a_kohya_text_encoder_is_refused_or_left_out_and_said(
    read: Read, pairs: Pairs, products: dict[str, Tensor], key: str
) -> None:
    tensors = kohya_keys(pairs) | {key: torch.zeros(2, 8)}
    with pytest.raises(InvalidInputError, match=f"text encoder: {key}.*--unet-only"):
        read(tensors)
    change = read(tensors, unet_only=True)
    assert_deltas(change, products)
    (sentence,) = change.left_out
    assert key in sentence


@pytest.mark.parametrize("prefix", ["text_encoder.text_model.", "text_encoder_2.", "text_model."])
def test_a_diffusers_text_encoder_is_refused_or_left_out_and_said(
    read: Read, pairs: Pairs, products: dict[str, Tensor], prefix: str
) -> None:
    key = f"{prefix}encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight"
    tensors = peft_keys(pairs) | {key: torch.zeros(2, 8), key.replace("down", "up"): torch.ones(8)}
    with pytest.raises(InvalidInputError, match="and 1 more"):
        read(tensors)
    assert_deltas(read(tensors, unet_only=True), products)


def test_a_text_encoder_alone_leaves_nothing_to_import(read: Read) -> None:
    with pytest.raises(InvalidInputError, match="changes only a text encoder"):
        read({"lora_te_x.lora_down.weight": torch.zeros(2, 8)}, unet_only=True)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (f"lora_unet_{FLAT_TO_K}.hada_w1_a", "LoHa"),
        (f"lora_unet_{FLAT_TO_K}.lokr_w1", "LoKr"),
        (f"lora_unet_{FLAT_TO_K}.dora_scale", "DoRA"),
        (f"lora_unet_{FLAT_TO_K}.lora_mid.weight", "three factors"),
        (f"lora_unet_{FLAT_TO_K}.oft_blocks", "OFT"),
        (f"lora_unet_{FLAT_TO_K}.novel", "no LoRA known"),
        (f"unet.{TO_K}.lora_magnitude_vector", "DoRA"),
        (f"unet.{TO_K}.lokr_w1", "LoKr"),
        (f"unet.{TO_K}.lora_B.bias", "no LoRA known"),
        (f"unet.{TO_K}.weight", "no LoRA known"),
        (f"{TO_K.removesuffix('.to_k')}.processor.to_k_custom_diffusion.weight", "no LoRA known"),
    ],
)
def test_relatives_of_loras_are_refused_with_a_way_out(
    read: Read, pairs: Pairs, key: str, kind: str
) -> None:
    tensors = (kohya_keys if key.startswith("lora_unet") else peft_keys)(pairs)
    with pytest.raises(InvalidInputError, match=f"{kind}.*Merge it into a checkpoint") as caught:
        read(tensors | {key: torch.ones(8, 8)})
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("key", "architecture"),
    [
        ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_k", "Stable Diffusion XL"),
        ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_3_attn2_to_k", "Diffusion XL"),
        ("lora_unet_label_emb_0_0", "Stable Diffusion XL"),
        ("lora_unet_double_blocks_0_img_attn_qkv", "Flux"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", "Stable Diffusion 3"),
    ],
)
def test_layers_of_another_architecture_are_named(read: Read, key: str, architecture: str) -> None:
    pair = {f"{key}.lora_down.weight": torch.ones(2, 8), f"{key}.lora_up.weight": torch.ones(8, 2)}
    with pytest.raises(
        IncompatibleError, match=f"{key.removeprefix('lora_unet_')}.*{architecture}"
    ):
        read(pair)


@pytest.mark.parametrize(
    ("prefix", "architecture"),
    [
        ("transformer.single_transformer_blocks.0.attn.to_q", "Flux"),
        ("transformer.transformer_blocks.0.attn.to_q", "Stable Diffusion 3"),
        ("down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q", "AnimateDiff"),
    ],
)
def test_peft_layers_of_another_architecture_are_named(
    read: Read, prefix: str, architecture: str
) -> None:
    layer = prefix.removeprefix("transformer.")
    with pytest.raises(IncompatibleError, match=f"no layer '{layer}'.*{architecture}"):
        read(peft_keys({prefix: (torch.ones(2, 8), torch.ones(8, 2))}, ""))


def test_a_layer_that_no_known_model_has_is_named(read: Read, pairs: Pairs) -> None:
    with pytest.raises(IncompatibleError, match=r"no layer 'nowhere\.to_q', which") as caught:
        read(peft_keys(pairs | {"nowhere.to_q": pairs[TO_K]}))
    assert "probably" not in str(caught.value)


@pytest.mark.parametrize(
    ("width", "architecture"),
    [(768, "1.x"), (1024, "2.x"), (2048, "XL")],
)
def test_another_width_is_refused_with_both_shapes(
    read: Read, width: int, architecture: str
) -> None:
    pair = {TO_K: (torch.ones(2, width), torch.ones(8, 2))}
    message = rf"shape \(8, 8\).*down \(2, {width}\).*for Stable Diffusion {architecture}"
    for tensors in (peft_keys(pair), kohya_keys(pair)):
        with pytest.raises(IncompatibleError, match=message):
            read(tensors)


@pytest.mark.parametrize(
    ("down", "up", "error"),
    [
        ((2, 8), (9, 2), IncompatibleError),
        ((2, 8, 3, 3), (8, 2, 1, 1), IncompatibleError),
        ((2, 8), (8, 3), InvalidInputError),
        ((2, 8), (8, 2, 3, 3), InvalidInputError),
        ((2, 8), (8,), InvalidInputError),
        ((2,), (8, 2), InvalidInputError),
        ((), (8, 2), InvalidInputError),
        ((2, 8, 1), (8, 2, 1), InvalidInputError),
        ((0, 8), (8, 0), InvalidInputError),
        ((0, 8), (8, 2), InvalidInputError),
    ],
)
def test_factors_that_do_not_fit_are_refused_with_their_shapes(
    read: Read, down: tuple[int, ...], up: tuple[int, ...], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        read(peft_keys({TO_K: (torch.ones(down), torch.ones(up))}))
    assert f"down {down} and up {up}" in str(caught.value)


def test_a_pair_for_a_vector_is_refused(read: Read) -> None:
    with pytest.raises(IncompatibleError, match="conv_norm_out"):
        read(peft_keys({"conv_norm_out": (torch.ones(2, 4), torch.ones(4, 2))}))


@pytest.mark.parametrize("missing", ["A", "B"])
def test_half_a_pair_is_refused(read: Read, pairs: Pairs, missing: str) -> None:
    tensors = peft_keys(pairs)
    del tensors[f"unet.{TO_K}.lora_{missing}.weight"]
    with pytest.raises(InvalidInputError, match=f"{TO_K}.*without"):
        read(tensors)


def test_an_alpha_without_a_pair_is_refused(read: Read, pairs: Pairs) -> None:
    with pytest.raises(InvalidInputError, match=r"conv_out.*the alpha without the down"):
        read(kohya_keys(pairs) | {"lora_unet_conv_out.alpha": torch.tensor(1.0)})


def test_a_pair_and_a_difference_for_one_layer_are_refused(read: Read, pairs: Pairs) -> None:
    with pytest.raises(InvalidInputError, match="has both"):
        read(kohya_keys(pairs) | {f"lora_unet_{FLAT_TO_K}.diff": torch.ones(8, 8)})


def test_a_difference_of_a_bias_that_is_not_there_is_refused(read: Read) -> None:
    with pytest.raises(IncompatibleError, match=f"no '{TO_K}.bias'"):
        read({f"lora_unet_{FLAT_TO_K}.diff_b": torch.ones(8)})


def test_a_difference_of_another_shape_is_refused(read: Read) -> None:
    with pytest.raises(IncompatibleError, match=r"\(8, 8\).*\(8, 768\).*Stable Diffusion 1\.x"):
        read(
            {
                f"lora_unet_{FLAT_TO_K}.diff": torch.ones(8, 768),
                f"lora_unet_{FLAT_TO_K.replace('blocks_1', 'blocks_2')}.lora_down.weight": (
                    torch.ones(2, 768)
                ),
                f"lora_unet_{FLAT_TO_K.replace('blocks_1', 'blocks_2')}.lora_up.weight": (
                    torch.ones(12, 2)
                ),
            }
        )


def test_mixed_styles_are_refused(read: Read, pairs: Pairs) -> None:
    one = {TO_K: pairs[TO_K]}
    other = {CONV: pairs[CONV]}
    compvis = {
        "lora_unet_input_blocks_2_0_in_layers_2.lora_down.weight": pairs[CONV][0],
        "lora_unet_input_blocks_2_0_in_layers_2.lora_up.weight": pairs[CONV][1],
    }
    old = {
        f"unet.{CONV}.lora.down.weight": pairs[CONV][0],
        f"unet.{CONV}.lora.up.weight": pairs[CONV][1],
    }
    for mixed in (
        peft_keys(one) | kohya_keys(other),
        peft_keys(one) | peft_keys(other, ""),
        peft_keys(one) | old,
        kohya_keys(one) | compvis,
    ):
        with pytest.raises(InvalidInputError, match="mixes"):
            read(mixed)


def test_two_adapters_in_one_file_are_refused(read: Read, pairs: Pairs) -> None:
    tensors = peft_keys(pairs)
    second = {name.replace(".weight", ".second.weight"): t for name, t in tensors.items()}
    assert read(second).deltas.keys() == read(tensors).deltas.keys()
    with pytest.raises(InvalidInputError, match="second one"):
        read(tensors | second)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_factors_that_are_not_finite_are_refused(
    read: Read, pairs: Pairs, value: float, side: int
) -> None:
    pairs[TO_K][side][1, 1] = value
    with pytest.raises(InvalidInputError, match=f"finite numbers, and '{TO_K}"):
        read(peft_keys(pairs))


def test_a_product_beyond_single_precision_is_refused(read: Read) -> None:
    with pytest.raises(InvalidInputError, match=f"'{TO_K}.weight' leaves the range"):
        read(peft_keys({TO_K: (torch.full((2, 8), 1e30), torch.full((8, 2), 1e30))}))


@pytest.mark.parametrize("alpha", [[math.nan], [math.inf], [1.0, 2.0], []])
def test_an_alpha_that_is_not_one_finite_number_is_refused(
    read: Read, pairs: Pairs, alpha: list[float]
) -> None:
    tensors = kohya_keys(pairs) | {f"lora_unet_{FLAT_TO_K}.alpha": torch.tensor(alpha)}
    with pytest.raises(InvalidInputError, match="An alpha is one finite number"):
        read(tensors)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_whole_numbers_are_no_weights(read: Read, pairs: Pairs, dtype: torch.dtype) -> None:
    pairs[TO_K] = (pairs[TO_K][0].to(dtype), pairs[TO_K][1])
    with pytest.raises(InvalidInputError, match=str(dtype).removeprefix("torch.")):
        read(peft_keys(pairs))


GOOD = {"r": RANK, "lora_alpha": 4}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"r": 0}, "r = 0"),
        ({"r": -4}, "r = -4"),
        ({"r": 2.5}, "r = 2.5"),
        ({"r": True}, "r = True"),
        ({"r": "8"}, "r = '8'"),
        ({"r": 8}, f"rank {RANK}.*says 8"),
        ({"rank_pattern": {"to_k": -1}}, r"rank_pattern\['to_k'\] = -1"),
        ({"rank_pattern": {"to_k": 7}}, "says 7"),
        ({"rank_pattern": [1]}, "rank_pattern maps"),
        ({"rank_pattern": {"(": 3}}, "not a regular expression"),
        ({"alpha_pattern": {"to_k": None}}, r"alpha_pattern\['to_k'\] = None"),
        ({"lora_alpha": math.nan}, "lora_alpha = nan"),
        ({"lora_alpha": math.inf}, "lora_alpha = inf"),
        ({"lora_alpha": 10**400}, "finite number"),
        ({"lora_alpha": "4"}, "lora_alpha = '4'"),
        ({"lora_alpha": None}, "lora_alpha = None"),
        ({"use_dora": True}, "use_dora"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"peft_type": "LOHA"}, "peft_type 'LOHA'.*Merge"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
    ],
)
@pytest.mark.parametrize("place", ["header", "folder"])
def test_a_wrong_configuration_is_refused_by_its_value(
    read: Read, pairs: Pairs, tmp_path: Path, place: str, change: dict[str, Any], match: str
) -> None:
    config = GOOD | change
    if place == "folder":
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        header = None
    else:
        unet_config = {f"unet.{key}": value for key, value in config.items()}
        header = {"lora_adapter_metadata": json.dumps(unet_config)}
    with pytest.raises(InvalidInputError, match=match):
        read(peft_keys(pairs), header)


def test_a_configuration_without_an_alpha_is_refused(read: Read, pairs: Pairs) -> None:
    with pytest.raises(InvalidInputError, match="lora_alpha"):
        read(peft_keys(pairs), {"lora_adapter_metadata": '{"unet.r": 3}'})


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000])
def test_a_configuration_that_is_no_json_is_refused(read: Read, pairs: Pairs, text: str) -> None:
    with pytest.raises(IntegrityError):
        read(peft_keys(pairs), {"lora_adapter_metadata": text})


def test_a_configuration_that_is_no_mapping_is_refused(read: Read, pairs: Pairs) -> None:
    with pytest.raises(InvalidInputError, match="holds a list"):
        read(peft_keys(pairs), {"lora_adapter_metadata": "[]"})


def test_two_scales_for_one_layer_are_refused(
    read: Read, pairs: Pairs, products: dict[str, Tensor]
) -> None:
    header = {"lora_adapter_metadata": json.dumps({"r": RANK, "lora_alpha": 6})}
    alphas = {f"unet.{module}.alpha": torch.tensor(6.0) for module in pairs}
    assert_deltas(read(peft_keys(pairs) | alphas, header), products, 2)
    alphas[f"unet.{TO_K}.alpha"] = torch.tensor(3.0)
    with pytest.raises(InvalidInputError, match="one scale"):
        read(peft_keys(pairs) | alphas, header)


def test_a_configuration_that_lies_beside_a_kohya_file_is_not_its_own(
    read: Read, pairs: Pairs, products: dict[str, Tensor], tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert_deltas(read(kohya_keys(pairs)), products)


def test_the_file_is_only_read(read: Read, pairs: Pairs, tmp_path: Path) -> None:
    change = read(peft_keys(pairs))
    before = (tmp_path / "lora.safetensors").read_bytes()
    for delta in change.deltas.values():
        delta.zero_()
    assert (tmp_path / "lora.safetensors").read_bytes() == before
    assert load_file(tmp_path / "lora.safetensors").keys() == peft_keys(pairs).keys()
