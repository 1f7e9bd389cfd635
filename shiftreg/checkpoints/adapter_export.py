"""Writing an adapter: a file of changes that a server adds to a model, with its recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftreg.checkpoints.atomic import atomic_file
from shiftreg.checkpoints.digested_file import DigestedFile
from shiftreg.checkpoints.export import (
    RECIPE_KEY,
    Export,
    check_export_target,
    recipe_bytes,
    recipe_digest,
    recipe_path_of,
)
from shiftreg.checkpoints.model_spec import HASH_KEY
from shiftreg.checkpoints.stored import LoadedTensor, raw_bytes
from shiftreg.checkpoints.tensor_files import read_safetensors, widest_first, write_safetensors
from shiftreg.errors import InvalidInputError


def check_adapter_name(target: Path) -> None:
    """Refuses the name of another kind of file.

    Raises:
        InvalidInputError: It is no safetensors file.
    """
    if target.suffix.lower() != ".safetensors":
        raise InvalidInputError(
            f"An adapter is a '.safetensors' file, and '{target}' is none. "
            f"Name it such as '{target.name or 'adapter'}.safetensors'."
        )


def check_adapter_target(base_folder: Path, target: Path, overwrite: bool) -> None:
    """Refuses early a place where an adapter cannot be written.

    Raises:
        AlreadyExistsError: It, its recipe or its card is there.
        InvalidInputError: It is no safetensors file, or lies in the base.
    """
    check_adapter_name(target)
    check_export_target(base_folder, target, overwrite)


def write_adapter(
    path: Path,
    tensors: Mapping[str, Tensor],
    recipe: Mapping[str, Any],
    metadata: Mapping[str, str],
) -> Export:
    """Writes tensors as one file, and the recipe beside it.

    Args:
        path: Where, in a folder of ``placed_together``, in which it may be written again.
        tensors: By their names in the file.
        recipe: What went into it, as JSON values.
        metadata: For the header; the digest of the tensors is added.

    Raises:
        InvalidInputError: A value is not finite.
        StorageError: The disk refused.
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
    with atomic_file(path, overwrite=True) as partial, DigestedFile(partial) as file:
        sources = {name: LoadedTensor(tensor) for name, tensor in ordered.items()}
        write_safetensors(file, sources, {**metadata, **own})
    with atomic_file(recipe_path_of(path), overwrite=True) as partial:
        partial.write_bytes(recipe_bytes(recipe))
    return Export(
        path=path,
        format="safetensors",
        digest=file.digest,
        recipe_path=recipe_path_of(path),
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
