"""Loading a CLIP model, which tells how well an image fits a text."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from transformers import CLIPModel, CLIPProcessor

from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError

_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))


def load_clip(folder: Path) -> tuple[CLIPModel, CLIPProcessor]:
    """Loads CLIP from its folder; safetensors only, so that no pickle is ever executed.

    Args:
        folder: What ``save_pretrained`` of a CLIP model and its processor wrote, or a copy of a
            hub model such as openai/clip-vit-large-patch14.

    Returns:
        The frozen model in single precision, and what prepares its images and texts.

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: The folder holds no CLIP model.
        IntegrityError: A file is missing, truncated or not what its config says.
    """
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder '{folder}' with a CLIP model. Check the path.")
    if _kind(folder) != "clip":
        raise InvalidInputError(
            f"'{folder}' is not a CLIP model: its config.json does not say so. Give the folder of "
            "one with its processor, such as a copy of openai/clip-vit-large-patch14."
        )
    if not any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES):
        # The processor would be loaded all the same, with an empty vocabulary.
        raise IntegrityError(
            f"The CLIP model in '{folder}' lacks its tokenizer: tokenizer.json, or vocab.json "
            "and merges.txt. Copy the whole folder again."
        )
    # Their bars would run across the command line's own.
    transformers.logging.disable_progress_bar()
    try:
        model, found = CLIPModel.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    # The libraries below raise everything from OSError to SafetensorError for a damaged folder.
    except Exception as error:
        raise IntegrityError(
            f"The CLIP model in '{folder}' cannot be loaded ({type(error).__name__}: {error}). "
            "It needs whole safetensors files and the configuration of its processor; copy the "
            "folder again."
        ) from error
    if missing := found["missing_keys"]:
        raise IntegrityError(
            f"The CLIP model in '{folder}' lacks {len(missing)} weights, such as "
            f"'{min(missing)}'. Copy the folder again."
        )
    return model.requires_grad_(False).eval(), processor


def _kind(folder: Path) -> str | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config.get("model_type") if isinstance(config, dict) else None
