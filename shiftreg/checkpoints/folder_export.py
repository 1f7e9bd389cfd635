"""A diffusers folder with merged layers: a copy of the base in which little is written anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from shiftreg.checkpoints.base_folder import (
    is_weight_file,
    read_component,
    read_config,
    shard_files,
    weight_files,
)
from shiftreg.checkpoints.files import visible_files
from shiftreg.checkpoints.merged import check_layers, put_layers
from shiftreg.checkpoints.tensor_files import read_safetensors, write_safetensors


def write_folder(
    folder: Path,
    base_folder: Path,
    layers: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    metadata: Mapping[str, str],
) -> None:
    """Copies a base, rewriting only the weight files that change.

    Args:
        folder: Where to write; exists and is empty.
        base_folder: The diffusers folder to copy.
        layers: UNet module name without ``.weight`` -> its full weight.
        dtype: Of all floating weights of all components; by default each keeps its own.
        metadata: For the header of each weight file that is rewritten.

    Raises:
        IncompatibleError: The layers belong to another base.
        InvalidInputError: A component has no safetensors weights.
        NotFoundError: A shard of the base is missing.
        IntegrityError: A file of the base is damaged.
        OSError: The disk refused.
    """
    unet = base_folder / "unet"
    check_layers(read_component(unet), layers)
    components = _components(base_folder) if dtype else [unet] if layers else []
    rewritten = {file for component in components for file in weight_files(component)}
    superseded = {file for component in components for file in _other_weights(component)}
    if components:
        superseded |= {path for path in base_folder.iterdir() if is_weight_file(path)}
    for source in visible_files(base_folder):
        destination = folder / source.relative_to(base_folder)
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source in rewritten:
            tensors, written = read_safetensors(source)
            put = put_layers(tensors, layers if source.parent == unet else {}, dtype)
            write_safetensors(destination, put, {"format": "pt", **written, **metadata})
        elif source not in superseded:
            shutil.copyfile(source, destination)
    if dtype:
        for component in components:
            _state_dtype(folder / component.name, dtype)


def _components(base_folder: Path) -> list[Path]:
    """The folders that hold weights."""
    folders = (path for path in sorted(base_folder.iterdir()) if path.is_dir())
    return [path for path in folders if not path.name.startswith(".") and weight_files(path)]


def _other_weights(component: Path) -> set[Path]:
    """Copies of the weights in other formats: left in, they would bring erased concepts back."""
    chosen = set(weight_files(component))
    indices = {
        index for index in component.glob("*.index*.json") if set(shard_files(index)) == chosen
    }
    return {path for path in component.iterdir() if is_weight_file(path)} - chosen - indices


def _state_dtype(component: Path, dtype: torch.dtype) -> None:
    """Corrects the dtype in a configuration: transformers loads what it says, not what is there."""
    config = read_config(component)
    stated = {key for key in ("dtype", "torch_dtype") if key in config}
    if stated:
        config |= dict.fromkeys(stated, str(dtype).removeprefix("torch."))
        text = json.dumps(config, indent=2, sort_keys=True)
        (component / "config.json").write_text(f"{text}\n", encoding="utf-8")
