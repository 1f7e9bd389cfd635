"""Which registered base a file was made from, and what its shifts explain of the difference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from shiftreg import checkpoints
from shiftreg.api.composition.compose import exact_weights
from shiftreg.api.composition.half_precision import (
    HALF_DTYPES,
    CompensatedRounding,
    RoundedWeights,
    protected_prompts,
)
from shiftreg.api.values import Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition
from shiftreg.errors import (
    IncompatibleError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    ShiftregError,
)
from shiftreg.inspection import Explanation, explain
from shiftreg.least_squares import reaches
from shiftreg.registry import ShiftVersion
from shiftreg.rounding import differs_by_rounding, rounding_error
from shiftreg.shift import ConceptShift

CERTAIN = 4.0  # standard errors of a strength that are no other change


@dataclass(frozen=True)
class Term:
    """A shift at a strength that is known up to an error."""

    shift: ConceptShift
    strength: float
    error: float


@dataclass(frozen=True)
class Recomposition:
    """How a file compares with base and shifts that were put together anew.

    Attributes:
        inexact: Parameters that are not the same bit for bit.
        misfits: Those of them that differ by more than rounding.
    """

    inexact: tuple[str, ...]
    misfits: tuple[str, ...]
    compared: int

    @property
    def exact(self) -> bool:
        """Whether all that the file holds of the UNet is the same bit for bit."""
        return not self.inexact


@dataclass
class BaseMatch:
    """A base that a file may have been made from; parameters are named as shifts name them.

    Attributes:
        change: What the file changes in it.
        precision: The coarsest spacing of the file's numbers around 1.
        notes: Sentences on shifts that could not be looked for.
    """

    workspace: Workspace
    change: checkpoints.WeightChange
    precision: float
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the base."""
        return self.workspace.base.name

    @cached_property
    def unet(self) -> dict[str, Tensor]:
        """The base's weights."""
        network = checkpoints.network_folder(self.workspace.folder)
        return _as_shifts_name(checkpoints.read_component(network))

    @cached_property
    def values(self) -> dict[str, Tensor]:
        """What the file holds of the UNet; nothing if it is a LoRA."""
        return _as_shifts_name(dict(self.change.values))

    @cached_property
    def deltas(self) -> dict[str, Tensor]:
        """What the file changes."""
        return _as_shifts_name(self.change.deltas)

    @property
    def known(self) -> frozenset[str]:
        """Parameters that the file says something about; of a LoRA, that it leaves them alone."""
        return frozenset(self.values or self.unet)

    @property
    def equal(self) -> int:
        """How many matrices and kernels are the base's bit for bit, in the coarser dtype."""
        return sum(v.ndim >= 2 and name not in self.deltas for name, v in self.values.items())

    @cached_property
    def versions(self) -> tuple[tuple[ShiftVersion, ConceptShift], ...]:
        """All registered versions of all concepts: of each, the active one, then the newest."""
        found = []
        for concept in self.workspace.registry.shifts.concepts(self.name):
            versions = self.workspace.versions(concept)
            for version in sorted(versions, key=lambda v: (not v.active, -v.version)):
                try:
                    found.append((version, self.workspace.shift(version)))
                except IntegrityError as error:
                    note = f"{version.reference} was not looked for: {error}"
                    self.notes = (*self.notes, note)
        return tuple(found)

    @cached_property
    def explanation(self) -> Explanation:
        """What the registered shifts explain of the difference."""
        shifts = [shift for _, shift in self.versions]
        touched = {layer for shift in shifts for layer in shift.layers}
        names = sorted((touched & self.known) | self.deltas.keys())
        nothing = torch.zeros(())
        differences = {n: self.deltas.get(n, nothing.expand(self.unet[n].shape)) for n in names}
        rounding = {name: self._rounding(name, differences[name]) for name in names}
        return explain(differences, shifts, rounding=rounding)

    def _rounding(self, name: str, difference: Tensor) -> float:
        if name not in self.values:  # The factors of a LoRA were rounded, and with them the delta.
            return self.precision * float(difference.double().square().mean().sqrt())
        value = self.values[name]
        largest = torch.maximum(value.double().abs(), self.unet[name].double().abs())
        return rounding_error(largest.reshape(-1), value.dtype)

    def recomposed(self, terms: Sequence[Term]) -> Recomposition:
        """Compares the file with the base and shifts at their strengths, value by value."""
        inexact, misfits = [], []
        reached = {name for term in terms for name in term.shift.layers}
        names = sorted((reached & self.values.keys()) | self.deltas.keys())
        for name in names:
            value, expected = self.values[name], self.unet[name].double()
            slack = torch.zeros((), dtype=torch.float64)
            touching = [term for term in terms if reaches(term.shift, name)]
            for term in touching:
                delta = term.shift.delta_weight(name)
                expected = expected + term.strength * delta
                slack = slack + CERTAIN * term.error * delta.abs()
            # Another tool may round after every shift. What no shift touches is not rounded anew.
            rounds = touching or value.dtype != self.unet[name].dtype
            places = 1 + len(touching) if rounds else 0
            if torch.equal(expected.to(value.dtype), value):
                continue
            inexact.append(name)
            if not differs_by_rounding(value, expected, places, slack):
                misfits.append(name)
        return Recomposition(tuple(inexact), tuple(misfits), len(names))


def compare_with_bases(
    workspace: Workspace, file: checkpoints.ForeignFile, observe: Observer
) -> tuple[tuple[BaseMatch, ...], tuple[str, ...]]:
    """Subtracts every registered base from a file.

    Returns:
        The bases of its structure whose weights resemble the file's; sentences on the others.

    Raises:
        InvalidInputError: No base resembles it, and it is malformed or of an unknown kind.
    """
    matches: list[BaseMatch] = []
    notes: list[str] = []
    refused: list[InvalidInputError] = []
    floating = [t.dtype for t in file.tensors.values() if t.is_floating_point()]
    precision = max((torch.finfo(dtype).eps for dtype in floating), default=0.0)
    own = workspace.settings.base
    bases = workspace.registry.bases.all() or (workspace.base,)
    for done, base in enumerate(sorted(bases, key=lambda record: record.name != own)):
        observe(Progress(f"comparing with {base.name}", done, len(bases)))
        there = workspace
        if base.name != own:
            settings = replace(workspace.settings, base=base.name)
            there = replace(workspace, settings=settings)
        try:
            folder = there.folder
        except (IntegrityError, NotFoundError) as error:
            notes.append(f"Base '{base.name}' was not compared: {error}")
            continue
        try:
            change = checkpoints.change_of_base(file, folder, unet_only=True)
        except IncompatibleError as error:
            notes.append(f"It is not base '{base.name}': {error}")
        except InvalidInputError as error:
            refused.append(error)
        else:
            matches.append(BaseMatch(there, change, precision))
    if refused and not matches:
        raise refused[0]
    return tuple(matches), tuple(notes)


def best_match(matches: Sequence[BaseMatch]) -> BaseMatch:
    """The base with most untouched tensors; of equals, the one whose shifts explain most."""
    most = max(match.equal for match in matches)
    equals = [match for match in matches if match.equal == most]
    if len(equals) == 1:
        return equals[0]
    return max(equals, key=lambda match: match.explanation.explained)


def _as_shifts_name(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removesuffix(".weight"): tensor for name, tensor in tensors.items()}


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
        shifts: All that are inside, each as registered.
        plain: How the file compares with plain rounding.

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
