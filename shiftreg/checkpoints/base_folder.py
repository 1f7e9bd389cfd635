"""Reading a base: the weight files and configurations of a diffusers folder.

Libraries that load a folder turn integers into floating numbers, and what is missing into random
ones: such a folder is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from shiftreg.checkpoints.files import read_json, reading
from shiftreg.checkpoints.stored import StoredTensor, whole
from shiftreg.checkpoints.tensor_files import read_safetensors, stored_safetensors
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.families import ENCODERS, NETWORKS, SINGLE_FILE_FAMILIES, SINGLE_FILES, Family

T = TypeVar("T")
STEMS = ("diffusion_pytorch_model", "model")
WEIGHT_SUFFIXES = (
    ".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx", ".onnx_data",
    ".pb", ".index.json", ".index.fp16.json",
)  # fmt: skip
# The components that hold weights.
MODELS = tuple(dict.fromkeys((*NETWORKS, "vae", *(encoder.component for encoder in ENCODERS))))
_POSITIONS = "position_ids"  # the one tensor of integers, which old text encoders save


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
        f"'{base_folder}' is not a diffusers folder: it has neither unet/config.json nor "
        "transformer/config.json. Save the pipeline with save_pretrained."
    )


def single_file_family(base_folder: Path) -> Family:
    """The family whose single files hold such a pipeline.

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: There are no single files of its kind, or a component is missing.
    """
    network = network_folder(base_folder)
    families = [family for family in SINGLE_FILE_FAMILIES if family.network == network.name]
    if not families:
        raise InvalidInputError(
            f"'{base_folder}' has a {network.name}, and single files with CompVis names exist for "
            f"{SINGLE_FILES} only. Export a "
            "folder instead: a name without a suffix."
        )
    missing = []
    for family in families:
        missing = [n for n in family.single_file_classes if not (base_folder / n).is_dir()]
        if not missing:
            return family
    raise InvalidInputError(
        f"Single files hold a UNet, an autoencoder and a text encoder, and '{base_folder}' has "
        f"no {missing[0]}. Export a folder instead."
    )


def read_config(component: Path, name: str = "config.json") -> dict[str, Any]:
    """The configuration of a component.

    Raises:
        NotFoundError: It does not exist.
        IntegrityError: It is not JSON.
    """
    with reading(component / name):
        return dict(read_json(component / name))


def weight_files(component: Path) -> tuple[Path, ...]:
    """The safetensors files that together hold a component's weights.

    The plain ones, single or sharded; those of variant ``fp16`` where there are no plain ones.

    Returns:
        Files, sorted; none for a component without weights, such as a tokenizer.

    Raises:
        InvalidInputError: There are weights, but only as pickles.
        IntegrityError: The index of the shards is damaged.
    """
    return _files_and_index(component)[0]


def read_component(component: Path) -> dict[str, Tensor]:
    """The state dict of a component, mapped from its files.

    Raises:
        InvalidInputError: It has no safetensors weights.
        NotFoundError: A shard is missing.
        IntegrityError: A file is damaged, or shards do not hold what their index says.
    """
    return _read_shards(component, lambda file: read_safetensors(file)[0])


def stored_component(component: Path) -> dict[str, StoredTensor]:
    """Where the tensors of a component's state dict lie; raises as :func:`read_component`."""
    return _read_shards(component, lambda file: stored_safetensors(file)[0])


def _read_shards(component: Path, read: Callable[[Path], dict[str, T]]) -> dict[str, T]:
    files, index = _files_and_index(component)
    if not files:
        raise InvalidInputError(
            f"'{component}' holds no weights. Give a complete diffusers folder."
        )
    tensors: dict[str, T] = {}
    shards: dict[str, str] = {}
    for file in files:
        found = read(file)
        if twice := sorted(found.keys() & tensors.keys()):
            raise IntegrityError(
                f"Each tensor is in one shard, and '{twice[0]}' is in "
                f"'{component / shards[twice[0]]}' and in '{file}'. Copy the whole folder again."
            )
        tensors |= found
        shards |= dict.fromkeys(found, file.name)
    for name, shard in index.items():
        if shards.get(name) != shard:
            raise IntegrityError(
                f"The index of '{component}' says that '{name}' is in '{shard}', and it is not. "
                "Copy the whole folder again."
            )
    return tensors


def parameter_reader(base_folder: Path) -> Callable[[str], Tensor]:
    """Reads one parameter of the UNet or transformer at a time, by the name that shifts give it.

    Raises as :func:`read_component`.
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
    return _shards(index, _weight_map(index))


def _shards(index: Path, weight_map: Mapping[str, str]) -> tuple[Path, ...]:
    return tuple(index.with_name(name) for name in sorted(set(weight_map.values())))


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file, as an index of shards says it."""
    with reading(index):
        weight_map = read_json(index)["weight_map"]
        for name in weight_map.values():
            if Path(name).name != name or name in ("", "..") or "\0" in name:
                raise InvalidInputError(
                    f"'{index}' names a shard outside of its folder: '{name}'. Use another base."
                )
        return dict(weight_map)


def _files_and_index(component: Path) -> tuple[tuple[Path, ...], dict[str, str]]:
    """See :func:`weight_files`; and tensor -> shard, by the index, if there is one."""
    for variant in ("", ".fp16"):
        for stem in STEMS:
            if (single := component / f"{stem}{variant}.safetensors").is_file():
                return (single,), {}
            if (index := component / f"{stem}.safetensors.index{variant}.json").is_file():
                weight_map = _weight_map(index)
                return _shards(index, weight_map), weight_map
    if pickles := sorted(component.glob("*.bin")):
        raise InvalidInputError(
            f"'{pickles[0]}' is a pickle, which can hold code; weights are read from safetensors "
            "only. Load the base once with diffusers and save it with "
            "save_pretrained(folder, safe_serialization=True)."
        )
    return (), {}


def check_base_weights(base_folder: Path, parameters: Iterable[str]) -> None:
    """Refuses a folder whose model would be another one than its files hold.

    Args:
        parameters: Names of all parameters of its UNet or transformer, by the configuration.

    Raises:
        InvalidInputError: Weights are not floating numbers, or there are only pickles.
        IntegrityError: A parameter of the UNet or transformer is missing, or a file is damaged.
        NotFoundError: A shard is missing.
    """
    network = network_folder(base_folder)
    models = [base_folder / name for name in MODELS]
    held = {m: stored_component(m) for m in models if m == network or weight_files(m)}
    for model, tensors in held.items():
        for name, tensor in tensors.items():
            if not tensor.dtype.is_floating_point and not name.endswith(_POSITIONS):
                raise InvalidInputError(
                    f"Weights are floating numbers, and '{name}' in '{model}' holds "
                    f"{str(tensor.dtype).removeprefix('torch.')}: it may be quantised. Save the "
                    "base in float16 or float32."
                )
    if missing := [name for name in parameters if name not in held[network]]:
        raise IntegrityError(
            f"'{network}' has no '{missing[0]}', which its configuration asks for"
            f"{f' ({len(missing)} are missing)' if len(missing) > 1 else ''}. "
            "Copy the whole folder again."
        )
