"""Bases that come as one file: converted once, into a folder of the home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftreg import checkpoints, pipelines
from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.canonical import canonical_digest
from shiftreg.errors import InvalidInputError, StorageError

if TYPE_CHECKING:
    from shiftreg.api.workspace import Workspace

BASES = "bases"
CONFIGURATION = ("*.json", "*.model", "merges.txt", "vocab.txt")


@dataclass(frozen=True)
class Conversion:
    """A single file and the diffusers folder that it became, or would become.

    Attributes:
        file: The single file.
        file_digest: Its SHA-256.
        folder: Below the home; named after all that its content depends on.
        exists: Whether it was there already.
        config: The folder that configurations and tokenizers come from.
        components: Part of the pipeline -> how many tensors it has.
        averaged: How many averaged (EMA) weights the file holds.
        ema: Whether the UNet has those.
        left_out: Tensors of the file that belong to no part of the pipeline.
    """

    file: Path
    file_digest: str
    folder: Path
    exists: bool
    config: Path
    components: Mapping[str, int]
    averaged: int
    ema: bool
    left_out: tuple[str, ...]

    def origin(self) -> dict[str, Any]:
        """What is kept beside the weights, and in the audit trail."""
        return {
            "file": str(self.file),
            "file_sha256": self.file_digest,
            "ema": self.ema,
            "averaged": self.averaged,
            "left_out": list(self.left_out),
        }


def convert_base(
    workspace: Workspace,
    source: str,
    *,
    config: Path | None = None,
    ema: bool = False,
    dry_run: bool = False,
    observe: Observer = ignore_progress,
) -> Conversion:
    """Makes a diffusers folder of a single file, once: the same file again finds it there.

    Args:
        workspace: Whose home the folder goes to.
        source: A ``.safetensors`` or ``.ckpt`` file of Stable Diffusion 1.x, 2.x or XL.
        config: A diffusers folder of the same architecture, with or without weights; by default
            the hub's that diffusers takes for such a file.
        ema: Takes the UNet's averaged weights; by default the plain ones.
        dry_run: Checks everything, and writes nothing.
        observe: Told of the progress.

    Raises:
        NotFoundError: The file or the configuration does not exist or cannot be fetched.
        InvalidInputError: The file is of another kind, or has no averaged weights.
        IncompatibleError: It is of another architecture than the configuration.
        IntegrityError: It is damaged, or holds code.
        StorageError: The disk refused.
    """
    file = Path(source).expanduser().absolute()
    observe(Progress("reading the file", 0, 1))
    tensors = checkpoints.single_file_contents(file)
    config = config or pipelines.fetch_configuration(tensors)
    shapes = pipelines.weight_shapes(config)
    found = checkpoints.sort_single_file(file, tensors, shapes, config, ema=ema)
    digest = checkpoints.file_digest(file)
    own = {
        "file": digest,
        "config": checkpoints.folder_digest(config, CONFIGURATION),
        "ema": ema,
    }
    folder = workspace.settings.home / BASES / canonical_digest(own)[:16]
    conversion = Conversion(
        file=file,
        file_digest=digest,
        folder=folder,
        exists=folder.is_dir(),
        config=config,
        components={name: len(part) for name, part in found.components.items()},
        averaged=found.averaged,
        ema=ema,
        left_out=found.left_out,
    )
    if not conversion.exists and not dry_run:
        _make_folder(folder.parent)
        checkpoints.write_base(
            found,
            config,
            folder,
            conversion.origin(),
            lambda done, total: observe(Progress("converting, in MB", done >> 20, total >> 20)),
        )
    return conversion


def check_options(source: str, config: Path | None, ema: bool) -> None:
    """Refuses options of single files for other sources.

    Raises:
        InvalidInputError: Names the option.
    """
    if (config or ema) and not checkpoints.is_single_file(source):
        option = "--config" if config else "--ema"
        raise InvalidInputError(
            f"{option} belongs to a single file (.safetensors, .ckpt), and '{source}' is none."
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder '{folder}' could not be made: {error.strerror or error}. "
            "Check the disk, or choose another home."
        ) from error
