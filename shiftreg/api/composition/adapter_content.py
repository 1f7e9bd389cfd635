"""The tensors of an adapter, and what rounding them does to the prompts that shifts protect."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftreg import adapters, checkpoints, pipelines
from shiftreg.adapters import Factors
from shiftreg.api.composition.describe import base_facts
from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import AdapterForm, AdapterNames
from shiftreg.compose import Composition
from shiftreg.errors import InvalidInputError
from shiftreg.rounding import ErrorCompensation
from shiftreg.shift import ConceptShift
from shiftreg.subspace import drifts
from shiftreg.verification import Check


@dataclass(frozen=True)
class AdapterContent:
    """What an adapter holds.

    Attributes:
        tensors: By their names in the file.
        kept: Share of the change's square that a rank keeps, of the layer where that is least.
        drift: How far the tensors move a prompt that all shifts protect, relative to its keys and
            values; None where the tensors are the shifts' own.
        plain_drift: The same after plain rounding; None without rounding.
    """

    tensors: dict[str, Tensor]
    kept: float
    drift: float | None
    plain_drift: float | None


@dataclass(frozen=True)
class Protection:
    """Prompts that all shifts of a composition protect, and the layers that see them.

    Attributes:
        embeds: ``(n, L, d_in)`` float64.
        layers: Names of the layers that see the text alone.
        compensation: What rounding has to know of the prompts.
        read: A layer -> the base's weight.
    """

    embeds: Tensor
    layers: frozenset[str]
    compensation: ErrorCompensation
    read: Callable[[str], Tensor]

    def drift(self, layer: str, delta: Tensor) -> float:
        """How far a change moves the prompt that it moves most."""
        return float(drifts(self.embeds, delta, self.read(layer)).max())


def adapter_content(
    workspace: Workspace,
    composition: Composition,
    form: AdapterForm,
    dtype: torch.dtype,
    rank: int | None,
    observe: Observer = ignore_progress,
) -> AdapterContent:
    """Makes the tensors of an adapter.

    Args:
        rank: The most ranks a layer has; all that it needs by default.

    Raises:
        InvalidInputError: The form cannot hold the change of a parameter.
    """
    facts = base_facts(workspace)
    names = AdapterNames.of(workspace.folder, facts)
    rounds = dtype != torch.float32
    protection = protection_of(workspace, composition) if rounds or rank else None
    tensors: dict[str, Tensor] = {}
    ranks = {} if form == "diff" else held_ranks(composition, names, form, rank)
    kept, drifted, plain_drifted = 1.0, [0.0], [0.0]
    for done, parameter in enumerate(composition.layers):
        observe(Progress("making the adapter", done, len(composition.layers)))
        seen = protection if protection and parameter in protection.layers else None
        compensation = seen.compensation if seen and rounds else None
        if form == "diff":
            change = adapters.dense_change(composition.shifts, parameter)
            rounded = compensation.round(change, dtype) if compensation else change.to(dtype)
            tensors |= names.difference(parameter, rounded)
            if seen:
                drifted.append(seen.drift(parameter, rounded.double()))
                plain_drifted.append(seen.drift(parameter, change.to(dtype).double()))
            continue
        exact, share = _factors(composition.shifts, names, parameter, rank)
        kept = min(kept, share)
        factors = adapters.round_factors(exact, dtype, compensation).padded(ranks[parameter])
        tensors |= names.pair(form, parameter, factors.down, factors.up)
        if seen:
            drifted.append(seen.drift(parameter, factors.product()))
            plain = adapters.round_factors(exact, dtype, None)
            plain_drifted.append(seen.drift(parameter, plain.product()))
    observe(Progress("making the adapter", len(composition.layers), len(composition.layers)))
    return AdapterContent(
        tensors=names.complete(tensors) if form == "diff" else tensors,
        kept=kept,
        drift=max(drifted) if protection else None,
        plain_drift=max(plain_drifted) if protection and rounds else None,
    )


def held_changes(
    workspace: Workspace, composition: Composition, form: AdapterForm, rank: int | None
) -> dict[str, Tensor]:
    """What an adapter adds to each parameter before its numbers are rounded."""
    if form == "diff":
        changes = {
            name: adapters.dense_change(composition.shifts, name) for name in composition.layers
        }
        return {name: change for name, change in changes.items() if change.any()}
    names = AdapterNames.of(workspace.folder, base_facts(workspace))
    return {
        name: factors.product().reshape(names.shape(name))
        for name in composition.layers
        for factors, _ in [_factors(composition.shifts, names, name, rank)]
    }


def protection_of(workspace: Workspace, composition: Composition) -> Protection | None:
    """The prompts that every shift of a composition protects; None if there are none."""
    first, *others = composition.shifts
    prompts = [p for p in first.protected if all(p in other.protected for other in others)]
    if not prompts:
        return None
    embeds = pipelines.encode_prompts(workspace.prompt_encoder, prompts).double()
    return Protection(
        embeds=embeds,
        layers=frozenset(workspace.base.layers),
        compensation=ErrorCompensation.of(embeds.flatten(0, 1)),
        read=checkpoints.parameter_reader(workspace.folder),
    )


def held_ranks(
    composition: Composition, names: AdapterNames, form: AdapterForm, rank: int | None
) -> dict[str, int]:
    """The rank of each parameter's factors.

    In kohya's files all have the same: diffusers reads the scales of such a file right only then.

    Args:
        form: "diffusers" or "kohya".
        rank: The most ranks a layer has; all that it needs by default.

    Raises:
        InvalidInputError: A parameter's change has no such factors.
    """
    shifts = composition.shifts
    dense = [p for p in composition.layers if adapters.stacked_rank(shifts, p) is None]
    factored = [p for p in dense if names.is_weight(p)]
    if dense and (rank is None or factored != dense):
        parameter = next((p for p in dense if p not in factored), dense[0])
        shift = next(shift for shift in shifts if parameter in shift.dense)
        approximate = ", or approximate it: --rank N" if factored == dense else ""
        raise InvalidInputError(
            f"A LoRA holds changes of low rank, and the shift of {shift.concept} ({shift.method}) "
            f"changes {parameter} in another way. Export it with --form diff{approximate}."
        )
    ranks = {parameter: _rank(shifts, names, parameter, rank) for parameter in composition.layers}
    return dict.fromkeys(ranks, max(ranks.values())) if form == "kohya" else ranks


def _rank(
    shifts: Sequence[ConceptShift], names: AdapterNames, parameter: str, rank: int | None
) -> int:
    exact = adapters.stacked_rank(shifts, parameter)
    shape = names.shape(parameter)
    full = min(shape[0], math.prod(shape[1:])) if exact is None else exact
    return full if rank is None else min(rank, full)


def _factors(
    shifts: Sequence[ConceptShift], names: AdapterNames, parameter: str, rank: int | None
) -> tuple[Factors, float]:
    held = _rank(shifts, names, parameter, rank)
    if held == adapters.stacked_rank(shifts, parameter):
        return adapters.stacked_factors(shifts, parameter), 1.0
    return adapters.best_factors(adapters.dense_change(shifts, parameter), held)


FLOAT32_SLACK = 1e-5
EPSILONS = 4  # of the dtype, relative to a layer's change: rounding twice, and compensated


def adapter_check(
    workspace: Workspace,
    file: Path,
    composition: Composition,
    recipe: dict[str, Any],
    dtype: torch.dtype,
) -> Check:
    """Compares an adapter with the shifts that it was made of.

    Bit for bit where it holds their own numbers; otherwise each layer's change, as far as rounding
    goes: what error-compensated rounding gives depends on the machine in its last digit.

    Args:
        recipe: The entry "adapter" of its recipe.
        dtype: Of its numbers.
    """
    form, rank = recipe["form"], recipe["rank"]
    if dtype == torch.float32 and rank is None:
        content = adapter_content(workspace, composition, form, dtype, rank)
        wrong = checkpoints.compare_adapter(file, content.tensors)
        explanation = "All tensors are those of the named shifts, bit for bit."
        if wrong:
            explanation = (
                f"{len(wrong)} tensors are not those of the named shifts, first {wrong[0]}. "
                "Do not use the file; export again."
            )
        return Check.at_most("file", file.name, float(len(wrong)), 0.0, explanation)
    expected = held_changes(workspace, composition, form, rank)
    actual = changes_of(workspace, file)
    worst, where = 0.0, "any layer"
    for layer in sorted(expected.keys() | actual.keys()):
        one, other = actual.get(layer), expected.get(layer)
        far = float("inf")
        if one is not None and other is not None:
            far = float((one.double() - other.double()).norm() / other.double().norm())
        if far > worst:
            worst, where = far, layer
    limit = FLOAT32_SLACK if dtype == torch.float32 else EPSILONS * torch.finfo(dtype).eps
    explanation = f"The change of {where} is {worst:.1e} of its size from that of the named shifts."
    if worst > limit:
        explanation += " Do not use the file; export again."
    return Check.at_most("file", file.name, worst, limit, explanation)


def adapter_weights(workspace: Workspace, file: Path) -> dict[str, Tensor]:
    """The base's weights with an adapter at strength 1, of the layers that it changes: float32."""
    read = checkpoints.parameter_reader(workspace.folder)
    return {
        layer: (read(layer).double() + change).float()
        for layer, change in changes_of(workspace, file).items()
    }


def changes_of(workspace: Workspace, file: Path) -> dict[str, Tensor]:
    """What a file adds to each parameter, by the names of ``ConceptShift``."""
    deltas = checkpoints.read_foreign(file, workspace.folder).deltas
    return {name.removesuffix(".weight"): delta for name, delta in deltas.items()}
