"""Writing an adapter: a file of changes that a server adds to a model, with its recipe.

The names under which it holds them are read in ``lora_keys``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from shiftreg.checkpoints.base_folder import network_folder, read_config, stored_component
from shiftreg.checkpoints.compvis import unet_key
from shiftreg.checkpoints.digested_file import DigestedFile
from shiftreg.checkpoints.export import (
    RECIPE_KEY,
    Export,
    recipe_bytes,
    recipe_digest,
    recipe_path_of,
)
from shiftreg.checkpoints.lora_keys import KOHYA_PREFIX
from shiftreg.checkpoints.model_spec import HASH_KEY, ModelFacts
from shiftreg.checkpoints.stored import LoadedTensor, raw_bytes
from shiftreg.checkpoints.tensor_files import read_safetensors, widest_first, write_safetensors
from shiftreg.errors import IncompatibleError, InvalidInputError

AdapterForm = Literal["diffusers", "kohya", "diff"]
ADAPTER_FORMS: tuple[str, ...] = get_args(AdapterForm)
UNET_PREFIX = "unet."
PEFT_PREFIX = "base_model.model."  # where diffusers has no loader, peft itself reads a file


@dataclass(frozen=True)
class AdapterNames:
    """Names for the parameters of one base's UNet or transformer.

    Attributes:
        compvis_config: Of the UNet, if kohya's files name its layers as CompVis does.
        is_unet: Otherwise it is a transformer.
    """

    shapes: Mapping[str, tuple[int, ...]]
    compvis_config: Mapping[str, Any] | None
    is_unet: bool = True

    @classmethod
    def of(cls, base_folder: Path, facts: ModelFacts) -> AdapterNames:
        """Reads which parameters a base has."""
        network = network_folder(base_folder)
        shapes = {name: stored.shape for name, stored in stored_component(network).items()}
        has_compvis_names = facts.family is not None and facts.family.compvis_adapters
        config = read_config(network) if has_compvis_names else None
        return cls(shapes, config, is_unet=network.name == "unet")

    def check_form(self, form: str) -> None:
        """Refuses a form that no server reads for such a base.

        Raises:
            InvalidInputError: It is kohya's, or of dense differences, and the base no UNet.
        """
        if form != "diffusers" and not self.is_unet:
            raise InvalidInputError(
                f"Adapters of form '{form}' are for UNets, and this base is a transformer. "
                "Use --form diffusers, which peft reads, or export a whole model."
            )

    def shape(self, parameter: str) -> tuple[int, ...]:
        """The shape of a parameter, by the name that shifts give it.

        Raises:
            IncompatibleError: The UNet has none of that name.
        """
        full = f"{parameter}.weight" if f"{parameter}.weight" in self.shapes else parameter
        if full not in self.shapes:
            raise IncompatibleError(
                f"The base has no layer '{parameter}'. Export shifts that were made for this base."
            )
        return self.shapes[full]

    def is_weight(self, parameter: str) -> bool:
        """Whether it is the weight of a linear or convolutional layer."""
        return f"{parameter}.weight" in self.shapes and len(self.shape(parameter)) > 1

    def pair(self, form: AdapterForm, module: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
        """The tensors of a low-rank change.

        Args:
            form: "diffusers" or "kohya".
            down: ``(r, d_in)``.
            up: ``(d_out, r)``.
        """
        shape, rank = self.shape(module), len(down)
        down = down.reshape(rank, *shape[1:])
        up = up.reshape(shape[0], rank, *[1] * (len(shape) - 2))
        if form == "diffusers":
            prefix = UNET_PREFIX if self.is_unet else PEFT_PREFIX
            return {f"{prefix}{module}.lora_A.weight": down, f"{prefix}{module}.lora_B.weight": up}
        name = self._kohya(module)
        return {
            f"{name}.lora_down.weight": down,
            f"{name}.lora_up.weight": up,
            # The scale is alpha / rank, and all of it is in the factors already.
            f"{name}.alpha": torch.tensor(float(rank)),
        }

    def difference(self, parameter: str, delta: Tensor) -> dict[str, Tensor]:
        """The tensors of a dense change.

        Raises:
            InvalidInputError: The parameter is neither a weight nor a bias.
        """
        delta = delta.reshape(self.shape(parameter))
        if f"{parameter}.weight" in self.shapes:
            return {f"{self._kohya(parameter)}.diff": delta}
        module, _, role = parameter.rpartition(".")
        if role != "bias" or f"{module}.weight" not in self.shapes:
            raise InvalidInputError(
                f"Adapters change weights and biases of layers, and '{parameter}' is neither. "
                "Export a whole model: shiftreg compose --export FILE"
            )
        return {f"{self._kohya(module)}.diff_b": delta}

    def complete(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Puts an empty ``diff`` beside each lone ``diff_b``, which A1111 refuses to read alone."""
        dtype = next(iter(tensors.values())).dtype
        empty = {}
        for weight in (name for name in self.shapes if name.endswith(".weight")):
            name = self._kohya(weight.removesuffix(".weight"))
            if f"{name}.diff_b" in tensors:
                empty[f"{name}.diff"] = torch.zeros(self.shapes[weight], dtype=dtype)
        return empty | tensors

    def _kohya(self, module: str) -> str:
        if self.compvis_config is not None:
            module = unet_key(f"{module}.weight", self.compvis_config).removesuffix(".weight")
        return KOHYA_PREFIX + module.replace(".", "_")


def check_adapter_name(target: Path) -> None:
    """Refuses the name of another kind of file.

    Raises:
        InvalidInputError: It is not a safetensors file.
    """
    if target.suffix.lower() != ".safetensors":
        raise InvalidInputError(
            f"An adapter is a '.safetensors' file, and '{target}' is not one. "
            f"Name it such as '{target.name or 'adapter'}.safetensors'."
        )


def write_adapter(
    path: Path,
    tensors: Mapping[str, Tensor],
    recipe: Mapping[str, Any],
    metadata: Mapping[str, str],
) -> Export:
    """Writes tensors as one file, and the recipe beside it.

    Args:
        path: Where, in a folder of ``placed_together``, in which it may be written again.
        metadata: For the header; the digest of the tensors is added.

    Raises:
        InvalidInputError: A value is not finite.
        OSError: The disk refused; see ``storage_errors``.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InvalidInputError(
                f"{name}: a value does not fit into {tensor.dtype}. Export with float32."
            )
    ordered = {n: t.detach().cpu().contiguous() for n, t in widest_first(tensors).items()}
    hasher = hashlib.sha256()
    for tensor in ordered.values():
        hasher.update(raw_bytes(tensor))
    sha256 = recipe_digest(recipe)
    own = {"format": "pt", HASH_KEY: f"0x{hasher.hexdigest()}", RECIPE_KEY: sha256}
    recipe_path_of(path).write_bytes(recipe_bytes(recipe))
    with DigestedFile(path) as file:
        sources = {name: LoadedTensor(tensor) for name, tensor in ordered.items()}
        write_safetensors(file, sources, {**metadata, **own})
    return Export(
        path=path,
        format="safetensors",
        digest=file.digest,
        recipe_digest=sha256,
        dtype=recipe["dtype"],
    )


def compare_adapter(path: Path, expected: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Compares an adapter with what it should hold, bit for bit.

    Returns:
        The names of tensors that differ, are missing, or should not be there.

    Raises:
        NotFoundError: It does not exist.
        IntegrityError: It is damaged.
    """
    actual, _ = read_safetensors(path)
    return tuple(
        name
        for name in sorted(actual.keys() | expected.keys())
        if name not in actual or name not in expected or not _same(actual[name], expected[name])
    )


def _same(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return raw_bytes(one.contiguous()) == raw_bytes(other.contiguous())
