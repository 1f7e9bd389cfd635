"""The pictures of an attack: those that the attacker has, and those that show what was found."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.evaluation.judging import Judge
from shiftreg.api.values import Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.attacks import Found
from shiftreg.checkpoints import Unfinished
from shiftreg.concepts import Concept
from shiftreg.evaluation.intervals import Estimate, rate

LATENTS = 16


@dataclass(frozen=True)
class Evidence:
    """Pictures of the concept that an attacker has, painted by the base.

    Attributes:
        prompts: Wordings that name the concept, the bare name first.
        anchors: The same without it.
        latents: ``x_0 (n, C, h, w)``.
        latent_prompts: For each latent, which of ``prompts`` it was painted for.
    """

    prompts: tuple[str, ...]
    anchors: tuple[str, ...]
    latents: Tensor
    latent_prompts: tuple[int, ...]


def paint_evidence(
    workspace: Workspace, concept: Concept, seed: int, unfinished: Unfinished, observe: Observer
) -> Evidence:
    """Lets the base paint the concept: every other picture by its bare name."""
    base, pipeline = workspace.base, workspace.pipeline
    spelled = concept.prompt_pairs(base.subjects)
    fits = pipelines.fitting(pipeline, [pair.prompt for pair in spelled])
    pairs = [pair for pair, fit in zip(spelled, fits, strict=True) if fit]
    draw = random.Random(seed)
    picks = [0 if i % 2 == 0 else draw.randrange(len(pairs)) for i in range(LATENTS)]
    latents = unfinished.latents(
        "pictures",
        lambda: pipelines.generate(
            pipeline,
            [pairs[i].prompt for i in picks],
            # Other seeds than those of the judged pictures: a probe would paint its start again.
            [draw.randrange(2**31) for _ in picks],
            steps=base.steps,
            guidance=base.guidance,
            latents=True,
            observe=_counting(f"painting {concept.name}", LATENTS, observe),
        ),
    )
    return Evidence(
        prompts=tuple(pair.prompt for pair in pairs),
        anchors=tuple(pair.anchor for pair in pairs),
        latents=latents,
        latent_prompts=tuple(picks),
    )


def paint_found(
    workspace: Workspace,
    found: Found,
    weights: Mapping[str, Tensor],
    seeds: range,
    stage: str,
    observe: Observer,
) -> np.ndarray:
    """Paints what an attack found, one picture a seed.

    Args:
        workspace: Where.
        found: What is painted.
        weights: Of the target, where they are not the base's.
        seeds: Of the pictures.
        stage: In words, for the progress.
        observe: Told of it.

    Returns:
        uint8 ``(n, H, W, 3)``.
    """
    base, pipeline = workspace.base, workspace.pipeline
    embeds = _in_turn(found.prompt_embeds, len(seeds))
    own = pipelines.parameters(pipelines.network_of(pipeline))
    moved = {
        name: weights.get(name, own[name].detach()) + delta for name, delta in found.deltas.items()
    }
    counting = _counting(stage, len(seeds), observe)
    with pipelines.applied_weights(pipelines.network_of(pipeline), {**weights, **moved}):
        if found.start is None:
            return pipelines.generate(
                pipeline,
                embeds,
                seeds,
                steps=base.steps,
                guidance=base.guidance,
                observe=counting,
            )
        return pipelines.continue_pictures(
            pipeline,
            embeds,
            seeds,
            _in_turn(found.start.latents, len(seeds)),
            strength=found.start.strength,
            keep=found.start.keep,
            steps=base.steps,
            guidance=base.guidance,
            observe=counting,
        )


def found_share(judge: Judge, concept: str, pictures: np.ndarray) -> Estimate:
    """The share of pictures that the classifier takes for the concept."""
    return rate(judge.classifier.predict(pictures) == judge.classifier.labels.index(concept))


def _in_turn(rows: Tensor, count: int) -> Tensor:
    """``count`` rows, from the first again where there are fewer."""
    return rows[[i % len(rows) for i in range(count)]]


def _counting(stage: str, total: int, observe: Observer) -> Callable[[int], None]:
    return lambda done: observe(Progress(stage, done, total))
