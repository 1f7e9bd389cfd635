"""What a verification sees: noise predictions and images of base and composition.

Images of the same weights, prompts and seeds are generated once: an export that is verified keeps
those that the verification of its file looks at. They lie in the home's ``verified`` folder, and
are believed only as far as the audit trail knows their digest.
"""

from __future__ import annotations

import hashlib
import platform
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version as library_version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import shiftreg
from shiftreg import pipelines
from shiftreg.api.composition.contents import Contents
from shiftreg.api.values import CompositionPlan, Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.canonical import canonical_json
from shiftreg.checkpoints import atomic_file, file_digest
from shiftreg.checkpoints.stored import raw_bytes
from shiftreg.concepts import Concept, fill
from shiftreg.errors import IntegrityError, StorageError
from shiftreg.evaluation.classifier import Classifier
from shiftreg.verification import (
    Check,
    Gates,
    erasure_checks,
    image_checks,
    noise_checks,
    ordinary_checks,
    remaining_checks,
    watermark_checks,
)

PROMPTS_A_KIND = 4  # what is left is a mean over as many, each from a noise of its own
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
        weights: Its weights, in the precision that is deployed.
        limit: The gate, which depends on that.
    """
    prompts = _untouched_prompts(workspace, plan)
    embeds = pipelines.encode_prompts(workspace.prompt_encoder, prompts)
    differences = pipelines.noise_difference(workspace.pipeline, weights, embeds)
    return noise_checks(dict(zip(prompts, differences.tolist(), strict=True)), limit)


def remaining(workspace: Workspace, contents: Contents, limit: float) -> list[Check]:
    """Measures what is left of each erased concept in noise predictions.

    Args:
        contents: What is verified; the base has its ``reference`` applied.
        limit: The gate.
    """
    base, encoder = workspace.base, workspace.prompt_encoder
    left = {}
    for shift in contents.composition.shifts:
        concept = Concept(shift.concept, shift.aliases, shift.kind)  # type: ignore[arg-type]
        pairs = concept.prompt_pairs(base.subjects)
        kinds = {
            "its name": [pair for pair in pairs if pair.prompt in concept.names],
            "trained prompts": [pair for pair in pairs if pair.prompt not in concept.names],
            "held-out prompts": concept.held_out_pairs(base.held_out_templates, base.subjects),
        }
        for kind, found in kinds.items():
            fits = pipelines.fitting(encoder, [pair.prompt for pair in found])
            picked = [pair for pair, fit in zip(found, fits, strict=True) if fit]
            picked = picked[:: max(1, len(picked) // PROMPTS_A_KIND)]
            if picked := list(islice(cycle(picked), PROMPTS_A_KIND)):
                embeds = pipelines.encode_prompts(encoder, [pair.prompt for pair in picked])
                anchors = pipelines.encode_prompts(encoder, [pair.anchor for pair in picked])
                shares = pipelines.noise_left(workspace.pipeline, contents.weights, embeds, anchors)
                left[f"{concept.name}, {kind}"] = float(shares.mean())
    return remaining_checks(left, limit)


def generated(
    workspace: Workspace,
    contents: Contents,
    images: int,
    limits: Gates,
    classifier: Classifier | None,
    observe: Observer,
) -> tuple[list[Check], Path]:
    """Generates with base and composition: compares what must be the same and what must be gone.

    Args:
        contents: What is verified; the base has its ``reference`` applied.
        images: Same-seed images a prompt.
        classifier: Looks for erased concepts; None if nobody can.

    Returns:
        The checks, and the file of the images.
    """
    base, plan = workspace.base, contents.plan
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
    path = _path(workspace, contents, same, gone, images)
    arrays = _kept(workspace, path)
    if arrays is None:
        arrays = _generate(workspace, contents.weights, same, gone, images, observe)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, overwrite=True) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    before, after, erased = (arrays[name] for name in ("before", "after", "erased"))
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
        assert classifier is not None  # for the type checker
        mine = erased[2 * i * images : 2 * (i + 1) * images]
        parts = mine[:images], mine[images:]
        limit = limits.name, limits.held_out_prompts
        checks += erasure_checks(concept, *parts, classifier, limit)
    return checks, path


def _generate(
    workspace: Workspace,
    weights: Mapping[str, Tensor],
    same: Sequence[str],
    gone: Sequence[str],
    images: int,
    observe: Observer,
) -> dict[str, np.ndarray]:
    base = workspace.base
    total = 2 * len(same) + len(gone)

    def generate(prompts: Sequence[str], done_before: int) -> np.ndarray:
        return pipelines.generate(
            workspace.pipeline,
            prompts,
            [i % images for i in range(len(prompts))],
            steps=base.steps,
            guidance=base.guidance,
            observe=lambda done: observe(Progress("generating", done_before + done, total)),
        )

    arrays = {"before": generate(same, 0)}
    with pipelines.applied_weights(workspace.network, weights):
        arrays["after"] = generate(same, len(same))
        arrays["erased"] = generate(gone, 2 * len(same)) if gone else arrays["after"][:0]
    return arrays


def _path(
    workspace: Workspace, contents: Contents, same: Sequence[str], gone: Sequence[str], images: int
) -> Path:
    """Where the images lie: another place for whatever makes other images."""
    base = workspace.base
    made_from: dict[str, Any] = {
        "base": base.digest,
        "steps": base.steps,
        "guidance": base.guidance,
        "weights": _digest(contents.weights),
        "reference": _digest(contents.reference),
        "prompts": [*same, "", *gone],
        "images": images,
        "machine": platform.machine(),
        "tools": [shiftreg.__version__, *map(library_version, ("torch", "diffusers"))],
    }
    name = hashlib.sha256(canonical_json(made_from).encode()).hexdigest()[:32]
    return workspace.settings.home / "verified" / f"{name}.npz"


def _digest(weights: Mapping[str, Tensor]) -> str:
    hasher = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        hasher.update(f"{name}{weight.dtype}{tuple(weight.shape)}".encode())
        hasher.update(raw_bytes(weight.detach().contiguous()))
    return hasher.hexdigest()


def _kept(workspace: Workspace, path: Path) -> dict[str, np.ndarray] | None:
    """The images that an earlier verification generated, as the audit trail knows them."""
    if not path.is_file():
        return None
    try:
        digest = file_digest(path)
        events = workspace.audit.events()
        if not any(e.action == "verify" and e.digests.get("images") == digest for e in events):
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (IntegrityError, StorageError, OSError, ValueError, zipfile.BadZipFile):
        return None
