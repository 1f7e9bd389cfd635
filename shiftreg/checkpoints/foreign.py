"""Reading the weight changes that other tools wrote: LoRAs, state dicts, whole checkpoints.

Layers of the same shape do not tell bases apart: what a file says of its base is compared, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from shiftreg.checkpoints.base_folder import network_folder, read_component, read_config
from shiftreg.checkpoints.compvis import unet_key
from shiftreg.checkpoints.export import checkpoint_digest
from shiftreg.checkpoints.files import reading
from shiftreg.checkpoints.foreign_files import ForeignFile, read_foreign_file
from shiftreg.checkpoints.lora_deltas import lora_change
from shiftreg.checkpoints.lora_keys import is_lora
from shiftreg.checkpoints.state_change import state_change
from shiftreg.checkpoints.weight_change import WeightChange
from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.families import KNOWN_MODELS, SINGLE_FILE_FAMILIES

DIGEST_KEY = "shiftreg.base_sha256"
VERSION_KEY = "ss_base_model_version"


@dataclass(frozen=True)
class StatedBase:
    """What the header of a safetensors file says of the base; texts are empty where it is silent.

    Attributes:
        digest: Of the base, in files that shiftreg wrote.
        kohya_version: kohya's name of the base's version, such as "sdxl_base_v1-0".
    """

    digest: str = ""
    kohya_version: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> StatedBase:
        """Reads it from a header."""
        return cls(metadata.get(DIGEST_KEY, ""), metadata.get(VERSION_KEY, ""))

    def check(self, source: str, base: str, digest: str, kohya_version: str) -> None:
        """Refuses a file that says it was made for another base.

        Raises:
            IncompatibleError: The digest is another's, or the version is of another model.
        """
        if self.digest and self.digest != digest:
            raise IncompatibleError(
                f"{source} was made by shiftreg for base {self.digest[:12]}, and '{base}' is "
                f"{digest[:12]}. Choose its base with --base, or erase the concept on this one: "
                "shiftreg erase"
            )
        made_for, own = _known_model(self.kohya_version), _known_model(kohya_version)
        if made_for and own and made_for != own:
            raise IncompatibleError(
                f"{source} says that it was made for {made_for} ({VERSION_KEY} is "
                f"'{self.kohya_version}'), and '{base}' is {own}. Choose its base with --base, or "
                "give a file that was made for this one."
            )


def _known_model(version: str) -> str:
    """The model that a version is of; empty if it is unknown, such as one of other tools."""
    known = (m for m in KNOWN_MODELS if m.kohya_prefix)
    return next((m.name for m in known if version.lower().startswith(m.kohya_prefix)), "")


@dataclass(frozen=True)
class ForeignChange:
    """What another tool's file changes in a base's UNet.

    Attributes:
        deltas: UNet parameter, such as ``conv_in.bias`` -> what is added to it, float32, of the
            parameter's shape; those that are zero are left out.
        form: "lora, diffusers/PEFT", "lora, kohya", "partial state dict" or "checkpoint".
        digest: SHA-256 of the file, or over the files of the folder.
        left_out: Sentences on what the file holds and the deltas do not.
        details: JSON values, such as ranks, alphas, dtype and number of keys.
        stated_base: Which base the file says it was made for.
    """

    deltas: dict[str, Tensor]
    form: str
    digest: str
    left_out: tuple[str, ...]
    details: dict[str, Any]
    stated_base: StatedBase


def read_foreign(path: Path, base_folder: Path, *, unet_only: bool = False) -> ForeignChange:
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
    source = f"'{path}'"
    file = read_foreign_file(path)
    change = change_of_base(file, base_folder, source, unet_only=unet_only)
    if not change.deltas:
        raise InvalidInputError(
            f"A shift changes weights, and {source} changes none of the base's: it is the base "
            "itself, or was never trained. Give the file of a changed model."
        )
    return ForeignChange(
        deltas=dict(sorted(change.deltas.items())),
        form=change.form,
        digest=checkpoint_digest(path),
        left_out=change.left_out,
        details=change.details,
        stated_base=StatedBase.of(file.metadata),
    )


def change_of_base(
    file: ForeignFile, base_folder: Path, source: str, *, unet_only: bool = False
) -> WeightChange:
    """What the tensors of a file change in a base: perhaps nothing.

    Args:
        file: What was read.
        base_folder: The diffusers folder that it is compared with.
        source: The file, for errors.
        unet_only: As in :func:`read_foreign`.

    Raises:
        InvalidInputError: The file is malformed or of an unknown kind.
        IncompatibleError: It was made from another base.
        IntegrityError: The base is damaged.
    """
    network = network_folder(base_folder)
    unet = read_component(network)
    has_names = any(family.network == network.name for family in SINGLE_FILE_FAMILIES)
    compvis = _compvis_names(unet, network) if has_names else {}
    if is_lora(file.tensors):
        return lora_change(file, unet, compvis, source, unet_only=unet_only)
    return state_change(file.tensors, unet, compvis, base_folder, source, unet_only=unet_only)


def _compvis_names(unet: Iterable[str], component: Path) -> dict[str, str]:
    """Maps each parameter's name to CompVis's, where there is one."""
    config = read_config(component)
    names = {}
    # A configuration may be valid JSON and still lack what the names follow from.
    with reading(component / "config.json"):
        for name in unet:
            with suppress(InvalidInputError):
                names[name] = unet_key(name, config)
    return names
