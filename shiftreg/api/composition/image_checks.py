"""What a verification sees: noise predictions and images of base and composition."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.values import CompositionPlan, Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import fill
from shiftreg.evaluation.classifier import Classifier
from shiftreg.verification import (
    Check,
    Gates,
    erasure_checks,
    image_checks,
    noise_checks,
    ordinary_checks,
    watermark_checks,
)

CONTROL_TEMPLATE = "a picture of a {subject}"


def _untouched_prompts(workspace: Workspace, plan: CompositionPlan) -> list[str]:
    """Prompts that must look exactly as on the base."""
    generating = [name for name, state in plan.states.items() if state == "generates"]
    return list(dict.fromkeys(("", *workspace.base.triggers, *generating)))


def noise(
    workspace: Workspace, plan: CompositionPlan, weights: Mapping[str, Tensor], limit: float
) -> list[Check]:
    """Compares the noise predictions of prompts that must not notice.

    Args:
        workspace: Where.
        plan: The composition.
        weights: Its weights, in the precision that is deployed.
        limit: The gate, which depends on that.
    """
    prompts = _untouched_prompts(workspace, plan)
    embeds = pipelines.encode_prompts(workspace.pipeline, prompts)
    differences = pipelines.noise_difference(workspace.pipeline, weights, embeds)
    return noise_checks(dict(zip(prompts, differences.tolist(), strict=True)), limit)


def generated(
    workspace: Workspace,
    plan: CompositionPlan,
    weights: Mapping[str, Tensor],
    images: int,
    limits: Gates,
    classifier: Classifier | None,
    observe: Observer,
) -> list[Check]:
    """Generates with base and composition: compares what must be the same and what must be gone.

    Args:
        workspace: Where.
        plan: The composition.
        weights: Its weights, in the precision that is deployed.
        images: Same-seed images a prompt.
        limits: The gates.
        classifier: Looks for erased concepts; None if nobody can.
        observe: Told of the progress.
    """
    base = workspace.base
    untouched = _untouched_prompts(workspace, plan)
    control = fill(CONTROL_TEMPLATE, base.subjects[0])
    kept = list(dict.fromkeys((*untouched, control)))
    recognised = [
        concept for concept, _, _ in plan.shifts if classifier and classifier.knows(concept)
    ]
    ordinary = base.preserved[:: max(1, len(base.preserved) // (4 * images))][: 4 * images]
    held_out = {
        concept: [
            fill(template, base.subjects[i % len(base.subjects)], concept)
            for i, template in enumerate(base.held_out_templates * images)
        ][:images]
        for concept in recognised
    }
    # One list for both models, so that equal prompts and seeds meet in equal batches.
    same = [prompt for prompt in kept for _ in range(images)] + list(ordinary)
    gone = [prompt for c in recognised for prompt in (*[c] * images, *held_out[c])]
    total = 2 * len(same) + len(gone)

    def generate(prompts: list[str], done_before: int) -> np.ndarray:
        return pipelines.generate(
            workspace.pipeline,
            prompts,
            [i % images for i in range(len(prompts))],
            steps=base.steps,
            guidance=base.guidance,
            observe=lambda done: observe(Progress("generating", done_before + done, total)),
        )

    before = generate(same, 0)
    with pipelines.applied_weights(workspace.network, weights):
        after = generate(same, len(same))
        erased = generate(gone, 2 * len(same)) if gone else None
    pairs = {
        prompt: (before[i * images : (i + 1) * images], after[i * images : (i + 1) * images])
        for i, prompt in enumerate(kept)
    }
    checks = image_checks({prompt: pairs[prompt] for prompt in untouched}, limits.images)
    if ordinary:
        last = slice(len(same) - len(ordinary), None)
        checks += ordinary_checks(before[last], after[last], limits.ordinary)
    checks += watermark_checks(pairs, base.triggers, control, limits.watermark)
    for i, concept in enumerate(recognised):
        assert erased is not None  # for the type checker
        assert classifier is not None
        mine = erased[2 * i * images : 2 * (i + 1) * images]
        parts = mine[:images], mine[images:]
        limit = limits.name, limits.held_out_prompts
        checks += erasure_checks(concept, *parts, classifier, limit)
    return checks
