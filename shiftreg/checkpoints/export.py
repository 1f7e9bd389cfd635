"""Writing a composition as a checkpoint that other tools load, with its recipe beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from shiftreg.canonical import canonical_json
from shiftreg.checkpoints.atomic import already_exists, placed_together
from shiftreg.checkpoints.base_folder import network_folder, unet_dtype
from shiftreg.checkpoints.ckpt_file import write_ckpt
from shiftreg.checkpoints.digested_file import DigestedFile
from shiftreg.checkpoints.files import file_digest, folder_digest, storage_errors
from shiftreg.checkpoints.folder_export import write_folder
from shiftreg.checkpoints.merged import single_file_tensors
from shiftreg.checkpoints.tensor_files import widest_first, write_safetensors
from shiftreg.errors import InvalidInputError

Format = Literal["ckpt", "safetensors", "folder"]
FORMATS: dict[str, Format] = {".ckpt": "ckpt", ".safetensors": "safetensors"}
RECIPE_KEY = "shiftreg.recipe_sha256"
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Export:
    """A checkpoint that was written.

    Attributes:
        format: "ckpt", "safetensors" or "folder".
        digest: SHA-256 of the file, or of the folder's files.
        recipe_digest: SHA-256 of that file; also in the checkpoint's metadata.
        dtype: Of the UNet's weights, such as "float16".
    """

    path: Path
    format: Format
    digest: str
    recipe_digest: str
    dtype: str

    @property
    def recipe_path(self) -> Path:
        """The recipe beside it."""
        return recipe_path_of(self.path)


def export_checkpoint(
    base_folder: Path,
    layers: Mapping[str, Tensor],
    target: Path | str,
    recipe: Mapping[str, Any],
    *,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
    card: str | None = None,
    overwrite: bool = False,
) -> Export:
    """Writes a checkpoint as :func:`write_checkpoint` does; it and its recipe appear, or neither.

    The name decides on the form: ``.ckpt`` and ``.safetensors`` are single files with CompVis
    names; no suffix, a slash at the end, or a folder that exists, is a diffusers folder. The recipe
    is ``<target>.recipe.json``.

    Raises:
        AlreadyExistsError: The target or its recipe exists, and is not to be overwritten.
        InvalidInputError: The name is not of the required form, or lies in the base.
        StorageError: The disk refused.
    """
    form, target = export_format(target), Path(target)
    network_folder(base_folder)  # refuses what is not a base
    check_export_target(base_folder, target, overwrite)
    sidecars = (recipe_path_of(target),)
    with storage_errors(target), placed_together(target, sidecars, overwrite) as placement:
        export = write_checkpoint(
            base_folder,
            layers,
            placement.path,
            recipe,
            form=form,
            dtype=dtype,
            metadata=metadata,
            card=card,
        )
        placement.place()
    return replace(export, path=target)


def write_checkpoint(
    base_folder: Path,
    layers: Mapping[str, Tensor],
    path: Path,
    recipe: Mapping[str, Any],
    *,
    form: Format,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
    card: str | None = None,
) -> Export:
    """Writes base and merged layers as one checkpoint, and the recipe beside it.

    Equal input gives equal bytes; an export of no layers holds the base's weights bit for bit. The
    weights are written in one pass, a piece at a time: no more of them than a layer is ever in
    memory.

    Args:
        layers: UNet module name without ``.weight`` -> merged weight, cast once to the dtype of
            the base's. Each is looked up once, so the mapping may compute it then.
        path: Where, in a folder of ``placed_together``, in which it may be written again.
        dtype: Casts all floating weights; by default each keeps the base's.
        metadata: Further texts for the header of the file (of a folder: of the UNet's files), or
            beside the state dict of a ``.ckpt``.
        card: The model card for a folder, ``README.md``; that of a file lies beside it.

    Raises:
        InvalidInputError: The base, recipe or dtype is not of the required form.
        IncompatibleError: The layers belong to another base.
        NotFoundError: The base does not exist.
        IntegrityError: The base is damaged.
        OSError: The disk refused; see ``storage_errors``.
    """
    content, sha256 = recipe_bytes(recipe), recipe_digest(recipe)
    texts = {**(metadata or {}), RECIPE_KEY: sha256}
    network_folder(base_folder)  # refuses what is not a base
    if dtype is not None and dtype not in DTYPES:
        names = ", ".join(str(known).removeprefix("torch.") for known in DTYPES)
        raise InvalidInputError(f"A checkpoint's dtype is one of {names}; got {dtype}.")
    recipe_path_of(path).write_bytes(content)
    if form == "folder":
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        digest = write_folder(path, base_folder, layers, dtype, texts, card)
    else:
        tensors = single_file_tensors(base_folder, layers, dtype)
        with DigestedFile(path) as file:
            if form == "ckpt":
                write_ckpt(file, tensors, texts)
            else:
                write_safetensors(file, widest_first(tensors), {"format": "pt", **texts})
        digest = file.digest
    return Export(
        path=path,
        format=form,
        digest=digest,
        recipe_digest=sha256,
        dtype=str(dtype or unet_dtype(base_folder)).removeprefix("torch."),
    )


def export_format(target: Path | str) -> Format:
    """The form of checkpoint that a name asks for.

    Raises:
        InvalidInputError: The suffix is another one.
    """
    path = Path(target)
    form = FORMATS.get(path.suffix.lower())
    if str(target).endswith("/") or not path.suffix or (path.is_dir() and not form):
        return "folder"
    if form:
        return form
    raise InvalidInputError(
        f"'{target}' ends in '{path.suffix}', and a checkpoint is a '.safetensors' file, a '.ckpt' "
        "file, or a diffusers folder: a name without a suffix, or with '/' at its end."
    )


def check_export_target(base_folder: Path, target: Path, overwrite: bool) -> None:
    """Refuses early what would destroy something.

    Raises:
        AlreadyExistsError: The target, its recipe or its card exists.
        InvalidInputError: The target lies in the base, is of the other kind (a file or a folder),
            or is a folder with other things in it.
    """
    base, place = base_folder.resolve(), target.resolve()
    if base == place or base in place.parents or place in base.parents:
        raise InvalidInputError(
            f"'{target}' lies in the base folder '{base_folder}' or contains it, and a base never "
            "changes. Choose another target."
        )
    for path in (target, recipe_path_of(target), card_path_of(target)):
        if path.exists() and not overwrite:
            raise already_exists(path)
    is_folder = target.is_dir()
    if target.exists() and is_folder != (export_format(target) == "folder"):
        kinds = ("folder", "file") if is_folder else ("file", "folder")
        raise InvalidInputError(
            f"'{target}' is a {kinds[0]}, and a {kinds[1]} would be written there. "
            "Choose another name."
        )
    # Overwriting takes away the whole folder: only one that such an export made.
    if is_folder and any(target.iterdir()) and not (target / "model_index.json").is_file():
        raise InvalidInputError(
            f"'{target}' is a folder that holds no diffusers pipeline, and overwriting would "
            "delete what is in it. Choose another name."
        )


def recipe_path_of(target: Path) -> Path:
    """Where the recipe of a checkpoint lies: beside it."""
    return target.with_name(f"{target.name}.recipe.json")


def card_path_of(target: Path) -> Path:
    """Where the model card of a file lies: beside it; a folder holds its own."""
    return target.with_name(f"{target.name}.md")


def recipe_bytes(recipe: Mapping[str, Any]) -> bytes:
    """A recipe as it is written, so that equal ones are the same file.

    Raises:
        InvalidInputError: A value cannot be said in JSON.
    """
    value = json.loads(canonical_json(dict(recipe)))
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode()


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """SHA-256 of a recipe's file."""
    return hashlib.sha256(recipe_bytes(recipe)).hexdigest()


def checkpoint_digest(path: Path) -> str:
    """SHA-256 of a checkpoint's file, or over the files of its folder."""
    return folder_digest(path) if path.is_dir() else file_digest(path)
