"""Preparing an erasure: which prompts lose the concept, which stay, and whether there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.erasure.surroundings import Surroundings
from shiftreg.api.loaded_base import LoadedBase
from shiftreg.api.values import ErasurePlan
from shiftreg.concepts import Concept, PromptPair, mentions
from shiftreg.erasers import ClosedForm, Eraser, ErasureProblem, predict_capacity
from shiftreg.profiles import Profile, profile_null_basis, weighted_rows
from shiftreg.subspace import Capacity

LARGE_RATIO = 4.0
HOPELESS_RESIDUAL = 0.8
NAME_WEIGHT = 10.0  # measured: see docs/capacity.md
T = TypeVar("T")


@dataclass(frozen=True)
class PreparedErasure:
    """An erasure ready to run: the plan that is shown, and the tensors behind it."""

    plan: ErasurePlan
    concept: Concept
    eraser: Eraser
    pairs: list[PromptPair]
    problem: ErasureProblem
    protected_embeds: Tensor


def prepare_erasure(
    place: LoadedBase,
    concept: Concept,
    eraser: Eraser,
    around: Surroundings,
    *,
    protect: Sequence[str] = (),
    profile: Profile = Profile(),  # noqa: B008 - a frozen value
) -> PreparedErasure:
    """Encodes all prompts of an erasure and predicts what it can reach.

    Args:
        place: The base.
        concept: What to erase.
        eraser: By which method.
        around: What else is known.
        protect: Further prompts to leave exactly as they are.
        profile: How much of the names of other concepts is kept exactly.

    Raises:
        InvalidInputError: A prompt is too long.
    """
    base, pipeline = place.base, place.pipeline
    spelled_out = concept.prompt_pairs(base.subjects)
    pipelines.encode_prompts(pipeline, concept.names)  # refuses names that are too long
    pairs = _that_fit(pipeline, spelled_out, lambda pair: pair.prompt)
    others = [name for name in around.names if not mentions(name, concept.names)]
    exact = ("", *base.triggers, *base.protected, *protect)
    hard = dict.fromkeys(("", *base.triggers, *others, *protect))
    protected = tuple(prompt for prompt in hard if not mentions(prompt, concept.names))
    soft = [*base.preserved]
    # An alias costs no rank here: it is kept softly, its concept's name exactly.
    for other in others:
        spelled = Concept(other, around.aliases.get(other, ()), concept.kind)
        soft += [pair.prompt for pair in spelled.prompt_pairs(base.subjects)]
    ordinary = [prompt for prompt in dict.fromkeys(soft) if not mentions(prompt, concept.names)]
    preserved = tuple(_that_fit(pipeline, ordinary, str))
    protected_embeds = pipelines.encode_prompts(pipeline, protected)
    preserved_embeds = pipelines.encode_prompts(pipeline, preserved)
    preserved_rows = preserved_embeds.flatten(0, 1)
    if profile.name != "exact" and preserved:
        # Names that are not kept exactly are kept softly, however many prompts there are.
        plain = torch.tensor([prompt in base.preserved for prompt in preserved])
        names = protected_embeds[[i for i, p in enumerate(protected) if p not in exact]]
        preserved_rows = weighted_rows(
            [
                (preserved_embeds[plain].flatten(0, 1), 1.0),
                (preserved_embeds[~plain].flatten(0, 1), 1.0),
                (names.flatten(0, 1), NAME_WEIGHT),
            ]
        )
    retained = (*others, *_that_fit(pipeline, base.preserved, str))
    anchors = [pair.anchor for pair in pairs]
    problem = ErasureProblem(
        prompt_embeds=pipelines.encode_prompts(pipeline, [pair.prompt for pair in pairs]),
        anchor_embeds=pipelines.encode_prompts(pipeline, anchors),
        name_positions=tuple(pipelines.name_positions(pipeline, pairs)),
        name_ends=tuple(pipelines.name_ends(pipeline, pairs)),
        anchor_ends=tuple(pipelines.last_positions(pipeline, anchors)),
        bare_names=tuple(i for i, pair in enumerate(pairs) if pair.prompt in concept.names),
        empty_embeds=pipelines.encode_prompts(pipeline, [""])[0],
        retained_rows=pipelines.encode_prompts(pipeline, retained)[
            range(len(retained)), pipelines.last_positions(pipeline, retained)
        ],
        preserved_rows=preserved_rows,
        null_basis=profile_null_basis(
            protected_embeds,
            [position + 2 for position in pipelines.last_positions(pipeline, protected)],
            profile,
            [i for i, prompt in enumerate(protected) if prompt in exact],
        ),
    )
    warnings = _contradictions(concept, protect)
    if too_long := len(spelled_out) - len(pairs):
        warnings.append(
            f"{too_long} prompts with this name are longer than the text encoder reads, and are "
            "left out: the erasure may be weaker in sentences."
        )
    capacity, concerns = _outlook(place, concept, eraser, problem)
    plan = ErasurePlan(
        base=base.name,
        concept=concept.name,
        aliases=concept.aliases,
        kind=concept.kind,
        method=eraser.name,
        hyperparameters=_hyperparameters(eraser, profile, protect),
        prompts=tuple(pair.prompt for pair in pairs),
        protected=protected if eraser.separable else (),
        preserved=preserved,
        capacity=capacity,
        warnings=(*warnings, *concerns),
    )
    return PreparedErasure(plan, concept, eraser, pairs, problem, protected_embeds)


def _outlook(
    place: LoadedBase, concept: Concept, eraser: Eraser, problem: ErasureProblem
) -> tuple[dict[str, float], list[str]]:
    """What the method can be expected to reach, and what to mind about it."""
    capacity: dict[str, float] = {}
    if eraser.separable:
        predicted = predict_capacity(
            problem,
            pipelines.layer_weights(place.network),
            problem.bare_names,
            ClosedForm(
                preservation=getattr(eraser, "preservation", ClosedForm.preservation),
                ridge=getattr(eraser, "ridge", ClosedForm.ridge),
            ),
        )
        capacity, concerns = asdict(predicted), _tightness(predicted)
    else:
        concerns = [
            f"{eraser.name} is not separable: it moves other concepts and ordinary prompts, too. "
            "See what it costs: shiftreg verify"
        ]
    if not eraser.recoverable:
        concerns.append(
            f"{eraser.name} is for concepts that must never return: {concept.name} cannot be "
            "restored while this version is active."
        )
    return capacity, concerns


def _that_fit(
    pipeline: pipelines.Pipeline, items: Sequence[T], prompt: Callable[[T], str]
) -> list[T]:
    """Those that the text encoder reads to their end."""
    fits = pipelines.fitting(pipeline, [prompt(item) for item in items])
    return [item for item, fit in zip(items, fits, strict=True) if fit]


def _hyperparameters(eraser: Eraser, profile: Profile, protect: Sequence[str]) -> dict[str, Any]:
    """All that a refresh needs to do the same again."""
    options = asdict(eraser)  # type: ignore[call-overload]
    if profile.name == "exact":
        return options
    return {**options, "profile": str(profile), "exact": list(protect)}


def _contradictions(concept: Concept, protect: Sequence[str]) -> list[str]:
    return [
        f"'{prompt}' names {concept.name}, so it loses it too and is not protected."
        for prompt in protect
        if mentions(prompt, concept.names) and prompt not in concept.names
    ]


def _tightness(capacity: Capacity) -> list[str]:
    warnings = []
    if capacity.predicted_residual > HOPELESS_RESIDUAL / 2:
        warnings.append(
            f"{capacity.predicted_residual:.0%} of the erasure target of the name lies outside the "
            "free dimensions: expect traces of the concept. Protect fewer prompts."
        )
    if capacity.predicted_ratio > LARGE_RATIO:
        warnings.append(
            f"The change is predicted to be {capacity.predicted_ratio:.1f} times as large as the "
            "weights: expect damage to ordinary prompts. Protect fewer prompts."
        )
    return warnings
