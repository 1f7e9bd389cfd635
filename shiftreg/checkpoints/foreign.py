"""Reading the weight changes that other tools wrote: LoRAs, state dicts, whole checkpoints.

Layers of the same shape do not tell bases apart: what a file says of its base is compared, too.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from shiftreg.checkpoints.base_folder import network_folder, read_component, read_config
from shiftreg.checkpoints.compvis import unet_key
from shiftreg.checkpoints.export import checkpoint_digest
from shiftreg.checkpoints.files import reading
from shiftreg.checkpoints.foreign_files import ForeignFile, read_foreign_file
from shiftreg.checkpoints.lora_deltas import lora_change
from shiftreg.checkpoints.lora_keys import is_lora
from shiftreg.checkpoints.state_change import state_change
from shiftreg.checkpoints.weight_change import ComparedBase, StatedBase, WeightChange
from shiftreg.errors import InvalidInputError
from shiftreg.families import SINGLE_FILE_FAMILIES


def read_foreign(path: Path, base_folder: Path, *, unet_only: bool = False) -> WeightChange:
    """Reads what another tool's file changes in a base.

    Args:
        path: A LoRA (PEFT's, diffusers' or kohya's keys), some weights of a UNet, or a whole
            checkpoint: a ``.safetensors`` file, a ``.ckpt``, ``.pt``, ``.pth`` or ``.bin`` file of
            plain tensors, or a diffusers or PEFT folder.
        base_folder: The diffusers folder that it was made from.
        unet_only: Leaves out what changes the text encoder or the autoencoder, and says so;
            otherwise such files are refused.

    Raises:
        NotFoundError: The file or the base does not exist.
        InvalidInputError: The file is malformed, of an unknown kind, or changes nothing.
        IncompatibleError: It was made from another base.
        IntegrityError: It is damaged, or holds code; or the base is damaged.
        StorageError: It cannot be read.
    """
    network_folder(base_folder)  # refuses what is not a base
    file = read_foreign_file(path)
    change = change_of_base(file, base_folder, unet_only=unet_only)
    if not change.deltas:
        raise InvalidInputError(
            f"A shift changes weights, and {file.source} changes none of the base's: it is the "
            "base itself, or was never trained. Give the file of a changed model."
        )
    return replace(
        change,
        deltas=dict(sorted(change.deltas.items())),
        digest=checkpoint_digest(path),
        stated_base=StatedBase.of(file.metadata),
    )


def change_of_base(
    file: ForeignFile, base_folder: Path, *, unet_only: bool = False
) -> WeightChange:
    """What the tensors of a file change in a base: perhaps nothing.

    Args:
        base_folder: The diffusers folder that it is compared with.

    Raises:
        InvalidInputError: The file is malformed or of an unknown kind.
        IncompatibleError: It was made from another base.
        IntegrityError: The base is damaged.
    """
    network = network_folder(base_folder)
    unet = read_component(network)
    has_names = any(family.network == network.name for family in SINGLE_FILE_FAMILIES)
    compvis: dict[str, str] = {}
    if has_names:
        config = read_config(network)
        # A configuration may be valid JSON and still lack what the names follow from.
        with reading(network / "config.json"):
            for name in unet:
                with suppress(InvalidInputError):
                    compvis[name] = unet_key(name, config)
    change = lora_change if is_lora(file.tensors) else state_change
    return change(file, ComparedBase(base_folder, unet, compvis), unet_only=unet_only)
