"""An erasure as a task: a training or a solve, and measurements; without a registry."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.erasure.measures import measure_shift
from shiftreg.api.erasure.plan import (
    ErasureTerms,
    PreparedErasure,
    prepare_erasure,
    require_capacity,
)
from shiftreg.api.loaded_base import LoadedBase, recorded_base
from shiftreg.api.values import ErasurePlan, Observer, Progress
from shiftreg.checkpoints import Unfinished
from shiftreg.compose import Composition, merged_weights
from shiftreg.concepts import Concept, label
from shiftreg.erasers import Erasure, Step, TrainingData, Words
from shiftreg.profiles import drift_bound
from shiftreg.registry import BaseRecord, ShiftVersion
from shiftreg.shift import ConceptShift, tensor_digest
from shiftreg.verification import left_in_layers

TRAINING_LATENTS = 32


@dataclass(frozen=True)
class ErasureTask:
    """One training or solve as plain data, such as any process can do.

    Attributes:
        home: Folder that unfinished work is kept below.
        concepts: One; several for a method that trains them jointly.
        terms: How they are erased.
        seed: The same seed gives the same shifts.
        predecessor: The version that a refresh replaces.
    """

    record: BaseRecord
    home: Path
    concepts: tuple[Concept, ...]
    terms: ErasureTerms
    seed: int
    predecessor: ShiftVersion | None = None

    @property
    def name(self) -> str:
        """The names of its concepts."""
        return ", ".join(concept.name for concept in self.concepts)


@dataclass(frozen=True)
class Planned:
    """What a task reports when its prompts are encoded: a plan for each concept."""

    plans: tuple[ErasurePlan, ...]


@dataclass(frozen=True)
class ShiftResult:
    """A shift that is not registered yet.

    Attributes:
        unfinished: Folder of what its training would have been continued from.
    """

    plan: ErasurePlan
    shift: ConceptShift
    metrics: dict[str, float]
    unfinished: Path


def run_anywhere(task: ErasureTask, notify: Callable[[object], None]) -> list[ShiftResult]:
    """Does a task in a process that has nothing but the task."""
    return run_task(recorded_base(task.record), (), task, notify)


def run_task(
    base: LoadedBase,
    prepared: Sequence[PreparedErasure],
    task: ErasureTask,
    notify: Callable[[object], None],
) -> list[ShiftResult]:
    """Does a task: a shift for each of its concepts.

    Args:
        prepared: Its erasures, if they are ready to run; they are prepared here if it is empty.
        notify: Hears of the plans (:class:`Planned`), each step of a training (``Step``), and of
            how far generating is (``Progress``).

    Raises:
        CapacityError: The null space is too small to erase a concept.
    """
    began = time.monotonic()
    prepared = prepared or [prepare_erasure(base, c, task.terms) for c in task.concepts]
    for one in prepared:
        require_capacity(one.plan)
    notify(Planned(tuple(one.plan for one in prepared)))
    # Where the very same erasure goes on if it was interrupted before.
    unfinished = Unfinished.of(
        task.home, task.record.digest, task.seed, *(asdict(one.plan) for one in prepared)
    )
    erasures = _erase(base, prepared, task.seed, unfinished, notify)
    return [
        _result(base, one, erasure, task.seed, unfinished, began)
        for one, erasure in zip(prepared, erasures, strict=True)
    ]


def _erase(
    base: LoadedBase,
    prepared: Sequence[PreparedErasure],
    seed: int,
    unfinished: Unfinished,
    notify: Callable[[object], None],
) -> list[Erasure]:
    """Lets the method find the changes, one a concept."""
    eraser = prepared[0].eraser
    weights = base.layer_weights
    on_step: Callable[[Step], None] = notify
    observe: Observer = notify
    problems = [one.problem for one in prepared]
    data = [
        _training_data(base, one, seed, unfinished, on_step, observe) if eraser.trains else None
        for one in prepared
    ]
    if hasattr(eraser, "erase_jointly"):
        return eraser.erase_jointly(problems, weights, data, seed)
    return [eraser.erase(problems[0], weights, data[0], seed)]


def _training_data(
    base: LoadedBase,
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
    record = base.base
    latents = unfinished.latents(
        label(prepared.concept.name),
        lambda: pipelines.generate_latents(
            base.pipeline,
            [prepared.pairs[i].prompt for i in picks],
            [draw.randrange(2**31) for _ in picks],
            steps=record.steps,
            guidance=record.guidance,
            observe=lambda done: observe(
                Progress(f"generating {prepared.concept.name}", done, TRAINING_LATENTS)
            ),
        ),
    )
    model = pipelines.Denoiser(base.pipeline)
    words = Words(
        pipelines.SoftPrompts(base.pipeline),
        prepared.concept.name,
        tuple(pair.prompt for pair in prepared.pairs),
        tuple(pair.anchor for pair in prepared.pairs),
    )
    return TrainingData(model, latents, tuple(picks), on_step, unfinished, words)


def _result(
    base: LoadedBase,
    prepared: PreparedErasure,
    erasure: Erasure,
    seed: int,
    unfinished: Unfinished,
    began: float,
) -> ShiftResult:
    """The change as a shift, with its measurements."""
    plan, record = prepared.plan, base.base
    shift = ConceptShift(
        concept=plan.concept,
        aliases=plan.aliases,
        kind=plan.kind,
        method=plan.method,
        base_digest=record.digest,
        text_encoder_digest=record.text_encoder_digest,
        support=erasure.support,
        factors=erasure.factors,
        dense=erasure.dense,
        protected=plan.protected,
        protected_digest=tensor_digest(prepared.protected_embeds),
        preserved=plan.preserved,
        hyperparameters={**plan.hyperparameters, "seed": seed},
        metrics=_drift_bound(base, plan, erasure, prepared.protected_embeds),
    )
    metrics = {
        **_left(base, prepared, shift),
        **erasure.metrics,
        **shift.metrics,
        **measure_shift(base, shift, prepared.protected_embeds),
        "seconds": time.monotonic() - began,
    }
    return ShiftResult(plan, shift, metrics, unfinished.folder)


def _left(base: LoadedBase, prepared: PreparedErasure, shift: ConceptShift) -> dict[str, float]:
    """What is left of the concept in keys and values, and in noise predictions.

    The latter where the network is loaded anyway, or where the shift reaches other layers than
    those that see the text alone: then keys and values do not tell what it does.
    """
    problem, weights = prepared.problem, base.layer_weights
    is_of_text = weights.keys() >= set(shift.layers)
    left = {}
    if is_of_text:
        left["left_in_layers"] = left_in_layers(weights, shift, *problem.suffix_rows())
    if prepared.eraser.trains or not is_of_text:
        names = [*problem.bare_names] * 4  # each from a noise of its own
        alone = Composition.of(shift.base_digest, [shift])
        shares = pipelines.noise_left(
            base.pipeline,
            merged_weights(pipelines.parameters(base.network), alone),
            problem.prompt_embeds[names],
            problem.anchor_embeds[names],
        )
        left["left_in_noise"] = float(shares.mean())
    return left


def _drift_bound(
    base: LoadedBase, plan: ErasurePlan, erasure: Erasure, protected_embeds: Tensor
) -> dict[str, float]:
    """How far a shift may move what it protects; only where that is not exactly."""
    if "profile" not in plan.hyperparameters or not erasure.factors:
        return {}
    weights = base.layer_weights
    bounds = (
        drift_bound(rows, erasure.support, factor, weights[layer])
        for layer, factor in erasure.factors.items()
        for rows in protected_embeds
    )
    return {"drift_bound": max(bounds)}
