"""What a verification looks at: a composition of the registry, or what a file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from shiftreg import checkpoints, pipelines
from shiftreg.api.composition.adapter_checks import (
    adapter_check,
    adapter_recipe,
    adapter_weights,
)
from shiftreg.api.composition.composing import plan_shifts
from shiftreg.api.composition.exported import (
    deployed_weights,
    expected_weights,
    file_check,
    read_recipe,
    rounding_check,
    rounding_effect,
)
from shiftreg.api.composition.half_precision import HALF_DTYPES
from shiftreg.api.values import CompositionPlan, Observer, RoundingResult
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition, merged_weights
from shiftreg.verification import Check, Gates


@dataclass(frozen=True)
class Held:
    """What is verified.

    Attributes:
        plan: What it should be.
        composition: Its shifts.
        weights: Of the layers that they change, in the precision that is deployed.
        reference: The base's weights that they are compared with, if not its own.
        checks: Of the file.
        rounding: What half precision does to protected prompts; None of other precisions.
    """

    plan: CompositionPlan
    composition: Composition
    weights: Mapping[str, Tensor]
    reference: Mapping[str, Tensor] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    rounding: RoundingResult | None = None

    def noise_limit(self, limits: Gates) -> float:
        """The gate for noise predictions in this precision."""
        if not any(weight.dtype in HALF_DTYPES for weight in self.weights.values()):
            return limits.noise
        compensated = self.rounding is not None and self.rounding.method == "compensated"
        return limits.half_noise if compensated else limits.plain_noise


def held_by_plan(workspace: Workspace, plan: CompositionPlan) -> Held:
    """What the registry says of a composition."""
    composition = plan_shifts(workspace, plan)
    own = pipelines.parameters(workspace.network)
    return Held(plan, composition, merged_weights(own, composition, torch.float32))


def held_by_file(workspace: Workspace, file: Path, observe: Observer) -> Held:
    """What an exported file's recipe says that it holds; and checks whether it does.

    Raises:
        NotFoundError: The file or its recipe does not exist.
        IntegrityError: The file cannot be read, or its recipe was exchanged.
    """
    recipe = read_recipe(workspace, file)
    plan, composition = recipe.plan, recipe.composition
    if adapter := adapter_recipe(file):
        # It is added in the precision of what it meets.
        dtype = recipe.dtype or checkpoints.unet_dtype(workspace.folder)
        check = adapter_check(workspace, file, composition, adapter, dtype)
        return Held(plan, composition, adapter_weights(workspace, file), checks=(check,))
    expected = expected_weights(workspace, recipe, observe)
    checks = [file_check(workspace, file, recipe, expected)]
    weights = deployed_weights(workspace, recipe, expected)
    # What is deployed is held to the base as it is deployed: in the same precision.
    own = pipelines.parameters(workspace.network)
    reference = {name: own[name].to(weight.dtype) for name, weight in weights.items()}
    if effect := rounding_effect(workspace, recipe, expected):
        checks.append(rounding_check(effect))
    return Held(plan, composition, weights, reference, tuple(checks), effect)
