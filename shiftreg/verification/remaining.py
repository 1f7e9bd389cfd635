"""How much of an erased concept is left, in the network's own terms: no classifier is asked.

A prompt that names the concept differs from its anchor, the prompt that should take its place, by
``e(c) - e(a)``. What is left of that is the share of it in ``e'(c) - e(a)``: 1 where nothing
happened, 0 where nothing points from the anchor to the concept any more. ``e`` are keys and values,
or noise predictions. Its length is not asked for: methods that send a concept elsewhere than to its
anchor erase it, too. docs/measurements.md has what classifiers see beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from shiftreg.checks import Check
from shiftreg.shift import ConceptShift


def left_in_layers(
    weights: Mapping[str, Tensor], shift: ConceptShift, rows: Tensor, anchor_rows: Tensor
) -> float:
    """What a shift leaves of the difference in keys and values, as the mean over the layers.

    Args:
        weights: Layer name -> the base's weight ``W_l (d_out, d_in)``.
        rows: ``(n, d_in)``, of the concept's prompts, from its name on.
        anchor_rows: ``(n, d_in)``, of their anchors.
    """
    own, anchors = rows.double(), anchor_rows.double()
    left = []
    for layer, weight in weights.items():
        whole = (own - anchors) @ weight.double().T
        moved = own @ shift.delta_weight(layer).T if layer in shift.layers else 0 * whole
        left.append(1 + (moved * whole).sum() / whole.square().sum())
    return float(torch.stack(left).mean())


def unknown_to_classifier(concept: str) -> str:
    """Says that nobody looked for a concept in images."""
    return (
        f"{concept} in images: not measured, no classifier knows it. Train one: "
        "shiftreg classifier train"
    )


def unmeasured_checks(concepts: Iterable[str], stated: Mapping[str, float]) -> list[Check]:
    """What somebody states a limit for has to be measured, and was not.

    Args:
        concepts: Erased ones that no classifier knows.
        stated: Gate -> limit, of those that somebody stated.
    """
    where = {"name": "its name", "held_out_prompts": "held-out prompts"}
    return [
        Check.at_most(
            "erasure", f"{one}, {where[gate]}", 1.0, stated[gate], unknown_to_classifier(one)
        )
        for one in concepts
        for gate in where
        if stated.get(gate, 1.0) < 1.0
    ]


def remaining_checks(left: Mapping[str, float], limit: float) -> list[Check]:
    """Erased concepts became their anchors, one check each kind of prompt.

    Args:
        left: "Caravaggio, its name" -> what is left of the difference in noise predictions.
        limit: The gate.
    """
    return [
        Check.at_most(
            "remaining",
            subject,
            value,
            limit,
            f"{value:.0%} of what makes these prompts the concept's is left in noise predictions"
            f"{': it still generates.' if value > limit else '.'}",
        )
        for subject, value in left.items()
    ]
