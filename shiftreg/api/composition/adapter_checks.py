"""Whether an exported adapter holds what its recipe says, and what it makes of the base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftreg import checkpoints
from shiftreg.api.composition.adapter_content import adapter_content, held_changes
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition
from shiftreg.verification import Check

FLOAT32_SLACK = 1e-5
EPSILONS = 4  # of the dtype, relative to a layer's change: rounding twice, and compensated


def adapter_recipe(file: Path) -> dict[str, Any] | None:
    """What the recipe beside a file says of the adapter that it is; None if it is none."""
    recipe = json.loads(checkpoints.recipe_path_of(file).read_text(encoding="utf-8"))
    found: dict[str, Any] | None = recipe.get("adapter")
    return found


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
        workspace: Where.
        file: The adapter.
        composition: Its shifts.
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
