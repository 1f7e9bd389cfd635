"""A base with merged layers put in, and nothing else changed; in its files until it is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shiftreg.checkpoints.base_folder import (
    layer_name,
    read_config,
    single_file_family,
    stored_component,
)
from shiftreg.checkpoints.files import reading
from shiftreg.checkpoints.single_file import component_places, to_single_file
from shiftreg.checkpoints.stored import (
    DerivedTensor,
    LoadedTensor,
    StoredTensor,
    TensorSource,
    whole,
)
from shiftreg.errors import IncompatibleError, InvalidInputError


@dataclass(frozen=True)
class MergedTensor:
    """A tensor in place of the base's; its value is looked up when it is written."""

    name: str
    layers: Mapping[str, Tensor]
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def layer(self) -> str:
        """What shifts call it."""
        return layer_name(self.name)

    def pieces(self) -> Iterator[Tensor]:
        """See ``TensorSource``.

        Raises:
            IncompatibleError: The value has another shape than the base's.
            InvalidInputError: It is not finite, or not in the range of the dtype.
        """
        merged = self.layers[self.layer]
        if tuple(merged.shape) != self.shape:
            raise IncompatibleError(
                f"The merged weight of {self.layer} has shape {tuple(merged.shape)}, and the base "
                f"has {self.shape} there. Merge shifts that were made for this base."
            )
        for piece in LoadedTensor(merged.detach().cpu()).pieces():
            if not _finite(piece):
                raise InvalidInputError(f"{self.name}: the merged weight holds NaN or infinity.")
            yield cast(self.name, piece, self.dtype)


def put_layers(
    tensors: Mapping[str, StoredTensor],
    layers: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
) -> dict[str, TensorSource]:
    """Replaces the weights of layers.

    Args:
        tensors: A component's state dict.
        layers: Parameter -> its full value, as ``ConceptShift`` names them: a weight by its
            module. Others are left alone.
        dtype: Of all floating tensors of the result; by default each keeps its own.
    """
    result: dict[str, TensorSource] = {}
    for name, stored in tensors.items():
        wanted = dtype if dtype and stored.dtype.is_floating_point else stored.dtype
        if layer_name(name) in layers:
            result[name] = MergedTensor(name, layers, dtype or stored.dtype, stored.shape)
        elif wanted != stored.dtype:
            result[name] = _in_dtype(name, stored, wanted)
        else:
            result[name] = stored
    return result


def _in_dtype(name: str, source: StoredTensor, dtype: torch.dtype) -> TensorSource:
    def read() -> Iterator[Tensor]:
        return (cast(name, piece, dtype) for piece in source.pieces())

    return DerivedTensor(dtype, source.shape, read)


def check_layers(tensors: Mapping[str, StoredTensor], layers: Mapping[str, Tensor]) -> None:
    """Refuses layers that a UNet does not have.

    Raises:
        IncompatibleError: Names the first one.
    """
    if unknown := sorted(layers.keys() - {layer_name(name) for name in tensors}):
        raise IncompatibleError(
            f"The base has no layer '{unknown[0]}'. Merge shifts that were made for this base."
        )


def cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounds values once; there is at least one.

    Raises:
        InvalidInputError: A finite value leaves the range of the dtype.
    """
    result = tensor.to(dtype)
    if not _finite(result) and _finite(tensor.double()):
        raise InvalidInputError(
            f"{name}: values up to {float(tensor.abs().max()):g} do not fit into {dtype}. "
            "Export with float32 or bfloat16."
        )
    return result


def _finite(values: Tensor) -> bool:
    # Not a number comes through; to ask each value takes twenty times as long.
    return all(math.isfinite(value) for value in torch.aminmax(values))


def single_file_tensors(
    base_folder: Path, layers: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> dict[str, TensorSource]:
    """Base and merged layers under CompVis names, sorted.

    Args:
        base_folder: A diffusers folder with ``unet``, ``vae``, and one or two text encoders.
        layers: As in :func:`put_layers`.
        dtype: Of all floating tensors; by default each keeps its own.

    Raises:
        NotFoundError: The folder or a part of it does not exist.
        InvalidInputError: It is another kind of pipeline, or has no safetensors weights.
        IncompatibleError: The layers belong to another base.
        IntegrityError: A file is damaged.
    """
    family = single_file_family(base_folder)
    state: dict[str, TensorSource] = {}
    for component in family.single_file_classes:
        folder = base_folder / component
        stored = stored_component(folder)
        own = layers if component == family.network else {}
        check_layers(stored, own)
        put = put_layers(stored, own, dtype)
        # A configuration may be valid JSON and still lack what the names follow from.
        with reading(folder / "config.json"):
            places = component_places(component, stored, read_config(folder), family)
        state |= to_single_file(put, places)
    return dict(sorted(state.items()))


def single_file_state(
    base_folder: Path, layers: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The same as :func:`single_file_tensors`, in memory."""
    tensors = single_file_tensors(base_folder, layers, dtype)
    return {name: whole(source) for name, source in tensors.items()}
