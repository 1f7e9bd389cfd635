"""Finding shifts: a training or a solve, its measurements and samples; no registry is needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.composition.samples import sample_rows
from shiftreg.api.erasure.planning import require_capacity
from shiftreg.api.erasure.preparing import PreparedErasure, prepare_erasure
from shiftreg.api.erasure.shift_measures import measure_shift
from shiftreg.api.erasure.surroundings import Surroundings
from shiftreg.api.erasure.training_data import training_data, unfinished_work
from shiftreg.api.loaded_base import LoadedBase, recorded_base
from shiftreg.api.values import ErasurePlan, Observer
from shiftreg.checkpoints import Unfinished
from shiftreg.concepts import Concept
from shiftreg.erasers import Eraser, Erasure, Step
from shiftreg.profiles import Profile, drift_bound
from shiftreg.registry import BaseRecord, ShiftVersion
from shiftreg.reports import GridRow
from shiftreg.shift import ConceptShift, tensor_digest


@dataclass(frozen=True)
class ErasureTask:
    """One training or solve as plain data, such as any process can do.

    Attributes:
        record: Of the base.
        home: Folder that unfinished work is kept below.
        concepts: One; several for a method that trains them jointly.
        eraser: The method.
        around: What else is known.
        protect: Further prompts to leave exactly as they are.
        profile: How much of the names of other concepts is kept exactly.
        seed: The same seed gives the same shifts.
        predecessor: The version that is made anew.
    """

    record: BaseRecord
    home: Path
    concepts: tuple[Concept, ...]
    eraser: Eraser
    around: Surroundings
    protect: tuple[str, ...]
    profile: Profile
    seed: int
    predecessor: ShiftVersion | None = None

    @property
    def name(self) -> str:
        """Of its concepts, in words."""
        return ", ".join(concept.name for concept in self.concepts)


@dataclass(frozen=True)
class Planned:
    """What a task reports when its prompts are encoded: a plan for each concept."""

    plans: tuple[ErasurePlan, ...]


@dataclass(frozen=True)
class FoundShift:
    """A shift that is not registered yet.

    Attributes:
        plan: What was done.
        shift: The shift.
        metrics: Measured on it.
        samples: Images before and after, a row a prompt.
        unfinished: Folder of what its training would have been continued from.
    """

    plan: ErasurePlan
    shift: ConceptShift
    metrics: dict[str, float]
    samples: list[GridRow]
    unfinished: Path


def find_shifts_anywhere(task: ErasureTask, tell: Callable[[object], None]) -> list[FoundShift]:
    """Does a task in a process that has nothing but the task."""
    return find_shifts(recorded_base(task.record), task, tell)


def find_shifts(
    place: LoadedBase, task: ErasureTask, tell: Callable[[object], None]
) -> list[FoundShift]:
    """Does a task: a shift for each of its concepts.

    Args:
        place: The base.
        task: The task.
        tell: Told of the plans (:class:`Planned`), each step of a training (``Step``), and of how
            far painting is (``Progress``).

    Raises:
        CapacityError: The null space is too small to erase a concept.
    """
    began = time.monotonic()
    prepared = [
        prepare_erasure(
            place, concept, task.eraser, task.around, protect=task.protect, profile=task.profile
        )
        for concept in task.concepts
    ]
    for one in prepared:
        require_capacity(one.plan)
    tell(Planned(tuple(one.plan for one in prepared)))
    unfinished = unfinished_work(task.home, task.record.digest, prepared, task.seed)
    erasures = _erase(place, prepared, task.seed, unfinished, tell)
    return [
        _found(place, one, erasure, task.seed, unfinished, began, tell)
        for one, erasure in zip(prepared, erasures, strict=True)
    ]


def _erase(
    place: LoadedBase,
    prepared: Sequence[PreparedErasure],
    seed: int,
    unfinished: Unfinished,
    tell: Callable[[object], None],
) -> list[Erasure]:
    """Lets the method find the changes, one a concept."""
    eraser = prepared[0].eraser
    weights = pipelines.layer_weights(place.network)
    on_step: Callable[[Step], None] = tell
    observe: Observer = tell
    problems = [one.problem for one in prepared]
    data = [
        training_data(place, one, seed, unfinished, on_step, observe) if eraser.trains else None
        for one in prepared
    ]
    if hasattr(eraser, "erase_jointly"):
        return eraser.erase_jointly(problems, weights, data, seed)
    return [eraser.erase(problems[0], weights, data[0], seed)]


def _found(
    place: LoadedBase,
    prepared: PreparedErasure,
    erasure: Erasure,
    seed: int,
    unfinished: Unfinished,
    began: float,
    tell: Callable[[object], None],
) -> FoundShift:
    """The change as a shift, with its measurements and images."""
    plan, base = prepared.plan, place.base
    shift = ConceptShift(
        concept=plan.concept,
        aliases=plan.aliases,
        kind=plan.kind,
        method=plan.method,
        base_digest=base.digest,
        text_encoder_digest=base.text_encoder_digest,
        support=erasure.support,
        factors=erasure.factors,
        dense=erasure.dense,
        protected=plan.protected,
        protected_digest=tensor_digest(prepared.protected_embeds),
        preserved=plan.preserved,
        hyperparameters={**plan.hyperparameters, "seed": seed},
        metrics=_drift_bound(place, plan, erasure, prepared.protected_embeds),
    )
    metrics = {
        **erasure.metrics,
        **shift.metrics,
        **measure_shift(place, shift, prepared.protected_embeds),
        "seconds": time.monotonic() - began,
    }
    return FoundShift(plan, shift, metrics, sample_rows(place, shift, tell), unfinished.folder)


def _drift_bound(
    place: LoadedBase, plan: ErasurePlan, erasure: Erasure, protected_embeds: Tensor
) -> dict[str, float]:
    """How far a shift may move what it protects; only where that is not exactly."""
    if "profile" not in plan.hyperparameters or not erasure.factors:
        return {}
    weights = pipelines.layer_weights(place.network)
    bounds = (
        drift_bound(rows, erasure.support, factor, weights[layer])
        for layer, factor in erasure.factors.items()
        for rows in protected_embeds
    )
    return {"drift_bound": max(bounds)}
