"""Which shifts are inside a difference of weights, at which strength, and what they leave.

The difference ``D_l`` of each layer is explained as ``sum_k s_k delta_lk`` by least squares, with
few shifts: orthogonal matching pursuit (Pati, Rezaiifar and Krishnaprasad, 1993) with exchanges.
The strengths of the chosen ones are then refined with each layer weighted by what is left in it, so
that a layer that something else has changed does not bend them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.least_squares import FLOOR, SIGNIFICANT, LeastSquares, energy, rest_of
from shiftreg.shift import ConceptShift

LEAST_STRENGTH = 0.02  # a weaker shift forgets nothing
LEAST_FIT = 0.25  # share of the difference in its own support that a shift explains...
NEAR_ONE = 0.1  # ... unless its strength is that of a composition, within this
ROUNDING_TOLERANCE = 4.0  # times the expected energy: twice the amplitude
ROUNDS = 10


@dataclass(frozen=True)
class FoundStrength:
    """A shift that is inside.

    Attributes:
        index: Its place among the shifts that were looked for.
        strength: What its deltas are multiplied by: 1 as registered.
        error: Standard error of the strength: by what is left, or by how far layers disagree,
            whichever is larger.
        alternatives: ``(place, strength)`` of shifts that would explain the same as well.
    """

    index: int
    strength: float
    error: float
    alternatives: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Explanation:
    """What shifts explain of a difference.

    Attributes:
        found: The shifts that are inside, by their place.
        explained: Share of ``|D|_F^2`` that they explain, 0 to 1.
        rounding: Share of it that rounding is expected to leave.
        residuals: Layer -> share of ``|D|_F^2`` that is left in it.
        unexplained: Layers in which more is left than rounding explains.
    """

    found: tuple[FoundStrength, ...]
    explained: float
    rounding: float
    residuals: Mapping[str, float]
    unexplained: tuple[str, ...]


def explain(
    differences: Mapping[str, Tensor],
    shifts: Sequence[ConceptShift],
    *,
    rounding: Mapping[str, float] | None = None,
) -> Explanation:
    """Finds the shifts that a difference of weights is made of.

    Args:
        differences: Parameter, as ``ConceptShift`` names it -> ``D_l (d_out, d_in)`` or of the
            parameter's shape. Zero where nothing changed: a parameter that is left out is not
            known, and says nothing about any shift.
        shifts: What to look for; of those that cannot be told apart, the first are preferred.
        rounding: Parameter -> root mean square of the error that rounding left in a value.

    Raises:
        IncompatibleError: A shift changes a parameter with another shape.
        InvalidInputError: A difference is not finite.
    """
    _check(differences, shifts)
    noise = dict(rounding or {})
    energies = {layer: energy(difference) for layer, difference in differences.items()}
    if not (total := sum(energies.values())):
        return Explanation((), 1.0, 0.0, energies, ())
    problem = LeastSquares(differences, shifts, noise)
    chosen, alternatives = _preferred(problem, _selected(problem))
    strengths, errors = (values.tolist() for values in problem.refined(chosen))
    terms = [(shifts[place], strength) for place, strength in zip(chosen, strengths, strict=True)]
    left = {layer: energy(rest_of(layer, d, terms)) for layer, d in differences.items()}
    expected = {layer: noise.get(layer, 0.0) ** 2 * d.numel() for layer, d in differences.items()}
    found = map(FoundStrength, chosen, strengths, errors, alternatives)
    return Explanation(
        found=tuple(sorted(found, key=lambda one: one.index)),
        explained=min(max(1 - sum(left.values()) / total, 0.0), 1.0),
        rounding=min(sum(expected.values()) / total, 1.0),
        residuals={layer: value / total for layer, value in left.items()},
        unexplained=tuple(
            layer
            for layer, value in left.items()
            if value > ROUNDING_TOLERANCE * (expected[layer] + FLOOR * energies[layer])
        ),
    )


def _selected(problem: LeastSquares) -> list[int]:
    """Adds what explains most, exchanges and weeds, until nothing changes."""
    chosen: list[int] = []
    for _ in range(ROUNDS):
        before = list(chosen)
        while (place := _next(problem, chosen)) is not None:
            chosen.append(place)
        chosen = _weeded(problem, _exchanged(problem, chosen))
        if chosen == before:
            break
    return chosen


def _next(problem: LeastSquares, chosen: list[int]) -> int | None:
    """Of the shifts that are not chosen and are inside, the one that explains most."""
    before, (after, _) = problem.left(chosen), problem.added(chosen)
    for place in after.argsort().tolist():
        left = float(after[place])
        if before - left <= problem.least_gain(left):
            return None
        if _is_inside(problem, [*chosen, place], len(chosen)):
            return place
    return None


def _is_inside(problem: LeastSquares, chosen: Sequence[int], position: int) -> bool:
    """Whether a chosen shift is there, rather than something that resembles it a little."""
    values, errors = (of.tolist() for of in problem.refined(chosen))
    if abs(values[position]) < max(LEAST_STRENGTH, SIGNIFICANT * errors[position]):
        return False
    terms = [(problem.shifts[place], s) for place, s in zip(chosen, values, strict=True)]
    return abs(values[position] - 1) <= NEAR_ONE or problem.fit(terms, position) >= LEAST_FIT


def _exchanged(problem: LeastSquares, chosen: list[int]) -> list[int]:
    """Exchanges shifts one by one as long as that explains more: versions resemble each other."""
    chosen, position = list(chosen), 0
    while position < len(chosen):
        after, _ = problem.added(chosen[:position] + chosen[position + 1 :])
        best = int(after.argmin())
        if after[best] < after[chosen[position]] - problem.floor:
            chosen[position], position = best, 0
        else:
            position += 1
    return chosen


def _weeded(problem: LeastSquares, chosen: list[int]) -> list[int]:
    """Takes out, weakest first, what is not inside beside the others."""
    chosen = list(chosen)
    while weak := [i for i in range(len(chosen)) if not _is_inside(problem, chosen, i)]:
        values, errors = problem.refined(chosen)
        clear = (values.abs() / errors.clamp(min=torch.finfo(errors.dtype).tiny)).tolist()
        del chosen[min(weak, key=clear.__getitem__)]
    return chosen


def _preferred(
    problem: LeastSquares, chosen: list[int]
) -> tuple[list[int], list[tuple[tuple[int, float], ...]]]:
    """Of shifts that explain the same, those of strength 1; and beside each, the others."""
    chosen, alternatives = list(chosen), []
    for position in range(len(chosen)):
        after, strengths = problem.added(chosen[:position] + chosen[position + 1 :])
        left = float(after[chosen[position]])
        equal = (after <= left + problem.least_gain(left)).nonzero().flatten().tolist()
        options = [(place, float(strengths[place])) for place in equal]
        options.sort(key=lambda one: (round(abs(one[1] - 1), 2), one[0]))
        chosen[position] = options[0][0]
        alternatives.append(tuple(options[1:]))
    return chosen, alternatives


def _check(differences: Mapping[str, Tensor], shifts: Sequence[ConceptShift]) -> None:
    for layer, difference in differences.items():
        if not torch.isfinite(difference).all():
            raise InvalidInputError(f"The difference of {layer} holds NaN or infinity.")
        for shift in shifts:
            if layer in shift.dense:
                shape = tuple(shift.dense[layer].shape)
            elif layer in shift.factors:
                shape = (len(shift.factors[layer]), shift.support.shape[1])
            else:
                continue
            if shape != tuple(difference.shape):
                raise IncompatibleError(
                    f"The shift of '{shift.concept}' changes {layer} with shape {shape}, and the "
                    f"difference has {tuple(difference.shape)} there. Look for shifts of its base."
                )
