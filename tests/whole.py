"""Whole checkpoints in memory: no command needs them so, and tests look at all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from shiftreg.checkpoints import single_file_contents
from shiftreg.checkpoints.merged import single_file_tensors
from shiftreg.checkpoints.stored import whole


def single_file_state(
    base_folder: Path, layers: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """What a single file of a base with merged layers holds."""
    tensors = single_file_tensors(base_folder, layers, dtype)
    return {name: whole(source) for name, source in tensors.items()}


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a single file, or of a folder under a single file's names."""
    if path.is_dir():
        return single_file_state(path, {})
    return {name: whole(source) for name, source in single_file_contents(path).items()}
