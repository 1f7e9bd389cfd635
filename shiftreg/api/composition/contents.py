"""What a verification looks at: a composition of the registry, or what a file holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftreg import checkpoints, pipelines
from shiftreg.api.composition.adapter_content import adapter_check, adapter_weights
from shiftreg.api.composition.compose import DTYPES, exact_weights, plan_shifts
from shiftreg.api.composition.half_precision import (
    HALF_DTYPES,
    CompensatedRounding,
    RoundedWeights,
    is_rounded,
    protected_prompts,
)
from shiftreg.api.release.signature import ReadFile
from shiftreg.api.values import CompositionPlan, Observer, RoundingResult, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints.files import reading
from shiftreg.compose import Composition, merged_weights
from shiftreg.errors import IntegrityError, NotFoundError
from shiftreg.verification import Check, Gates


@dataclass(frozen=True)
class Recipe:
    """What an exported file should hold.

    Attributes:
        plan: Which shifts, and what they mean.
        composition: The shifts, from the registry.
        dtype: What the file was cast to; None for the base's.
        rounding: How its layers were rounded to half precision; None if plainly, or not at all.
        document: All of it, JSON values.
        digest: SHA-256 of its file.
    """

    plan: CompositionPlan
    composition: Composition
    dtype: torch.dtype | None
    rounding: CompensatedRounding | None
    document: Mapping[str, Any]
    digest: str


def read_recipe(workspace: Workspace, file: Path) -> Recipe:
    """Reads what the recipe beside a file says is in it.

    Raises:
        NotFoundError: The file or its recipe does not exist.
        IntegrityError: The recipe is not the file's, or does not fit the base or the registry.
    """
    if not file.exists():
        raise NotFoundError(f"There is no file '{file}'. Check the path.")
    recipe_path = checkpoints.recipe_path_of(file)
    if not recipe_path.is_file():
        raise NotFoundError(
            f"'{file}' has no recipe '{recipe_path.name}' beside it, so nothing says what it "
            "should hold. Put the recipe back, or export again: shiftreg compose --export"
        )
    recipe, digest = _read_recipe(recipe_path)
    inside = checkpoints.read_recipe_digest(file)
    # A folder without shifts is the base, byte for byte: there is no place for a digest in it.
    is_base = inside is None and not recipe["shifts"]
    if not is_base and inside != digest:
        raise IntegrityError(
            f"The recipe '{recipe_path.name}' is not the one that '{file.name}' was made with. "
            "Put the right one back, or export again: shiftreg compose --export"
        )
    base = workspace.base
    if recipe["base"]["digest"] != base.digest:
        raise IntegrityError(
            f"'{file}' was made from base {recipe['base']['digest'][:12]} "
            f"('{recipe['base']['name']}'), and '{base.name}' is {base.digest[:12]}. "
            "Choose its base with --base."
        )
    shifts = [workspace.shift_of(entry["concept"], entry["version"]) for entry in recipe["shifts"]]
    for shift, entry in zip(shifts, recipe["shifts"], strict=True):
        if shift.digest != entry["digest"]:
            raise IntegrityError(
                f"The recipe names shift {entry['digest'][:12]} as '{entry['concept']}' version "
                f"{entry['version']}, and the registry has {shift.digest[:12]} there."
            )
    composition = Composition.of(base.digest, shifts)
    numbers = {entry["digest"]: entry["version"] for entry in recipe["shifts"]}
    plan = CompositionPlan(
        base=base.name,
        base_digest=base.digest,
        digest=composition.digest,
        shifts=tuple((s.concept, numbers[s.digest], s.digest) for s in composition.shifts),
        states=recipe["states"],
        statements=tuple(f"{name}: {state}" for name, state in recipe["states"].items()),
        warnings=(),
    )
    rounding = CompensatedRounding.of_recipe(recipe)
    return Recipe(plan, composition, DTYPES.get(recipe["dtype"]), rounding, recipe, digest)


def expected_weights(
    workspace: Workspace, recipe: Recipe, observe: Observer = ignore_progress
) -> Mapping[str, Tensor]:
    """The weights that a recipe asks for, each computed when it is looked up.

    What was rounded with error compensation is kept, since that takes long.
    """
    exact = exact_weights(workspace, recipe.composition)
    if recipe.rounding is None:
        return exact
    return RoundedWeights(
        workspace, exact, recipe.dtype, recipe.rounding, keep=True, observe=observe
    )


def _read_recipe(path: Path) -> tuple[dict[str, Any], str]:
    """A recipe that says all that is asked of it, and the SHA-256 of its file.

    Raises:
        IntegrityError: It is no JSON, or something is missing or of another kind.
    """
    with reading(path):
        content = path.read_bytes()
        recipe: dict[str, Any] = json.loads(content)
        texts = [recipe["base"]["digest"], recipe["base"]["name"], *recipe["states"].values()]
        for entry in recipe["shifts"]:
            texts += [entry["concept"], entry["digest"]]
            if not isinstance(entry["version"], int):
                raise TypeError("a version is no number")
        if not all(isinstance(text, str) for text in (*texts, recipe["dtype"])):
            raise TypeError("something is no text")
        return recipe, hashlib.sha256(content).hexdigest()


def file_check(
    workspace: Workspace, file: Path, recipe: Recipe, weights: Mapping[str, Tensor]
) -> tuple[Check, checkpoints.Comparison]:
    """Compares every tensor of a file with base plus named shifts, and digests it meanwhile.

    Args:
        recipe: What it should hold.
        weights: As :func:`expected_weights` returns them.
    """
    accepts = weights.accepts if isinstance(weights, RoundedWeights) else None
    comparison = checkpoints.compare_checkpoint(
        file, workspace.folder, weights, recipe.dtype, accepts
    )
    wrong = (*comparison.differing, *comparison.missing, *comparison.extra)
    explanation = "All tensors equal base plus named shifts, bit for bit."
    if comparison.accepted:
        explanation = (
            "All tensors equal base plus named shifts, bit for bit or, in "
            f"{len(comparison.accepted)} layers, as another machine rounds: near them, and as "
            "close to what protected prompts see."
        )
    if wrong:
        explanation = (
            f"{len(wrong)} tensors are not base plus named shifts, first {wrong[0]}; largest "
            f"difference {comparison.largest_difference:.1e}. Do not use the file; export again."
        )
    check = Check.at_most("file", file.name, float(len(wrong)), 0.0, explanation)
    return check, comparison


def rounding_effect(
    workspace: Workspace, recipe: Recipe, weights: Mapping[str, Tensor]
) -> RoundingResult | None:
    """What half precision does to protected prompts; None where there is nothing to round.

    Args:
        recipe: What a file holds.
        weights: As :func:`expected_weights` returns them, each of them looked up once.
    """
    if isinstance(weights, RoundedWeights):
        return weights.effect()
    if not is_rounded(workspace, recipe.composition, recipe.dtype):
        return None
    how = CompensatedRounding(protected_prompts(workspace, recipe.plan.states, recipe.composition))
    return RoundedWeights(workspace, weights, recipe.dtype, how).effect_if_cast()


@dataclass(frozen=True)
class Contents:
    """What is verified.

    Attributes:
        plan: What it should be.
        weights: Of the layers that they change, in the precision that is deployed.
        reference: The base's weights that they are compared with, if not its own.
        rounding: What half precision does to protected prompts; None of other precisions.
        file: The exported file, if it is one.
        digest: SHA-256 of the file, of the bytes that were compared; "" of a composition.
        read: What was read of the file, for whoever checks its signature.
    """

    plan: CompositionPlan
    composition: Composition
    weights: Mapping[str, Tensor]
    reference: Mapping[str, Tensor] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    rounding: RoundingResult | None = None
    file: Path | None = None
    digest: str = ""
    read: ReadFile | None = None

    def noise_limit(self, limits: Gates) -> float:
        """The gate for noise predictions in this precision."""
        if not any(weight.dtype in HALF_DTYPES for weight in self.weights.values()):
            return limits.noise
        compensated = self.rounding is not None and self.rounding.method == "compensated"
        return limits.half_noise if compensated else limits.plain_noise


def contents_of_plan(workspace: Workspace, plan: CompositionPlan) -> Contents:
    """What the registry says of a composition."""
    composition = plan_shifts(workspace, plan)
    own = pipelines.parameters(workspace.network)
    return Contents(plan, composition, merged_weights(own, composition, torch.float32))


def contents_of_file(workspace: Workspace, file: Path, observe: Observer) -> Contents:
    """What an exported file's recipe says that it holds; and checks whether it does.

    Each byte of a model is read once, and its recipe once.

    Raises:
        NotFoundError: The file or its recipe does not exist.
        IntegrityError: The file cannot be read, or its recipe was exchanged.
    """
    recipe = read_recipe(workspace, file)
    plan, composition = recipe.plan, recipe.composition
    if adapter := recipe.document.get("adapter"):
        # It is added in the precision of what it meets.
        dtype = recipe.dtype or checkpoints.unet_dtype(workspace.folder)
        check = adapter_check(workspace, file, composition, adapter, dtype)
        digest = checkpoints.file_digest(file)
        return Contents(
            plan,
            composition,
            adapter_weights(workspace, file),
            checks=(check,),
            file=file,
            digest=digest,
            read=ReadFile({file.name: digest}, recipe.document, recipe.digest),
        )
    expected = expected_weights(workspace, recipe, observe)
    check, comparison = file_check(workspace, file, recipe, expected)
    checks = [check]
    precision = recipe.dtype or checkpoints.unet_dtype(workspace.folder)
    weights = {name: weight.to(precision) for name, weight in expected.items()}
    # What is deployed is held to the base as it is deployed: in the same precision.
    own = pipelines.parameters(workspace.network)
    if effect := rounding_effect(workspace, recipe, expected):
        # Rounding does no more to protected prompts than it would plainly.
        value = effect.plain if effect.compensated is None else effect.compensated
        said = effect.statement
        checks.append(Check.at_most("rounding", "protected prompts", value, effect.plain, said))
    return Contents(
        plan,
        composition,
        weights,
        {name: own[name].to(weight.dtype) for name, weight in weights.items()},
        tuple(checks),
        effect,
        file,
        comparison.digest,
        ReadFile(comparison.files, recipe.document, recipe.digest),
    )
