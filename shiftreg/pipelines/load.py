"""Finding and loading a base: a diffusers folder, or a hub name."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging

from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError

_PARTS = ("unet", "text_encoder", "tokenizer", "vae", "scheduler")
_HUB_FILES = ("*.json", "*.txt", "*.safetensors")


def resolve_source(source: str) -> Path:
    """Finds the local folder of a base, downloading a hub snapshot where needed.

    Args:
        source: A diffusers folder, or a hub name like "owner/model".

    Raises:
        NotFoundError: Neither a folder nor a hub name that can be fetched.
        InvalidInputError: A file, or a folder that is no diffusers pipeline.
    """
    path = Path(source).expanduser()
    if path.is_file():
        raise InvalidInputError(
            f"A base is a diffusers folder or a hub name, and '{source}' is a file. Convert it "
            "first, e.g. StableDiffusionPipeline.from_single_file(...).save_pretrained(FOLDER)."
        )
    if not path.is_dir():
        path = _download(source)
    if not (path / "model_index.json").is_file():
        raise InvalidInputError(
            f"'{source}' is no diffusers pipeline: it has no model_index.json. "
            "Give the folder that save_pretrained wrote."
        )
    if missing := [part for part in _PARTS if not (path / part).is_dir()]:
        raise IntegrityError(
            f"The base '{source}' lacks {', '.join(missing)}. Copy the whole folder again."
        )
    return path.resolve()


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    missing = NotFoundError(
        f"Base '{name}' is neither a folder here nor a hub model that can be fetched. "
        "Check the path or the name, and the connection."
    )
    if name.count("/") != 1:
        raise missing
    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise missing from error


def load_prompt_reader(folder: Path) -> StableDiffusionPipeline:
    """Loads of a base what reads prompts, for ``encode_prompts``; it cannot paint.

    Raises:
        IntegrityError: As :func:`load_pipeline`.
    """
    return load_pipeline(folder, unet=None, vae=None)


def load_pipeline(
    folder: Path, dtype: torch.dtype = torch.float32, **parts: None
) -> StableDiffusionPipeline:
    """Loads a base from its folder; safetensors only, so that no pickle is ever executed.

    Args:
        folder: As :func:`resolve_source` returns it.
        dtype: Of the loaded weights.
        parts: Names of parts that are not needed, each as None.

    Raises:
        IntegrityError: A file is missing, truncated or not what its config says.
    """
    # Their bars would run across the command line's own.
    diffusers_logging.disable_progress_bar()
    transformers.logging.disable_progress_bar()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder,
            dtype=dtype,
            # Loading into meta tensors first would need the accelerate package.
            low_cpu_mem_usage=False,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            requires_safety_checker=False,
            **parts,
        )
    # The libraries below raise everything from OSError to SafetensorError for a damaged folder.
    except Exception as error:
        raise IntegrityError(
            f"The base in '{folder}' cannot be loaded ({type(error).__name__}: {error}). "
            "It needs whole safetensors files; copy the folder again or convert its weights."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    for model in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        if model is not None:
            model.requires_grad_(False).eval()
    return pipeline
