"""What a file changes in a base, with what it leaves alone: the ground of an inspection."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from shiftreg.checkpoints import change_of_base, read_component, read_foreign, read_foreign_file
from shiftreg.errors import InvalidInputError
from tests.whole import single_file_state

TO_K = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def written(tensors: dict[str, Tensor], path: Path) -> Path:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return path


def test_a_file_that_changes_nothing_is_no_error_here(base: Path, tmp_path: Path) -> None:
    path = written(single_file_state(base, {}), tmp_path / "model.safetensors")
    change = change_of_base(read_foreign_file(path), base)
    unet = read_component(base / "unet")
    assert (change.deltas, change.elsewhere, change.form) == ({}, (), "checkpoint")
    assert change.values.keys() == unet.keys()
    assert all(torch.equal(change.values[name], unet[name]) for name in unet)
    with pytest.raises(InvalidInputError, match="base itself"):
        read_foreign(path, base)


def test_values_keep_the_dtype_of_the_file_and_the_shape_of_the_base(
    base: Path, tmp_path: Path
) -> None:
    weight = read_component(base / "unet")[TO_K].float() + 0.25
    path = written({TO_K: weight[:, :, None, None]}, tmp_path / "part.safetensors")
    change = change_of_base(read_foreign_file(path), base)
    assert change.values.keys() == change.deltas.keys() == {TO_K}
    assert torch.equal(change.values[TO_K], weight)


def test_of_other_parts_the_first_tensor_that_differs_is_named(base: Path, tmp_path: Path) -> None:
    state = dict(single_file_state(base, {}))
    changed = [name for name in state if name.startswith(("first_stage_model.", "cond_stage"))]
    state |= {name: state[name] + 1 for name in changed}
    path = written(state, tmp_path / "model.safetensors")
    change = change_of_base(read_foreign_file(path), base, unet_only=True)
    assert {name.partition(".")[0] for name in change.elsewhere} == {
        "first_stage_model",
        "cond_stage_model",
    }
    assert len(change.left_out) == 2


def test_a_lora_has_no_values_and_names_what_it_changes_in_a_text_encoder(
    base: Path, tmp_path: Path
) -> None:
    key = f"lora_unet_{TO_K.removesuffix('.weight').replace('.', '_')}"
    text = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    tensors = {
        f"{key}.lora_down.weight": torch.ones(2, 8),
        f"{key}.lora_up.weight": torch.ones(8, 2),
        f"{text}.lora_down.weight": torch.ones(2, 8),
        f"{text}.lora_up.weight": torch.ones(16, 2),
    }
    path = written(tensors, tmp_path / "lora.safetensors")
    change = change_of_base(read_foreign_file(path), base, unet_only=True)
    assert change.values == {}
    assert change.deltas.keys() == {TO_K}
    assert all(name.startswith(text) for name in change.elsewhere)
    assert change.elsewhere
