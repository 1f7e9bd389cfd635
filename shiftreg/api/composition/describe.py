"""What an export says of itself: metadata in its header, and a model card."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from shiftreg import checkpoints, miniature
from shiftreg.api.trail.measurements import on_record
from shiftreg.api.values import CompositionPlan
from shiftreg.api.workspace import Workspace
from shiftreg.errors import InvalidInputError
from shiftreg.registry import ShiftVersion
from shiftreg.reports import ModelCard, render_card
from shiftreg.shift import ConceptShift

Usage = Sequence[tuple[str, Sequence[str]]]
EPOCH = "SOURCE_DATE_EPOCH"  # https://reproducible-builds.org/specs/source-date-epoch/


def export_date(workspace: Workspace, plan: CompositionPlan) -> str:
    """When the newest shift of a plan was made: not when it is exported, so that files repeat.

    The environment variable ``SOURCE_DATE_EPOCH``, seconds since 1970, takes precedence.

    Returns:
        UTC, ISO 8601; "" where no shift is composed.

    Raises:
        InvalidInputError: The variable is no whole number.
    """
    if given := os.environ.get(EPOCH):
        try:
            return datetime.fromtimestamp(int(given), UTC).isoformat(timespec="seconds")
        except (ValueError, OverflowError, OSError) as error:
            raise InvalidInputError(
                f"{EPOCH} is a whole number of seconds since 1970, and it is '{given}'."
            ) from error
    registry, base = workspace.registry, workspace.base.name
    made = (registry.shifts.version(base, name, number).created for name, number, _ in plan.shifts)
    return max(made, default="")


def base_facts(workspace: Workspace) -> checkpoints.ModelFacts:
    """What the base is, in the words of other tools."""
    packaged = workspace.base.source == miniature.NAME
    card = miniature.FOLDER / "README.md" if packaged else None
    return checkpoints.model_facts(workspace.folder, card)


@dataclass(frozen=True)
class Description:
    """What an export says of itself.

    Attributes:
        metadata: For the header of the file.
        card: Writes the model card, given the digest of the file; "" for a folder.
    """

    metadata: Mapping[str, str]
    card: Callable[[str], str]

    def write_card(self, path: Path, digest: str) -> None:
        """Writes the card beside a file.

        Raises:
            StorageError: The disk refused.
        """
        card_path = checkpoints.card_path_of(path)
        with checkpoints.atomic_file(card_path, overwrite=True) as partial:
            partial.write_text(self.card(digest), encoding="utf-8")


def describe(
    workspace: Workspace,
    plan: CompositionPlan,
    recipe: Mapping[str, Any],
    target: Path,
    form: str,
    ranks: tuple[int, ...] = (),
) -> Description:
    """What a whole model or an adapter says of itself.

    Args:
        plan: What it is; of an adapter, what it makes of the base.
        recipe: As it is written beside the file.
        form: "ckpt", "safetensors" or "folder"; of an adapter, "diffusers", "kohya" or "diff".
        ranks: Of an adapter's layers.
    """
    facts = base_facts(workspace)
    compvis, usage = form != "folder", _model_usage(target, form, facts)
    if is_adapter := "adapter" in recipe:
        family = facts.family
        compvis = family is not None and family.compvis_adapters and form != "diffusers"
        usage = _adapter_usage(target, form)
    names = checkpoints.COMPVIS if compvis else checkpoints.DIFFUSERS
    metadata = checkpoints.export_metadata(recipe, facts, names)
    if is_adapter:
        metadata |= checkpoints.kohya_metadata(facts, form, ranks)
    return Description(metadata, partial(_card, workspace, plan, recipe, facts, target, usage))


def _card(
    workspace: Workspace,
    plan: CompositionPlan,
    recipe: Mapping[str, Any],
    facts: checkpoints.ModelFacts,
    target: Path,
    usage: Usage,
    digest: str,
) -> str:
    base, is_adapter = workspace.base, "adapter" in recipe
    # A folder is moved and copied under other names, and holds its card itself.
    file = shlex.quote(target.name) if digest else "FOLDER"
    origin = [
        ("base", f"{base.name}, {plan.base_digest}"),
        ("composition", plan.digest),
        ("recipe", checkpoints.recipe_digest(recipe)),
        ("this file, SHA-256", digest),
        ("architecture", facts.architecture),
        ("numbers", recipe["dtype"] if recipe["dtype"] != "base" else "as in the base"),
        ("made by", f"shiftreg {recipe['tools']['shiftreg']}"),
        ("date of the newest shift", recipe["date"]),
    ]
    generating = [name for name, state in plan.states.items() if state == "generates"]
    return render_card(
        ModelCard(
            title=checkpoints.export_title(recipe),
            sentences=[*checkpoints.state_sentences(recipe), *_override(recipe)],
            shifts=_shifts(workspace, plan),
            generates=() if is_adapter else generating,
            usage=usage,
            origin=[(name, value) for name, value in origin if value],
            verification=_verification(workspace, plan),
            commands=[f"$ shiftreg verify {file}", f"$ shiftreg inspect {file}"],
            base_model=checkpoints.hub_name(base.source) or base.name,
            licence=facts.licence,
            adapter=is_adapter,
        )
    )


def _model_usage(target: Path, format_: str, facts: checkpoints.ModelFacts) -> Usage:
    """How to load a whole model."""
    kind = "DiffusionPipeline"
    loading = 'from_pretrained("FOLDER")'
    if format_ != "folder":
        kind = facts.family.pipeline if facts.family else kind
        loading = f"from_single_file({target.name!r})"
    return [("python", [f"from diffusers import {kind}", f"pipeline = {kind}.{loading}"])]


def _adapter_usage(target: Path, form: str) -> Usage:
    """How to load an adapter, and switch it."""
    name, stem = target.name, target.stem
    web = [
        ("Stable Diffusion web UI (A1111), in the prompt", [f"<lora:{stem}:1>"]),
        (
            "ComfyUI, the node Load LoRA",
            [f"lora_name {name}   strength_model 1.0   (0.0: as without it)"],
        ),
    ]
    if form == "diff":
        return web
    python = (
        "python",
        [
            f'pipeline.load_lora_weights("FOLDER", weight_name={name!r}, adapter_name="erase")',
            'pipeline.set_adapters("erase", 1.0)  # 0.0: as without it',
        ],
    )
    return [python, *web]


def _shifts(workspace: Workspace, plan: CompositionPlan) -> list[tuple[ShiftVersion, ConceptShift]]:
    ordered = sorted(plan.shifts, key=lambda shift: shift[0].lower())
    stored = workspace.registry.shifts
    versions = [stored.version(plan.base, concept, number) for concept, number, _ in ordered]
    return [(version, workspace.shift(version)) for version in versions]


def _override(recipe: Mapping[str, Any]) -> list[str]:
    """That a model was released although it breaks the policy of its project."""
    if not (override := recipe.get("override")):
        return []
    broken = [f"{one['name']} ({one['subject']})" for one in override["broken"]]
    return [
        "This model was released against the policy of its project, which asks for "
        f"{checkpoints.joined(broken)}. Reason: {override['reason']}"
    ]


def _verification(workspace: Workspace, plan: CompositionPlan) -> str:
    """What is on record about checks of this composition."""
    stored = on_record(workspace, plan.base, "verification")
    done = [measurement for measurement in stored.known if measurement.digest == plan.digest]
    if not done:
        return "No verification of this composition was on record when this card was written."
    outcome = {True: "passed", False: "FAILED", None: "had no outcome"}[done[-1].passed]
    return f"The last verification of this composition on record, {done[-1].created}, {outcome}."
