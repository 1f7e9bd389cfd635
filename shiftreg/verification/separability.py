"""Separability: a shift does not move the keys and values of what it protects."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from shiftreg.shift import ConceptShift
from shiftreg.verification.checks import Check

SEPARABILITY_LIMIT = 1e-5


def separability_row(
    shift: ConceptShift, weights: Mapping[str, Tensor], prompt_embeds: Tensor
) -> list[float]:
    """How far one shift moves each prompt: ``max_l |e(p) delta_l.T|_F / |e(p) W_l.T|_F``.

    Args:
        shift: The shift.
        weights: Layer name -> ``W_l (d_out, d_in)`` of the base.
        prompt_embeds: ``(n, L, d_in)``.

    Returns:
        One relative residual a prompt.
    """
    embeds = prompt_embeds.double()
    worst = embeds.new_zeros(len(embeds))
    for layer in shift.layers:
        moved = (embeds @ shift.delta_weight(layer).T).flatten(1).norm(dim=1)
        kept = (embeds @ weights[layer].double().T).flatten(1).norm(dim=1)
        worst = worst.maximum(moved / kept)
    return worst.tolist()


def separability_checks(matrix: Mapping[str, Mapping[str, float]]) -> list[Check]:
    """Judges the matrix concept of a shift -> prompt -> residual, one check a shift."""
    checks = []
    for concept, row in matrix.items():
        if not row:
            continue
        prompt = max(row, key=lambda p: row[p])
        explanation = (
            f"The shift of {concept} moves keys and values of '{prompt}' most, "
            f"by {row[prompt]:.1e} of their size."
        )
        if row[prompt] > SEPARABILITY_LIMIT:
            explanation += " Run: shiftreg refresh"
        checks.append(
            Check.at_most(
                "separability",
                f"{concept} -> '{prompt}'",
                row[prompt],
                SEPARABILITY_LIMIT,
                explanation,
            )
        )
    return checks
