"""How pipelines are called, one file a family; what else differs is a row of ``families``."""

from __future__ import annotations

import inspect
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from torch import nn

from shiftreg.errors import IncompatibleError
from shiftreg.families import NETWORKS, SUPPORTED, Family, Structure, read_structure
from shiftreg.pipelines.families.base import FamilyPipeline, TextEncoder, joint_attention_error

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin


class TextSide(SimpleNamespace):
    """The tokenizers and text encoders of a base, under the names that its pipeline gives them.

    Attributes:
        family: Of the base.
    """

    family: Family


def network_of(pipeline: DiffusionPipeline) -> ModelMixin:
    """What denoises in a pipeline, and what shifts change: its UNet or transformer.

    Raises:
        IncompatibleError: It has neither.
    """
    for name in NETWORKS:
        if isinstance(model := getattr(pipeline, name, None), nn.Module):
            return model
    raise _unknown(type(pipeline).__name__)


def family_of(pipeline: DiffusionPipeline | TextSide) -> FamilyPipeline:
    """A loaded pipeline, or the text side of one, as one of its family.

    Raises:
        IncompatibleError: It belongs to none that is known here.
    """
    if isinstance(pipeline, TextSide):
        return implementation(pipeline.family)(pipeline)
    # What only encodes prompts has no UNet, but knows that one belongs to it.
    parts = {n for n, part in pipeline.components.items() if part is not None or n in NETWORKS}
    encoder = getattr(getattr(pipeline, "text_encoder", None), "config", None)
    model = getattr(pipeline, next((n for n in NETWORKS if n in parts), ""), None)
    family = _supported(
        Structure(
            pipeline=type(pipeline).__name__,
            components=frozenset(parts),
            network=type(model).__name__,
            settings=frozenset(
                {"cross_attention_dim"} if model is None else getattr(model, "config", {})
            ),
            encoder_type=getattr(encoder, "model_type", ""),
        )
    )
    return implementation(family)(pipeline)


def find_family(folder: Path) -> Family:
    """The family of the pipeline in a diffusers folder; no weights are read.

    Raises:
        IncompatibleError: It belongs to none that is known here.
        IntegrityError: A configuration is damaged.
    """
    structure = read_structure(folder)
    if not structure.settings:
        structure = replace(structure, settings=_arguments(structure.network))
    return _supported(structure)


def implementation(family: Family) -> type[FamilyPipeline]:
    """How pipelines of a family are called; only what that needs of diffusers is imported."""
    module, name = family.implementation.split(":")
    return cast(type[FamilyPipeline], getattr(import_module(f"{__name__}.{module}"), name))


def _supported(structure: Structure) -> Family:
    if "joint_attention_dim" in structure.settings:
        raise joint_attention_error(structure.network)
    if (family := structure.family) is None:
        raise _unknown(structure.pipeline)
    return family


def _arguments(model: str) -> frozenset[str]:
    """The settings that a class of diffusers takes; none if it has no such class."""
    import diffusers

    kind = getattr(diffusers, model, None)
    return frozenset(inspect.signature(kind).parameters if inspect.isclass(kind) else ())


def _unknown(pipeline: str) -> IncompatibleError:
    return IncompatibleError(
        f"{pipeline} is not a pipeline in which shifts are known to be separable. Use a base like "
        f"{SUPPORTED}; docs/families.md says what that takes."
    )
