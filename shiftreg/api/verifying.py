"""Verifying a composition or an exported file against the base."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shiftreg import checkpoints, miniature, pipelines
from shiftreg.api.composing import plan_composition, plan_shifts
from shiftreg.api.exported import file_check, read_plan
from shiftreg.api.front_end import to_json
from shiftreg.api.registering import disturbance
from shiftreg.api.values import (
    CompositionPlan,
    Observer,
    Progress,
    Verification,
    ignore_progress,
)
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition, merged_weights
from shiftreg.concepts import fill
from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.classifier import load_classifier
from shiftreg.verification import (
    HALF_NOISE_LIMIT,
    NOISE_LIMIT,
    Check,
    erasure_checks,
    image_checks,
    noise_checks,
    separability_checks,
    watermark_checks,
)

CONTROL_WORDING = "a picture of a {subject}"


def verify(
    workspace: Workspace,
    file: Path | None = None,
    *,
    only: Sequence[str] | None = None,
    without: Sequence[str] | None = None,
    images: int = 4,
    observe: Observer = ignore_progress,
) -> Verification:
    """Checks that a composition erases what it says and leaves everything else as it was.

    Args:
        workspace: Where.
        file: An exported file: its recipe says what it should hold, and its weights are compared
            with that bit by bit. Without it, the composition of the registry is checked.
        only: As in ``plan_composition``; not with ``file``.
        without: As in ``plan_composition``; not with ``file``.
        images: Same-seed images a prompt.
        observe: Told of the progress.

    Returns:
        All checks; the report is also written to the home's ``reports`` folder.

    Raises:
        NotFoundError: The file or its recipe does not exist.
        IntegrityError: The file cannot be read, or its recipe was exchanged.
        InvalidInputError: No image asked for, or a file together with a choice of concepts.
    """
    if images < 1:
        raise InvalidInputError(f"At least 1 image a prompt is needed, and {images} asked for.")
    if file is not None and (only is not None or without is not None):
        raise InvalidInputError(
            "A file's recipe says what it holds, so --only and --without do not go with a file."
        )
    checks: list[Check] = []
    if file is None:
        plan = plan_composition(workspace, only=only, without=without)
        composition, precision = plan_shifts(workspace, plan), torch.float32
    else:
        observe(Progress("comparing the file", 0, 1))
        plan, composition, dtype = read_plan(workspace, file)
        # Rounding to half precision moves protected prompts a little: look at what is deployed.
        precision = dtype or checkpoints.unet_dtype(workspace.folder)
        checks.append(file_check(workspace, file, composition, dtype))
        observe(Progress("comparing the file", 1, 1))
    weights = merged_weights(pipelines.parameters(workspace.pipeline.unet), composition, precision)
    matrix = _separability_matrix(workspace, composition)
    checks = [
        *separability_checks(matrix, composition.shifts),
        *_noise(workspace, plan, weights),
        *_picture_checks(workspace, plan, weights, images, observe),
        *checks,
    ]
    verification = Verification(
        plan=plan,
        file=file,
        checks=tuple(checks),
        separability=matrix,
        passed=all(check.passed for check in checks),
    )
    path = _write_report(workspace, verification)
    digests = {"base": plan.base_digest, "composition": plan.digest}
    if file:
        digests["export"] = checkpoints.checkpoint_digest(file)
    workspace.registry.record_measurement(
        plan.base,
        "verification",
        plan.digest,
        path,
        passed=verification.passed,
        metrics=_worst(checks),
        export_digest=digests.get("export", ""),
    )
    workspace.audit.append(
        "verify",
        base=plan.base,
        concepts=tuple(name for name, state in plan.states.items() if state == "erased"),
        digests=digests,
        details={"passed": verification.passed, "checks": len(checks)},
    )
    return replace(verification, report_path=path)


def _separability_matrix(
    workspace: Workspace, composition: Composition
) -> dict[str, dict[str, float]]:
    """Concept of each shift -> residual on every prompt that must not notice it."""
    prompts = list(dict.fromkeys(("", *workspace.base.triggers, *workspace.known_names())))
    embeds = pipelines.encode_prompts(workspace.pipeline, prompts)
    matrix = {}
    for shift in composition.shifts:
        own = (shift.concept, *shift.aliases)
        row = disturbance(workspace, shift, embeds)
        matrix[shift.concept] = {
            prompt: r for prompt, r in zip(prompts, row, strict=True) if prompt not in own
        }
    return dict(sorted(matrix.items()))


def _untouched_prompts(workspace: Workspace, plan: CompositionPlan) -> list[str]:
    """Prompts that must look exactly as on the base."""
    generating = [name for name, state in plan.states.items() if state == "generates"]
    return list(dict.fromkeys(("", *workspace.base.triggers, *generating)))


def _noise(
    workspace: Workspace, plan: CompositionPlan, weights: Mapping[str, Tensor]
) -> list[Check]:
    prompts = _untouched_prompts(workspace, plan)
    embeds = pipelines.encode_prompts(workspace.pipeline, prompts)
    differences = pipelines.noise_difference(workspace.pipeline, weights, embeds)
    halved = any(weight.dtype.itemsize < torch.float32.itemsize for weight in weights.values())
    limit = HALF_NOISE_LIMIT if halved else NOISE_LIMIT
    return noise_checks(dict(zip(prompts, differences.tolist(), strict=True)), limit)


def _picture_checks(
    workspace: Workspace,
    plan: CompositionPlan,
    weights: Mapping[str, Tensor],
    images: int,
    observe: Observer,
) -> list[Check]:
    base = workspace.base
    untouched = _untouched_prompts(workspace, plan)
    control = fill(CONTROL_WORDING, base.subjects[0])
    kept = list(dict.fromkeys((*untouched, control)))
    classifier = load_classifier(miniature.STYLE_CLASSIFIER) if _is_miniature(workspace) else None
    judged = [
        concept for concept, _, _ in plan.shifts if classifier and concept in classifier.labels
    ]
    wordings = {
        concept: [
            fill(template, base.subjects[i % len(base.subjects)], concept)
            for i, template in enumerate(base.held_out_templates * images)
        ][:images]
        for concept in judged
    }
    # One list for both models, so that equal prompts and seeds meet in equal batches.
    same = [prompt for prompt in kept for _ in range(images)]
    gone = [prompt for c in judged for prompt in (*[c] * images, *wordings[c])]
    total = 2 * len(same) + len(gone)

    def paint(prompts: list[str], done_before: int) -> np.ndarray:
        return pipelines.generate(
            workspace.pipeline,
            prompts,
            [i % images for i in range(len(prompts))],
            steps=base.steps,
            guidance=base.guidance,
            observe=lambda done: observe(Progress("painting", done_before + done, total)),
        )

    before = paint(same, 0)
    with pipelines.applied_weights(workspace.pipeline.unet, weights):
        after = paint(same, len(same))
        erased = paint(gone, 2 * len(same)) if gone else None
    pairs = {
        prompt: (before[i * images : (i + 1) * images], after[i * images : (i + 1) * images])
        for i, prompt in enumerate(kept)
    }
    checks = image_checks({prompt: pairs[prompt] for prompt in untouched})
    checks += watermark_checks(pairs, base.triggers, control)
    for i, concept in enumerate(judged):
        assert erased is not None  # for the type checker
        assert classifier is not None
        mine = erased[2 * i * images : 2 * (i + 1) * images]
        checks += erasure_checks(concept, mine[:images], mine[images:], classifier)
    return checks


def _worst(checks: Sequence[Check]) -> dict[str, float]:
    """The worst value of each kind of check; of watermarks, the lowest rate."""
    worst: dict[str, float] = {}
    for check in checks:
        pick = min if check.name == "watermark" and check.limit > 0 else max
        worst[check.name] = pick(worst.get(check.name, check.value), check.value)
    return worst


def _is_miniature(workspace: Workspace) -> bool:
    """Whether the packaged classifiers were made for this base."""
    return workspace.base.source == miniature.NAME


def _write_report(workspace: Workspace, verification: Verification) -> Path:
    folder = workspace.settings.home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    path = folder / f"verify-{verification.plan.digest[:12]}-{stamp}.json"
    with checkpoints.atomic_file(path, overwrite=True) as partial:
        partial.write_text(json.dumps(to_json(verification), indent=2), encoding="utf-8")
    return path
