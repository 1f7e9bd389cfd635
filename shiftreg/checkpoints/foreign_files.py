"""Reading other tools' files: whatever the container, the tensors in it by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from shiftreg.checkpoints.base_folder import MODELS, STEMS, read_component
from shiftreg.checkpoints.files import read_json, reading
from shiftreg.checkpoints.pickles import Inert
from shiftreg.checkpoints.shift_file import FORMAT_KEY
from shiftreg.checkpoints.tensor_files import read_safetensors
from shiftreg.checkpoints.torch_file import load_pickle_checkpoint
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.families import NETWORKS

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
ADAPTER_CONFIG = "adapter_config.json"
# What diffusers and PEFT call a LoRA in a folder of its own.
LORA_NAMES = tuple(
    f"{stem}{suffix}"
    for stem in ("adapter_model", "pytorch_lora_weights")
    for suffix in (".safetensors", ".bin")
)
# In the header of a LoRA that diffusers saved: the adapter's configuration as JSON.
LORA_METADATA_KEY = "lora_adapter_metadata"
# Where training tools nest the weights, and what they save beside them.
WRAPPERS = ("state_dict", "model")
DEEPEST = 8  # mappings within mappings
MOST_NAMES = 200_000
LEFTOVERS = {
    "optimizer", "optimizer_states", "lr_scheduler", "lr_schedulers", "scheduler", "callbacks",
    "loops", "hyper_parameters", "hparams", "scaler", "native_amp_scaling_state", "rng_state",
    "ema", "args", "config",
}  # fmt: skip


@dataclass(frozen=True)
class ForeignFile:
    """What a file or folder holds.

    Attributes:
        tensors: By the names that the file uses, or ``unet.``, ``vae.``, ... for a folder.
        source: The file, for errors.
        adapter: A PEFT configuration; None if the file has none.
        adapter_source: Where the configuration was read from, for errors.
    """

    tensors: dict[str, Tensor]
    source: str
    adapter: Mapping[str, Any] | None = None
    adapter_source: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_foreign_file(path: Path) -> ForeignFile:
    """Reads a ``.safetensors`` file, a pickle of plain tensors, or a diffusers or PEFT folder.

    Raises:
        NotFoundError: It does not exist.
        InvalidInputError: It is of another kind, holds no tensor, or is a shift of this package.
        IntegrityError: It is damaged, or holds code or other things than tensors.
        StorageError: It cannot be read.
    """
    if not path.exists():
        raise NotFoundError(f"There is no file or folder '{path}'. Check the path.")
    file = _read_folder(path) if path.is_dir() else _read_file(path)
    if FORMAT_KEY in file.metadata:
        raise InvalidInputError(
            f"'{path}' is a concept shift that shiftreg saved, and other tools' files are read "
            "here. Give the file that the other tool wrote."
        )
    if not file.tensors:
        raise InvalidInputError(
            f"'{path}' holds no tensor. Give a LoRA, a state dict or a checkpoint."
        )
    return file


def _read_file(path: Path) -> ForeignFile:
    metadata: dict[str, str] = {}
    if path.suffix.lower() == ".safetensors":
        tensors, metadata = read_safetensors(path)
    elif path.suffix.lower() in PICKLES:
        tensors = _pickled_tensors(path)
    else:
        raise InvalidInputError(
            f"'{path}' ends in '{path.suffix}', and weights are read from .safetensors, "
            f"{', '.join(PICKLES)}, or a diffusers or PEFT folder. Rename or convert it."
        )
    beside = path.with_name(ADAPTER_CONFIG)
    if LORA_METADATA_KEY in metadata:
        with reading(path):
            adapter = json.loads(metadata[LORA_METADATA_KEY])
        source = f"the header of '{path}'"
    elif beside.is_file() and any(".lora_A." in name for name in tensors):
        adapter, source = read_json(beside), f"'{beside}'"
    else:
        return ForeignFile(tensors, f"'{path}'", metadata=metadata)
    if not isinstance(adapter, dict):
        raise InvalidInputError(
            f"An adapter's configuration is a JSON object, and {source} holds a "
            f"{type(adapter).__name__}. Fetch or make it again."
        )
    return ForeignFile(tensors, f"'{path}'", adapter, source, metadata)


def _read_folder(folder: Path) -> ForeignFile:
    """A pipeline, a UNet of its own, or a LoRA."""
    if any((folder / network / "config.json").is_file() for network in NETWORKS):
        tensors = {
            f"{part}.{name}": tensor
            for part in MODELS
            if (folder / part).is_dir()
            for name, tensor in _component_tensors(folder / part).items()
        }
        return ForeignFile(tensors, f"'{folder}'")
    for name in LORA_NAMES:
        if (folder / name).is_file():
            return _read_file(folder / name)
    if (folder / "config.json").is_file():
        return ForeignFile(_component_tensors(folder), f"'{folder}'")
    raise InvalidInputError(
        f"'{folder}' is neither a diffusers pipeline with a UNet, nor a UNet saved by diffusers, "
        f"nor a LoRA ({', '.join(LORA_NAMES)}). Give the weight file itself."
    )


def _component_tensors(component: Path) -> dict[str, Tensor]:
    """A component's state dict, from pickles where there is nothing else."""
    if not any(component.glob("*.safetensors*")):
        for stem in (*STEMS, "pytorch_model"):
            pickle = component / f"{stem}.bin"
            if pickle.is_file():
                return _pickled_tensors(pickle)
    return read_component(component)


def _pickled_tensors(path: Path) -> dict[str, Tensor]:
    content: Mapping[Any, Any] = load_pickle_checkpoint(path)
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    kept = {key: value for key, value in content.items() if key not in LEFTOVERS}
    tensors: dict[str, Tensor] = {}
    # Mappings within mappings can name the same few values without end.
    for seen, (name, value) in enumerate(_named(kept, path)):
        if seen >= MOST_NAMES:
            raise _endless(path)
        if isinstance(value, Tensor):
            if name in tensors:
                raise InvalidInputError(
                    f"'{path}' holds '{name}' twice. Save it again with one tensor a name."
                )
            tensors[name] = value
        elif value is not None and not isinstance(value, str | bool | int | float):
            odd = f"made by {value.name}" if isinstance(value, Inert) and value.name else "none"
            raise IntegrityError(
                f"'{path}' should hold plain tensors, and '{name}' is {odd}. "
                "Use a checkpoint of a diffusion model."
            )
    return tensors


def _named(content: Mapping[Any, Any], path: Path, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The values of nested state dicts, their names joined by dots.

    Raises:
        IntegrityError: A name is not a text, or they are nested without end.
    """
    if depth > DEEPEST:
        raise _endless(path)
    for name, value in content.items():
        if not isinstance(name, str):
            raise IntegrityError(
                f"'{path}' should name its tensors by texts, and one name is a "
                f"{type(name).__name__}. Use a checkpoint of a diffusion model."
            )
        if isinstance(value, Mapping):
            for inner, found in _named(value, path, depth + 1):
                yield f"{name}.{inner}", found
        else:
            yield name, value


def _endless(path: Path) -> IntegrityError:
    return IntegrityError(
        f"'{path}' nests names without end. Use a checkpoint of a diffusion model."
    )
