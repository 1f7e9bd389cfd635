"""Finding and loading a base: a diffusers folder, or a hub name; all of it, or its text side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from shiftreg.errors import (
    IncompatibleError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    ShiftregError,
)
from shiftreg.families import Family
from shiftreg.pipelines.families import FamilyPipeline, TextSide, find_family, implementation
from shiftreg.pipelines.layers import image_independent_layers

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

T = TypeVar("T")
_HUB_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")


def resolve_source(source: str) -> Path:
    """Finds the local folder of a base, downloading a hub snapshot where needed.

    Args:
        source: A diffusers folder, or a hub name like "owner/model".

    Raises:
        NotFoundError: Neither a folder nor a hub name that can be fetched.
        InvalidInputError: A file, or a folder that is not a diffusers pipeline.
        IncompatibleError: A pipeline in which shifts are not known to be separable.
        IntegrityError: Parts of it are missing.
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
            f"'{source}' is not a diffusers pipeline: it has no model_index.json. "
            "Give the folder that save_pretrained wrote."
        )
    if missing := [part for part in find_family(path).components if not (path / part).is_dir()]:
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


def load_pipeline(
    folder: Path, dtype: torch.dtype = torch.float32, *, without: Sequence[str] = ()
) -> DiffusionPipeline:
    """Loads a base from its folder; safetensors only, so that no pickle is ever executed.

    Args:
        folder: As :func:`resolve_source` returns it; sharded, or of variant fp16, as it is.
        dtype: Of the loaded weights.
        without: Names of parts that are not needed.

    Raises:
        IncompatibleError: It is not a pipeline in which shifts are known to be separable.
        InvalidInputError: It holds some parts in two precisions, and others in half alone.
        IntegrityError: A file is missing, truncated or not what its config says.
    """
    from diffusers.utils import logging

    logging.disable_progress_bar()
    family = find_family(folder)
    options = _options(folder, family)
    pipeline = _loaded(
        folder,
        lambda: implementation(family).load(
            # Loading into meta tensors first would need the accelerate package.
            folder, dtype=dtype, low_cpu_mem_usage=False, **options, **dict.fromkeys(without)
        ),
    )  # fmt: skip
    loaded = implementation(family)(pipeline)
    _check(loaded, pipeline, folder)
    pipeline.set_progress_bar_config(disable=True)
    encoders = [encoder.model for encoder in loaded.text_encoders]
    for model in (loaded.network, *encoders, pipeline.vae):
        if model is not None:
            model.requires_grad_(False).eval()
    return pipeline


def load_text_side(folder: Path) -> DiffusionPipeline | TextSide:
    """Loads of a base what encodes prompts, in float32, for ``encode_prompts``.

    Raises:
        IntegrityError: As :func:`load_pipeline`.
    """
    family = find_family(folder)
    if family.network_encodes:
        return load_pipeline(folder, without=family.image_components)
    import transformers

    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    options = _options(folder, family)
    text = TextSide(family=family, **{family.network: None})

    def load(name: str, **options: Any) -> Any:
        kind = getattr(transformers, index[name][1])
        return _loaded(folder, lambda: kind.from_pretrained(folder / name, **options))

    for encoder in family.encoders:
        tokenizer = load(encoder.tokenizer, local_files_only=True)
        model = load(encoder.component, dtype=torch.float32, **options)
        setattr(text, encoder.tokenizer, tokenizer)
        setattr(text, encoder.component, model.requires_grad_(False).eval())
    _check_encoders(implementation(family)(text), folder)
    return text


def _loaded(folder: Path, load: Callable[[], T]) -> T:
    """What a library loads.

    Raises:
        IntegrityError: It cannot.
    """
    import transformers

    # Its bars would run across the command line's own.
    transformers.logging.disable_progress_bar()
    try:
        return load()
    except ShiftregError:
        raise
    # The libraries raise everything from OSError to SafetensorError for a damaged folder.
    except Exception as error:
        raise IntegrityError(
            f"The base in '{folder}' cannot be loaded ({type(error).__name__}: {error}). "
            "It needs whole safetensors files; copy the folder again or convert its weights."
        ) from error


def _options(folder: Path, family: Family) -> dict[str, Any]:
    """How the libraries read weights: whole safetensors files of this folder, and no others.

    Raises:
        InvalidInputError: Some weights are there in two precisions, and others in half alone.
    """
    variant = _variant(folder, family.components)
    options = {"use_safetensors": True, "local_files_only": True}
    return {**options, "variant": variant} if variant else options


def _variant(folder: Path, parts: Sequence[str]) -> str | None:
    """The variant to ask diffusers for: "fp16" if some weights are there in no other.

    Raises:
        InvalidInputError: diffusers would then take the half of other parts, too, which is not what
            exports are made from.
    """
    both: list[str] = []
    alone: list[str] = []
    for part in parts:
        names = [path.name for path in (folder / part).glob("*.safetensors")]
        halves = [name for name in names if ".fp16" in name]
        if halves:
            (alone if len(halves) == len(names) else both).append(part)
    if alone and both:
        raise InvalidInputError(
            f"A base has one precision, and '{folder}' holds {', '.join(alone)} in fp16 alone, and "
            f"{', '.join(both)} in another one, too. Remove the files '*.fp16*' of the latter, or "
            "fetch the others of the former."
        )
    return "fp16" if alone else None


def _check(family: FamilyPipeline, pipeline: DiffusionPipeline, folder: Path) -> None:
    """Refuses parts that were loaded and do not belong together.

    Raises:
        IncompatibleError: Their widths differ, or the network takes more than noisy latents.
        IntegrityError: A tokenizer has no vocabulary, or another one than its encoder.
    """
    if family.network is not None:
        _check_network(family, folder)
    if family.network is not None and pipeline.vae is not None:
        taken, given = family.network.config.in_channels, pipeline.vae.config.latent_channels
        if taken != given:
            raise IncompatibleError(
                f"The network of '{folder}' takes {taken} channels, and latents have {given}: it "
                "also reads an image, as for inpainting. Use the base that makes images from "
                "text alone."
            )
    _check_encoders(family, folder)


def _check_encoders(family: FamilyPipeline, folder: Path) -> None:
    """Refuses tokenizers that lack their vocabulary, or have another one than their encoder.

    Raises:
        IntegrityError: Names which.
    """
    for encoder in family.text_encoders:
        ids, others = (encoder.tokenizer(word)["input_ids"] for word in ("cat", "dog"))
        # With no vocabulary every letter is unknown, and the libraries do not mind.
        if ids == others:
            raise IntegrityError(
                f"A tokenizer of '{folder}' cannot tell words apart: its vocabulary is missing "
                "(tokenizer.json, vocab.json and merges.txt, or spiece.model). Copy the whole "
                "folder again."
            )
        if max(ids) >= encoder.model.config.vocab_size:
            raise IntegrityError(
                f"A tokenizer of '{folder}' knows tokens that its text encoder does not: "
                f"{max(ids)}, of {encoder.model.config.vocab_size}. Use the tokenizer that "
                "belongs to it."
            )


def _check_network(family: FamilyPipeline, folder: Path) -> None:
    """Refuses cross-attentions that read something else than the text encoders write."""
    layers = image_independent_layers(family.network)
    read, written = next(iter(layers.values())).in_features, family.condition_width
    if read != written:
        raise IncompatibleError(
            f"The cross-attentions of '{folder}' read embeddings of width {read}, and those of its "
            f"text encoder have {written}. Use the text encoder that belongs to the base."
        )
