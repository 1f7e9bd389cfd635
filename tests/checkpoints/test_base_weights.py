"""A folder's weights are all there, and floating numbers: nothing is made up when it is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from shiftreg.checkpoints import check_base_weights, read_component
from shiftreg.errors import IntegrityError, InvalidInputError
from shiftreg.pipelines import load_pipeline

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight"
WEIGHTS = {
    "unet": LAYER,
    "vae": "decoder.conv_in.weight",
    "text_encoder": "encoder.layers.0.mlp.fc1.weight",
}
State = dict[str, Tensor]


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    """A base that may be damaged."""
    return Path(shutil.copytree(base, tmp_path / "mine"))


def change(folder: Path, part: str, to: Callable[[State], State]) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    save_file(to(load_file(file)), file, {"format": "pt"})


def names(folder: Path) -> list[str]:
    return list(read_component(folder / "unet"))


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_weights_that_are_no_floating_numbers_are_refused_by_name(
    folder: Path, part: str, dtype: torch.dtype
) -> None:
    check_base_weights(folder, names(folder))
    name = WEIGHTS[part]
    change(folder, part, lambda state: state | {name: state[name].to(dtype)})
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(InvalidInputError, match=f"'{name}' in '.*{part}' holds {kind}"):
        check_base_weights(folder, names(folder))


def test_the_positions_of_old_text_encoders_are_no_weights(folder: Path) -> None:
    positions = {"text_model.embeddings.position_ids": torch.arange(64)}
    change(folder, "text_encoder", lambda state: state | positions)
    check_base_weights(folder, names(folder))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_floating_numbers_of_several_precisions_are_read(folder: Path, dtype: torch.dtype) -> None:
    change(folder, "unet", lambda state: state | {LAYER: state[LAYER].to(dtype)})
    check_base_weights(folder, names(folder))


def test_what_the_configuration_asks_for_and_no_file_holds_is_named(folder: Path) -> None:
    wanted = names(folder)
    change(folder, "unet", lambda state: {n: t for n, t in state.items() if n != LAYER})
    with pytest.raises(IntegrityError, match=f"no '{LAYER}'.*Copy the whole folder"):
        check_base_weights(folder, wanted)
    change(folder, "unet", lambda state: {"conv_in.bias": state["conv_in.bias"]})
    with pytest.raises(IntegrityError, match=rf"\({len(wanted) - 1} are missing\)"):
        check_base_weights(folder, wanted)


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("shape", [(-1,), (1, -1, 1)])
def test_weights_of_another_shape_are_refused_when_they_are_loaded(
    folder: Path, part: str, shape: tuple[int, ...]
) -> None:
    name = WEIGHTS[part]
    change(folder, part, lambda state: state | {name: state[name].reshape(shape)})
    with pytest.raises(IntegrityError, match=r"(?s)cannot be loaded .*copy the folder again"):
        load_pipeline(folder)
