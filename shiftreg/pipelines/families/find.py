"""Which family a pipeline belongs to, by what it consists of; and which ones are refused."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
from diffusers import DiffusionPipeline, ModelMixin
from torch import nn

from shiftreg.errors import IncompatibleError, IntegrityError
from shiftreg.pipelines.families.base import Family
from shiftreg.pipelines.families.pixart import PixArt
from shiftreg.pipelines.families.stable_diffusion import StableDiffusion
from shiftreg.pipelines.families.stable_diffusion_xl import StableDiffusionXL
from shiftreg.pipelines.layers import joint_attention_error

NETWORKS = ("unet", "transformer")
SUPPORTED = "Stable Diffusion 1.x, 2.x, XL or PixArt (alpha, sigma)"


def network_of(pipeline: DiffusionPipeline) -> ModelMixin:
    """What denoises in a pipeline, and what shifts change: its UNet or transformer.

    Raises:
        IncompatibleError: It has neither.
    """
    for name in NETWORKS:
        if isinstance(model := getattr(pipeline, name, None), nn.Module):
            return model
    raise _unknown(type(pipeline).__name__)


def family_of(pipeline: DiffusionPipeline) -> Family:
    """A loaded pipeline as one of its family.

    Raises:
        IncompatibleError: It belongs to none that is known here.
    """
    # A reader of prompts has no UNet, but knows that one belongs to it.
    parts = {n for n, part in pipeline.components.items() if part is not None or n in NETWORKS}
    encoder = getattr(getattr(pipeline, "text_encoder", None), "config", None)
    model = getattr(pipeline, next((n for n in NETWORKS if n in parts), ""), None)
    family = _family(
        parts,
        {"cross_attention_dim"} if model is None else set(getattr(model, "config", {})),
        getattr(encoder, "model_type", ""),
        type(model).__name__,
        type(pipeline).__name__,
    )
    return family(pipeline)


def find_family(folder: Path) -> type[Family]:
    """The family of the pipeline in a diffusers folder; no weights are read.

    Raises:
        IncompatibleError: It belongs to none that is known here.
        IntegrityError: A configuration is damaged.
    """
    index = _read(folder / "model_index.json")
    parts = {name for name, part in index.items() if isinstance(part, list) and any(part)}
    name = next((name for name in NETWORKS if name in parts), "")
    model = str(index[name][-1]) if name else ""
    config = folder / name / "config.json"
    encoder = folder / "text_encoder" / "config.json"
    return _family(
        parts,
        set(_read(config)) if name and config.is_file() else _arguments(model),
        str(_read(encoder).get("model_type", "")) if encoder.is_file() else "",
        model,
        str(index.get("_class_name")),
    )


def _family(
    parts: set[str], settings: set[str], encoder: str, model: str, pipeline: str
) -> type[Family]:
    """Decides by the parts, the names of the network's settings, and the kind of text encoder."""
    if "joint_attention_dim" in settings:
        raise joint_attention_error(model)
    if "unet" in parts and "cross_attention_dim" in settings and "text_encoder" in parts:
        return StableDiffusionXL if "text_encoder_2" in parts else StableDiffusion
    is_pixart = {"caption_channels", "cross_attention_dim"} <= settings and encoder in ("t5", "")
    if "transformer" in parts and "text_encoder" in parts and is_pixart:
        return PixArt
    raise _unknown(pipeline)


def _arguments(model: str) -> set[str]:
    """The settings that a class of diffusers takes; none if it has no such class."""
    kind = getattr(diffusers, model, None)
    return set(inspect.signature(kind).parameters) if inspect.isclass(kind) else set()


def _unknown(pipeline: str) -> IncompatibleError:
    return IncompatibleError(
        f"{pipeline} is no pipeline in which shifts are known to be separable. Use a base like "
        f"{SUPPORTED}; docs/families.md says what that takes."
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"'{path}' cannot be read ({error}). Copy the whole folder again."
        ) from error
    if not isinstance(content, dict):
        raise IntegrityError(f"'{path}' holds no JSON object. Copy the whole folder again.")
    return content
