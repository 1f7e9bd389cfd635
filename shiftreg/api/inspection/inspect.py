"""What a deployed file forgets, from its weights alone: no metadata, no recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from shiftreg import checkpoints
from shiftreg.api.inspection.base_matching import (
    BaseMatch,
    Recomposition,
    Term,
    best_match,
    compare_with_bases,
    rounded_anew,
)
from shiftreg.api.inspection.describe import (
    InspectedShift,
    InspectedState,
    limits,
    statement,
    strange_strengths,
    unlike,
    verdict,
)
from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.inspection import NEAR_ONE

SURE = 2.0  # standard errors of an error bar
ENOUGH = 0.95  # of the registered strength: still erased
LEAST_EXPLAINED = 0.5  # where no tensor is untouched, the share that says whose shifts they are


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is inside a file.

    Attributes:
        form: "checkpoint", "partial state dict", "lora, kohya", ...
        digest: SHA-256 of the file, or over the files of the folder.
        base: Name of the base that it was made from; None if it is not a registered one.
        dtype: Of its numbers, such as "float16" or "float16, stored as float32".
        states: Every known concept of the base -> "erased" (as registered), "weakened" (at less
            than its strength), "reversed" (subtracted), "generates", or "unknown".
        explained: Share of the squared difference from the base that the shifts explain.
        rounding: Share that rounding explains.
        unexplained: Share that neither explains.
        exact: Whether its UNet is base and shifts bit for bit.
        disturbed: Parameters of the shifts' layers that hold something else, too.
        elsewhere: Parameters that differ and that none of the shifts changes; of a text encoder or
            autoencoder the first one.
        passed: Whether the base is known and all of the difference is explained.
    """

    file: Path
    form: str
    digest: str
    base: str | None = None
    dtype: str
    shifts: tuple[InspectedShift, ...] = ()
    states: Mapping[str, InspectedState] = field(default_factory=dict)
    explained: float = 0.0
    rounding: float = 0.0
    unexplained: float = 1.0
    exact: bool = False
    disturbed: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    warnings: tuple[str, ...]
    verdict: str
    passed: bool


def inspect_file(
    workspace: Workspace, file: Path, *, observe: Observer = ignore_progress
) -> Inspection:
    """Finds the base and the registered shifts inside a file, and what they do not explain.

    Args:
        file: A ``.ckpt`` or ``.safetensors`` file, a diffusers folder, a partial state dict, or a
            LoRA.

    Raises:
        NotFoundError: The file does not exist.
        InvalidInputError: It is of another kind.
        IntegrityError: It is damaged, or holds code.
    """
    observe(Progress("reading", 0, 1))
    foreign, dtype = _narrowed(checkpoints.read_foreign_file(file))
    digest = checkpoints.checkpoint_digest(file)
    matches, notes = compare_with_bases(workspace, foreign, observe)
    if matches:
        observe(Progress("looking for shifts", 0, 1))
        match = best_match(matches)
        untouched = match.equal or not match.deltas
        if untouched or match.explanation.explained >= LEAST_EXPLAINED:
            result = _inspected(match, file, digest, dtype, observe)
            observe(Progress("looking for shifts", 1, 1))
            return result
        notes = (*(unlike(match) for match in matches), *notes)
    return Inspection(
        file=file,
        form=matches[0].change.form if matches else "",
        digest=digest,
        dtype=dtype,
        warnings=notes,
        verdict="Its base is not known: no registered base is inside.",
        passed=False,
    )


def _narrowed(file: checkpoints.ForeignFile) -> tuple[checkpoints.ForeignFile, str]:
    """Undoes a cast to more precision than the numbers have; and says what they are."""
    floating = {name: t for name, t in file.tensors.items() if t.is_floating_point()}
    names = sorted({_name(tensor.dtype) for tensor in floating.values()})
    for dtype in (torch.float16, torch.bfloat16):
        wider = any(t.element_size() > dtype.itemsize for t in floating.values())
        if wider and all(torch.equal(t.to(dtype).to(t.dtype), t) for t in floating.values()):
            narrow = {
                name: t.to(dtype) if t.element_size() > dtype.itemsize else t
                for name, t in floating.items()
            }
            stored = f"{_name(dtype)}, stored as {', '.join(names)}"
            return replace(file, tensors={**file.tensors, **narrow}), stored
    return file, ", ".join(names)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _inspected(
    match: BaseMatch, file: Path, digest: str, dtype: str, observe: Observer
) -> Inspection:
    """All about a file whose base is known."""
    shifts, recomposition = _found(match, file, observe)
    if recomposition is None:  # A LoRA has no values to compare: what is left must do.
        unexplained, exact = match.explanation.unexplained, False
    else:
        unexplained, exact = recomposition.misfits, recomposition.exact
    strangers = (*unexplained, *match.change.elsewhere)
    explained = match.explanation.explained
    rounding = min(match.explanation.rounding, 1 - explained) if unexplained else 1 - explained
    touched = {
        layer
        for version, shift in match.versions
        if any(version.digest == found.digest for found in shifts)
        for layer in shift.layers
    }
    states = _states(match, shifts, whole=not strangers)
    return Inspection(
        file=file,
        form=match.change.form,
        digest=digest,
        base=match.name,
        dtype=dtype,
        shifts=shifts,
        states=states,
        explained=explained,
        rounding=rounding,
        unexplained=max(1 - explained - rounding, 0.0) if unexplained else 0.0,
        exact=exact,
        disturbed=tuple(name for name in unexplained if name in touched),
        elsewhere=tuple(name for name in strangers if name not in touched),
        statements=tuple(statement(name, state, shifts) for name, state in states.items()),
        warnings=(*strange_strengths(shifts), *limits(match), *match.notes),
        verdict=verdict(match, unexplained, exact, 1 - explained - rounding),
        passed=not strangers,
    )


def _found(
    match: BaseMatch, file: Path, observe: Observer
) -> tuple[tuple[InspectedShift, ...], Recomposition | None]:
    """The shifts that are inside; exactly as registered, where that fits the file as well."""
    found = match.explanation.found
    # Added in the order of compositions, so that the sum is the same bit for bit.
    order = sorted(found, key=lambda one: match.versions[one.index][0].digest)
    terms = [Term(match.versions[one.index][1], one.strength, one.error) for one in order]
    recomposition = match.recomposed(terms) if match.values else None
    registered = exact = False
    if recomposition and found and all(abs(one.strength - 1) <= NEAR_ONE for one in found):
        ones = match.recomposed([replace(term, strength=1.0, error=0.0) for term in terms])
        ones = rounded_anew(match, [term.shift for term in terms], ones, file, observe)
        registered = len(ones.misfits) <= min(len(recomposition.misfits), ones.compared - 1)
        if registered:
            recomposition, exact = ones, ones.exact
    shifts = []
    for one in found:
        version = match.versions[one.index][0]
        strength, bar = one.strength, SURE * one.error
        low, high = strength - bar, strength + bar
        if registered:
            strength, low, high = 1.0, min(low, 1.0), max(high, 1.0)
        shifts.append(
            InspectedShift(
                concept=version.concept,
                version=version.version,
                digest=version.digest,
                method=version.method,
                strength=strength,
                low=1.0 if exact else low,
                high=1.0 if exact else high,
                alternatives=tuple(
                    f"{match.versions[place][0].reference} at strength {value:.2f}"
                    for place, value in one.alternatives
                ),
            )
        )
    shifts.sort(key=lambda shift: (shift.concept.lower(), shift.version))
    return tuple(shifts), recomposition


def _states(
    match: BaseMatch, shifts: Sequence[InspectedShift], *, whole: bool
) -> dict[str, InspectedState]:
    """The state of every known concept, by name."""
    judged = {v.concept for v, shift in match.versions if match.known.issuperset(shift.layers)}
    unjudged = {v.concept for v, _ in match.versions} - judged
    states: dict[str, InspectedState] = {}
    for name in sorted(match.workspace.known_names(), key=str.lower):
        strengths = [shift.strength for shift in shifts if shift.concept == name]
        if not strengths:
            states[name] = "generates" if whole and name not in unjudged else "unknown"
        elif sum(strengths) < 0:
            states[name] = "reversed"
        else:
            states[name] = "erased" if sum(strengths) >= ENOUGH else "weakened"
    return states
