"""The size of a shift, and what it does to prompts that should not notice it."""

from __future__ import annotations

from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.loaded_base import LoadedBase
from shiftreg.compose import Composition, merged_weights
from shiftreg.shift import ConceptShift
from shiftreg.subspace import relative_change
from shiftreg.verification import separability_row


def measure_shift(
    place: LoadedBase, shift: ConceptShift, protected_embeds: Tensor
) -> dict[str, float]:
    """The size of a shift, and how far it moves what should not notice it.

    Args:
        protected_embeds: ``(p, L, d_in)``.
    """
    weights = place.layer_weights
    own = weights if weights.keys() >= set(shift.layers) else pipelines.parameters(place.network)
    # A bias may be zero, and no change is small or large beside that.
    changes = [
        relative_change(shift.delta_weight(name), own[name])
        for name in shift.layers
        if own[name].any()
    ]
    metrics = {
        "relative_change": max(changes, default=0.0),
        "max_drift": max(disturbance(place, shift, protected_embeds)),
    }
    if shift.factors:
        metrics["rank"] = float(shift.rank)
    if shift.dense:
        metrics["dense_parameters"] = float(len(shift.dense))
    return metrics


def disturbance(place: LoadedBase, shift: ConceptShift, prompt_embeds: Tensor) -> list[float]:
    """How far one shift moves each prompt, relative to its size.

    Of keys and values; of the noise predictions where a shift reaches layers that see the image,
    since then keys and values do not tell what it does.

    Args:
        prompt_embeds: ``(n, L, d_in)``.
    """
    weights = place.layer_weights
    row = separability_row(shift, weights, prompt_embeds)
    if weights.keys() >= set(shift.layers):
        return row
    moved = noise_moved(place, shift, prompt_embeds)
    return [max(pair) for pair in zip(row, moved, strict=True)]


def noise_moved(place: LoadedBase, shift: ConceptShift, prompt_embeds: Tensor) -> list[float]:
    """How far one shift, alone, moves the noise predictions of prompts ``(n, L, d_in)``."""
    alone = Composition.of(shift.base_digest, [shift])
    changed = merged_weights(pipelines.parameters(place.network), alone)
    return pipelines.noise_difference(place.pipeline, changed, prompt_embeds).tolist()
