"""A diffusers folder with merged layers: a copy of the base of which little is rewritten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from shiftreg.checkpoints.base_folder import (
    is_weight_file,
    network_folder,
    read_config,
    shard_files,
    stored_component,
    weight_files,
)
from shiftreg.checkpoints.digested_file import DigestedFile
from shiftreg.checkpoints.files import digest_of_files, visible_files
from shiftreg.checkpoints.merged import check_layers, put_layers
from shiftreg.checkpoints.tensor_files import stored_safetensors, widest_first, write_safetensors

CARD_NAME, BASE_CARD_NAME = "README.md", "README.base.md"


def write_folder(
    folder: Path,
    base_folder: Path,
    layers: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    metadata: Mapping[str, str],
    card: str | None = None,
) -> str:
    """Copies a base, rewriting only the weight files that change.

    Args:
        folder: Where to write; exists and is empty.
        layers: Parameter, as shifts name it -> its full weight.
        dtype: Of all floating weights of all components; by default each keeps its own.
        metadata: For the header of each weight file that is rewritten: all of it for the network
            that denoises, and only our own for others.
        card: The model card; the base's own is kept beside it as ``README.base.md``.

    Returns:
        The digest of the folder.

    Raises as ``write_checkpoint``.
    """
    network = network_folder(base_folder)
    check_layers(stored_component(network), layers)
    components = _components(base_folder) if dtype else [network] if layers else []
    rewritten = {file for component in components for file in weight_files(component)}
    superseded = {file for component in components for file in _other_weights(component)}
    if components:
        superseded |= {path for path in base_folder.iterdir() if is_weight_file(path)}
    own = {key: text for key, text in metadata.items() if key.startswith("shiftreg.")}
    digests: dict[Path, str] = {}
    for source in visible_files(base_folder):
        if source in superseded:
            continue
        place = source.relative_to(base_folder)
        if card is not None and place == Path(CARD_NAME):
            place = Path(BASE_CARD_NAME)
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        with DigestedFile(folder / place) as file:
            if source in rewritten:
                if source.parent == network:
                    _rewrite(file, source, layers, dtype, metadata)
                else:
                    _rewrite(file, source, {}, dtype, own)
            elif dtype and source.name == "config.json" and source.parent in components:
                file.write(config_in(source.parent, dtype))
            else:
                file.copy(source)
        digests[place] = file.digest
    if card is not None:
        (folder / CARD_NAME).write_text(card, encoding="utf-8")
    return digest_of_files(digests)


def _rewrite(
    file: DigestedFile,
    source: Path,
    layers: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    metadata: Mapping[str, str],
) -> None:
    """Writes a weight file as it is, but for layers, dtype and metadata."""
    stored, written = stored_safetensors(source)
    tensors = put_layers(stored, layers, dtype)
    header = {"format": "pt", **written, **metadata}
    if dtype:
        write_safetensors(file, widest_first(tensors), header)
    else:
        start = min((tensor.offset for tensor in stored.values()), default=0)
        write_safetensors(file, tensors, header, like=start)


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


def config_in(component: Path, dtype: torch.dtype) -> bytes:
    """The configuration with another dtype: transformers loads what it says, not what is there."""
    config = read_config(component)
    stated = {key for key in ("dtype", "torch_dtype") if key in config}
    if not stated:
        return (component / "config.json").read_bytes()
    config |= dict.fromkeys(stated, str(dtype).removeprefix("torch."))
    return f"{json.dumps(config, indent=2, sort_keys=True)}\n".encode()
