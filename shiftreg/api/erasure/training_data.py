"""What trained methods learn on: the base's own images of a concept, kept until it is erased."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from shiftreg import pipelines
from shiftreg.api.erasure.preparing import PreparedErasure
from shiftreg.api.loaded_base import LoadedBase
from shiftreg.api.values import Observer, Progress
from shiftreg.checkpoints import Unfinished
from shiftreg.concepts import slug
from shiftreg.erasers import Step, TrainingData, Words

TRAINING_LATENTS = 32


def unfinished_work(
    home: Path, base_digest: str, prepared: Sequence[PreparedErasure], seed: int
) -> Unfinished:
    """Where an erasure is continued from, if the very same one was interrupted before."""
    return Unfinished.of(home, base_digest, seed, *(asdict(p.plan) for p in prepared))


def training_data(
    place: LoadedBase,
    prepared: PreparedErasure,
    seed: int,
    unfinished: Unfinished,
    on_step: Callable[[Step], None],
    observe: Observer,
) -> TrainingData:
    """Lets the base generate the concept: a third by its bare names, the rest in paraphrases."""
    draw = random.Random(seed)
    bare = prepared.problem.bare_names
    picks = [
        draw.choice(bare) if i % 3 == 0 else draw.randrange(len(prepared.pairs))
        for i in range(TRAINING_LATENTS)
    ]
    base = place.base
    latents = unfinished.latents(
        slug(prepared.concept.name),
        lambda: pipelines.generate(
            place.pipeline,
            [prepared.pairs[i].prompt for i in picks],
            [draw.randrange(2**31) for _ in picks],
            steps=base.steps,
            guidance=base.guidance,
            latents=True,
            observe=lambda done: observe(
                Progress(f"generating {prepared.concept.name}", done, TRAINING_LATENTS)
            ),
        ),
    )
    model = pipelines.Denoiser(place.pipeline)
    words = Words(
        pipelines.SoftPrompts(place.pipeline),
        prepared.concept.name,
        tuple(pair.prompt for pair in prepared.pairs),
        tuple(pair.anchor for pair in prepared.pairs),
    )
    return TrainingData(model, latents, tuple(picks), on_step, unfinished, words)
