"""Separability: a shift does not move the keys and values of what it protects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from shiftreg.checks import Check
from shiftreg.shift import ConceptShift
from shiftreg.subspace import drifts


def separability_row(
    shift: ConceptShift, weights: Mapping[str, Tensor], prompt_embeds: Tensor
) -> list[float]:
    """How far one shift moves each prompt: ``max_l |e(p) delta_l.T|_F / |e(p) W_l.T|_F``.

    Args:
        weights: Layer name -> ``W_l (d_out, d_in)`` of the base, for the layers that see the text
            alone. What a shift does to others shows in the noise predictions only.
        prompt_embeds: ``(n, L, d_in)``.

    Returns:
        One relative residual a prompt.
    """
    embeds = prompt_embeds.double()
    worst = embeds.new_zeros(len(embeds))
    for layer in (layer for layer in shift.layers if layer in weights):
        worst = worst.maximum(drifts(embeds, shift.delta_weight(layer), weights[layer]))
    return worst.tolist()


def separability_checks(
    matrix: Mapping[str, Mapping[str, float]], shifts: Iterable[ConceptShift], gate: float
) -> list[Check]:
    """Judges how far each shift moves prompts of others, one check a shift.

    A shift that keeps others to a tolerance says how far it may move them (its metric
    ``drift_bound``), and is held to that.

    Args:
        matrix: Concept of a shift -> prompt -> residual.
        shifts: The shifts of the matrix.
        gate: The limit of shifts that leave others exactly as they are.
    """
    checks = []
    for shift in sorted(shifts, key=lambda shift: shift.concept):
        row = matrix[shift.concept]
        if not row:
            continue
        prompt = max(row, key=lambda p: row[p])
        limit = max(gate, shift.metrics.get("drift_bound", 0.0))
        explanation = (
            f"The shift of {shift.concept} moves '{prompt}' most, by {row[prompt]:.1e} of its size."
        )
        if limit > gate:
            explanation += f" It was made to stay below {limit:.1e}."
        if row[prompt] > limit:
            explanation += (
                " Run: shiftreg refresh"
                if shift.separable
                else f" {shift.method} is not separable. Run: shiftreg decouple {shift.concept!r}"
            )
        checks.append(
            Check.at_most(
                "separability", f"{shift.concept} -> '{prompt}'", row[prompt], limit, explanation
            )
        )
    return checks
