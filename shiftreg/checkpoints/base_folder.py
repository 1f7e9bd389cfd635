"""Reading a base: the weight files and configurations of a diffusers folder.

Libraries that load a folder turn integers into floating numbers, and what is missing into random
ones: such a folder is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftreg.checkpoints.files import reading
from shiftreg.checkpoints.stored import StoredTensor, whole
from shiftreg.checkpoints.tensor_files import read_safetensors, stored_safetensors
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError

STEMS = ("diffusion_pytorch_model", "model")
NETWORKS = ("unet", "transformer")  # the part that denoises, and that shifts change
# The parts of a pipeline that single files hold; the last is XL's alone.
COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")
WEIGHT_SUFFIXES = (
    ".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx", ".onnx_data",
    ".pb", ".index.json", ".index.fp16.json",
)  # fmt: skip
_PARTS = dict.fromkeys((*NETWORKS, *COMPONENTS))
_POSITIONS = "position_ids"  # the one tensor of integers, which old text encoders save


def check_base(base_folder: Path) -> None:
    """Refuses what is not a diffusers pipeline.

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: It holds neither a UNet nor a transformer.
    """
    network_folder(base_folder)


def network_folder(base_folder: Path) -> Path:
    """The component that denoises: ``unet`` or ``transformer``.

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: It holds neither.
    """
    if not base_folder.is_dir():
        raise NotFoundError(f"There is no base folder '{base_folder}'. Check the path.")
    for name in NETWORKS:
        if (base_folder / name / "config.json").is_file():
            return base_folder / name
    raise InvalidInputError(
        f"'{base_folder}' is no diffusers folder: it has neither unet/config.json nor "
        "transformer/config.json. Save the pipeline with save_pretrained."
    )


def single_file_components(base_folder: Path) -> frozenset[str]:
    """The parts of a pipeline that a single file would hold.

    Raises:
        InvalidInputError: One that every single file has is missing.
    """
    present = frozenset(name for name in COMPONENTS if (base_folder / name).is_dir())
    if missing := [name for name in COMPONENTS[:3] if name not in present]:
        raise InvalidInputError(
            f"Single files hold a UNet, an autoencoder and a text encoder, and '{base_folder}' has "
            f"no {missing[0]}. Export a folder instead."
        )
    return present


def read_config(component: Path, name: str = "config.json") -> dict[str, Any]:
    """The configuration of a component.

    Args:
        component: Such as ``base/unet``.
        name: Of its file.

    Raises:
        NotFoundError: It does not exist.
        IntegrityError: It is not JSON.
    """
    path = component / name
    with reading(path):
        config = json.loads(path.read_text(encoding="utf-8"))
        return dict(config)


def weight_files(component: Path) -> tuple[Path, ...]:
    """The safetensors files that together hold a component's weights.

    The plain ones, single or sharded; those of variant ``fp16`` where there are no plain ones.

    Args:
        component: Such as ``base/unet``.

    Returns:
        Files, sorted; none for a component without weights, such as a tokenizer.

    Raises:
        InvalidInputError: There are weights, but only as pickles.
        IntegrityError: The index of the shards is damaged.
    """
    chosen = _chosen_file(component)
    if chosen is not None:
        return shard_files(chosen) if chosen.suffix == ".json" else (chosen,)
    if pickles := sorted(component.glob("*.bin")):
        raise InvalidInputError(
            f"'{pickles[0]}' is a pickle, which can hold code; weights are read from safetensors "
            "only. Load the base once with diffusers and save it with "
            "save_pretrained(folder, safe_serialization=True)."
        )
    return ()


def read_component(component: Path) -> dict[str, Tensor]:
    """The state dict of a component, mapped from its files.

    Raises:
        InvalidInputError: It has no safetensors weights.
        NotFoundError: A shard is missing.
        IntegrityError: A file is damaged, or shards do not hold what their index says.
    """
    stored_component(component)  # its checks
    tensors: dict[str, Tensor] = {}
    for file in _existing_weight_files(component):
        tensors |= read_safetensors(file)[0]
    return tensors


def stored_component(component: Path) -> dict[str, StoredTensor]:
    """Where the tensors of a component's state dict lie.

    Raises:
        InvalidInputError: It has no safetensors weights.
        NotFoundError: A shard is missing.
        IntegrityError: A file is damaged, or shards do not hold what their index says.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in _existing_weight_files(component):
        found = stored_safetensors(file)[0]
        if twice := sorted(found.keys() & tensors.keys()):
            raise IntegrityError(
                f"Each tensor is in one shard, and '{twice[0]}' is in '{tensors[twice[0]].path}' "
                f"and in '{file}'. Copy the whole folder again."
            )
        tensors |= found
    for name, shard in _promised(component).items():
        if name not in tensors or tensors[name].path.name != shard:
            raise IntegrityError(
                f"The index of '{component}' says that '{name}' is in '{shard}', and it is not. "
                "Copy the whole folder again."
            )
    return tensors


def parameter_reader(base_folder: Path) -> Callable[[str], Tensor]:
    """Reads one parameter of the UNet or transformer at a time, by the name that shifts give it.

    Raises:
        InvalidInputError: It has no safetensors weights.
        NotFoundError: A shard is missing.
        IntegrityError: A file is damaged.
    """
    tensors = stored_component(network_folder(base_folder))
    stored = {layer_name(name): tensor for name, tensor in tensors.items()}
    return lambda layer: whole(stored[layer])


def layer_name(name: str) -> str:
    """What shifts call a parameter of the base: a weight by its module, others by their name."""
    return name.removesuffix(".weight")


def unet_dtype(base_folder: Path) -> torch.dtype:
    """The dtype of the UNet's or transformer's weights: that of the layers that shifts change."""
    return next(iter(stored_component(network_folder(base_folder)).values())).dtype


def is_weight_file(path: Path) -> bool:
    """Whether a file holds weights, in any format, or lists the files that do."""
    return path.name.endswith(WEIGHT_SUFFIXES)


def shard_files(index: Path) -> tuple[Path, ...]:
    """The files that an index of shards lists, sorted.

    Raises:
        IntegrityError: The index is damaged.
        InvalidInputError: It names a file outside of its folder.
    """
    return tuple(index.parent / name for name in sorted(set(_weight_map(index).values())))


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file, as an index of shards says it."""
    with reading(index):
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        for name in weight_map.values():
            if Path(name).name != name or name in ("", "..") or "\0" in name:
                raise InvalidInputError(
                    f"'{index}' names a shard outside of its folder: '{name}'. Use another base."
                )
        return dict(weight_map)


def _chosen_file(component: Path) -> Path | None:
    """The file that holds a component's weights, or the index of those that do."""
    for variant in ("", ".fp16"):
        for stem in STEMS:
            for name in (
                f"{stem}{variant}.safetensors",
                f"{stem}.safetensors.index{variant}.json",
            ):
                if (component / name).is_file():
                    return component / name
    return None


def _promised(component: Path) -> dict[str, str]:
    """Tensor -> shard, by the index; empty for a component in a single file."""
    chosen = _chosen_file(component)
    return _weight_map(chosen) if chosen is not None and chosen.suffix == ".json" else {}


def _existing_weight_files(component: Path) -> tuple[Path, ...]:
    files = weight_files(component)
    if not files:
        raise InvalidInputError(
            f"'{component}' holds no weights. Give a complete diffusers folder."
        )
    return files


def check_base_weights(base_folder: Path, parameters: Iterable[str]) -> None:
    """Refuses a folder whose model would be another one than its files hold.

    Args:
        base_folder: The diffusers folder.
        parameters: Names of all parameters of its UNet or transformer, by the configuration.

    Raises:
        InvalidInputError: Weights are no floating numbers, or there are only pickles.
        IntegrityError: A parameter of the UNet or transformer is missing, or a file is damaged.
        NotFoundError: A shard is missing.
    """
    for part in _PARTS:
        if weight_files(base_folder / part):
            _check_numbers(base_folder / part)
    network = network_folder(base_folder)
    held = stored_component(network)
    if missing := [name for name in parameters if name not in held]:
        raise IntegrityError(
            f"'{network}' has no '{missing[0]}', which its configuration asks for"
            f"{f' ({len(missing)} are missing)' if len(missing) > 1 else ''}. "
            "Copy the whole folder again."
        )


def _check_numbers(component: Path) -> None:
    for name, tensor in stored_component(component).items():
        if not tensor.dtype.is_floating_point and not name.endswith(_POSITIONS):
            raise InvalidInputError(
                f"Weights are floating numbers, and '{name}' in '{component}' holds "
                f"{str(tensor.dtype).removeprefix('torch.')}: it may be quantised. Save the base "
                "in float16 or float32."
            )
