"""Whether a file in half precision is base and shifts, rounded with error compensation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from shiftreg import checkpoints
from shiftreg.api.composition.composing import exact_weights
from shiftreg.api.composition.half_precision import (
    HALF_DTYPES,
    CompensatedRounding,
    RoundedWeights,
    protected_prompts,
)
from shiftreg.api.inspection.base_matching import BaseMatch, Recomposition
from shiftreg.api.values import Observer
from shiftreg.compose import Composition
from shiftreg.errors import InvalidInputError, ShiftregError
from shiftreg.shift import ConceptShift


def rounded_anew(
    match: BaseMatch,
    shifts: Sequence[ConceptShift],
    plain: Recomposition,
    file: Path,
    observe: Observer,
) -> Recomposition:
    """Compares the layers that plain rounding does not explain with error-compensated rounding.

    What they were held to is taken from the recipe beside the file, if there is one, or from the
    registry: neither is believed, since only equal bits, or as small a residual, count.

    Args:
        match: The base.
        shifts: All that are inside, each as registered.
        plain: How the file compares with plain rounding.
        file: Where it lies.
        observe: Told of each layer that is rounded.

    Returns:
        The better of both.
    """
    layers = set(match.workspace.base.layers).intersection(plain.inexact)
    dtypes = {match.values[layer].dtype for layer in layers}
    concepts = {shift.concept for shift in shifts}
    if len(dtypes) != 1 or not dtypes <= {*HALF_DTYPES} or len(concepts) < len(shifts):
        return plain
    (dtype,) = dtypes
    composition = Composition.of(match.workspace.base.digest, shifts)
    exact = exact_weights(match.workspace, composition)
    for rounding in _candidates(match, composition, file):
        try:
            weights = RoundedWeights(
                match.workspace, exact, dtype, rounding, keep=True, observe=observe
            )
        except InvalidInputError:  # a prompt of the recipe is too long: it was not this
            continue
        fitting, equal = set(), set()
        for layer in sorted(layers):
            if torch.equal(weights[layer], match.values[layer]):
                equal.add(layer)
            elif not weights.accepts(layer, match.values[layer]):
                break  # it was not made like this
            fitting.add(layer)
        if fitting == layers:
            return Recomposition(
                inexact=tuple(name for name in plain.inexact if name not in equal),
                misfits=tuple(name for name in plain.misfits if name not in fitting),
                compared=plain.compared,
            )
    return plain


def _candidates(
    match: BaseMatch, composition: Composition, file: Path
) -> tuple[CompensatedRounding, ...]:
    """How the file may have been rounded, the likeliest first."""
    erased = {shift.concept for shift in composition.shifts}
    states = {
        name: "erased" if name in erased else "generates"
        for name in sorted(match.workspace.known_names(), key=str.lower)
    }
    usual = CompensatedRounding(protected_prompts(match.workspace, states, composition))
    try:
        recipe = json.loads(checkpoints.recipe_path_of(file).read_text(encoding="utf-8"))
        stated = CompensatedRounding.of_recipe(recipe)
    except (OSError, ValueError, TypeError, AttributeError, ShiftregError):
        stated = None
    return tuple(dict.fromkeys((stated, usual) if stated else (usual,)))
