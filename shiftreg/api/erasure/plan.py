"""Planning erasures: which prompts lose the concept, which stay, and whether there is room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypedDict, TypeVar, Unpack

import torch
from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.loaded_base import LoadedBase
from shiftreg.api.values import ErasurePlan
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import Concept, Kind, PromptPair, mentions, slug
from shiftreg.erasers import ClosedForm, Eraser, ErasureProblem, predict_capacity
from shiftreg.errors import CapacityError, InvalidInputError, NotFoundError
from shiftreg.plugins import build_eraser
from shiftreg.profiles import Profile, profile_null_basis, weighted_rows
from shiftreg.subspace import Capacity

LARGE_RATIO = 4.0
HOPELESS_RESIDUAL = 0.8
NAME_WEIGHT = 10.0  # measured: see docs/capacity.md
T = TypeVar("T")


class ErasureRequest(TypedDict, total=False):
    """How concepts are to be erased.

    Attributes:
        aliases: Other names of the one concept.
        kind: "style" or "object": decides the prompts; "style" by default.
        method: Name of the eraser; see :func:`list_methods`. The closed form by default.
        protect: Further prompts to leave exactly as they are.
        profile: How much of other concepts' names is kept exactly: see ``profiles.Profile``.
    """

    aliases: Sequence[str]
    kind: Kind
    method: str
    options: Mapping[str, Any] | None
    protect: Sequence[str]
    profile: str


@dataclass(frozen=True)
class ErasureContext:
    """What an erasure has to respect of other concepts, read from the registry once.

    Concepts that are erased in one go all get the same: each protects the others, or the first
    would be stale at once, and where or in which order they are done does not matter.

    Attributes:
        names: Of all concepts that are known, and of those that are erased in the same go.
        aliases: Name -> other names of a concept that is erased now.
    """

    names: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, workspace: Workspace, together: Sequence[str] = ()) -> ErasureContext:
        """Reads the registry; ``together`` are names of concepts erased in the same go."""
        active = workspace.registry.shifts.active(workspace.base.name)
        return cls(
            tuple(dict.fromkeys((*workspace.known_names(), *together))),
            {version.concept: version.aliases for version in active},
        )


@dataclass(frozen=True)
class ErasureTerms:
    """What holds for all concepts that are erased in one go.

    Attributes:
        context: What else is known.
        protect: Further prompts to leave exactly as they are.
        profile: How much of the names of other concepts is kept exactly.
    """

    eraser: Eraser
    context: ErasureContext
    protect: tuple[str, ...] = ()
    profile: Profile = field(default_factory=Profile)

    def hyperparameters(self) -> dict[str, Any]:
        """All that a refresh needs to do the same again."""
        options = asdict(self.eraser)  # type: ignore[call-overload]
        if self.profile.name == "exact":
            return options
        return {**options, "profile": str(self.profile), "exact": list(self.protect)}


@dataclass(frozen=True)
class PreparedErasure:
    """An erasure ready to run: the plan that is shown, and the tensors behind it."""

    plan: ErasurePlan
    concept: Concept
    eraser: Eraser
    pairs: list[PromptPair]
    problem: ErasureProblem
    protected_embeds: Tensor


@dataclass(frozen=True)
class PlannedErasures:
    """What erasing some concepts would do; ``erase`` does it.

    Attributes:
        names: As they were given; a stored version ("NAME@VERSION") needs no plan.
        concepts: The others.
        terms: How they are erased.
        plans: One a concept.
        prepared: What is ready to run of a single concept. The tensors of many would fill the
            memory, and are computed again one by one.
    """

    names: tuple[str, ...]
    concepts: tuple[Concept, ...]
    terms: ErasureTerms
    plans: tuple[ErasurePlan, ...]
    prepared: tuple[PreparedErasure, ...] = field(default=(), repr=False)


def plan_erasures(
    workspace: Workspace, names: Sequence[str], **request: Unpack[ErasureRequest]
) -> PlannedErasures:
    """Says what erasing concepts would take and touch; nothing is changed.

    Args:
        names: Of the concepts; stored versions ("NAME@VERSION") need no plan and are passed over.
        **request: See :class:`ErasureRequest`.

    Raises:
        InvalidInputError: Unknown option or profile, a prompt that is too long, or aliases for
            several.
        NotFoundError: Unknown method.
    """
    aliases = tuple(request.get("aliases", ()))
    if aliases and len(names) != 1:
        raise InvalidInputError(
            "Aliases belong to one concept, and several are named. Erase them one by one."
        )
    concepts = tuple(
        Concept(_known_spelling(workspace, name), aliases, request.get("kind", "style"))
        for name in names
        if "@" not in name
    )
    terms = ErasureTerms(
        build_eraser(request.get("method", ClosedForm.name), request.get("options")),
        ErasureContext.of(workspace, [concept.name for concept in concepts]),
        tuple(request.get("protect", ())),
        Profile.parse(request.get("profile", "exact")),
    )
    if len(concepts) == 1:
        prepared = (prepare_erasure(workspace, concepts[0], terms),)
        return PlannedErasures(tuple(names), concepts, terms, (prepared[0].plan,), prepared)
    plans = tuple(prepare_erasure(workspace, concept, terms).plan for concept in concepts)
    return PlannedErasures(tuple(names), concepts, terms, plans)


def _known_spelling(workspace: Workspace, name: str) -> str:
    """The registered spelling of a concept, or the given one if it is new."""
    try:
        return workspace.find(name)
    except NotFoundError:
        return name


def require_capacity(plan: ErasurePlan) -> None:
    """Refuses an erasure that cannot work.

    Raises:
        CapacityError: Most of the concept lies within the protected span.
    """
    if plan.capacity and plan.capacity["predicted_residual"] > HOPELESS_RESIDUAL:
        raise CapacityError(
            f"'{plan.concept}' cannot be erased beside {len(plan.protected)} protected prompts: "
            f"they take {plan.capacity['rank']} of {plan.capacity['width']} dimensions, and "
            f"{plan.capacity['predicted_residual']:.0%} of the concept lies within them. Protect "
            "fewer prompts (init --protect, erase --protect), or keep other names to a bounded "
            "drift instead of exactly (erase --profile). See: shiftreg capacity"
        )


def prepare_erasure(base: LoadedBase, concept: Concept, terms: ErasureTerms) -> PreparedErasure:
    """Encodes all prompts of an erasure and predicts what it can reach.

    Raises:
        InvalidInputError: A prompt is too long.
    """
    record, encoder = base.base, base.prompt_encoder
    spelled_out = concept.prompt_pairs(record.subjects)
    pipelines.encode_prompts(encoder, concept.names)  # refuses names that are too long
    pairs = _that_fit(encoder, spelled_out, lambda pair: pair.prompt)
    others = [name for name in terms.context.names if not mentions(name, concept.names)]
    exact = ("", *record.triggers, *record.protected, *terms.protect)
    hard = dict.fromkeys(("", *record.triggers, *others, *terms.protect))
    protected = tuple(prompt for prompt in hard if not mentions(prompt, concept.names))
    soft = [*record.preserved]
    # An alias costs no rank here: it is kept softly, its concept's name exactly.
    for other in others:
        spelled = Concept(other, terms.context.aliases.get(other, ()), concept.kind)
        soft += [pair.prompt for pair in spelled.prompt_pairs(record.subjects)]
    ordinary = [prompt for prompt in dict.fromkeys(soft) if not mentions(prompt, concept.names)]
    preserved = tuple(_that_fit(encoder, ordinary, str))
    protected_embeds = pipelines.encode_prompts(encoder, protected)
    preserved_embeds = pipelines.encode_prompts(encoder, preserved)
    preserved_rows = preserved_embeds.flatten(0, 1)
    if terms.profile.name != "exact" and preserved:
        # Names that are not kept exactly are kept softly, however many prompts there are.
        plain = torch.tensor([prompt in record.preserved for prompt in preserved])
        names = protected_embeds[[i for i, p in enumerate(protected) if p not in exact]]
        preserved_rows = weighted_rows(
            [
                (preserved_embeds[plain].flatten(0, 1), 1.0),
                (preserved_embeds[~plain].flatten(0, 1), 1.0),
                (names.flatten(0, 1), NAME_WEIGHT),
            ]
        )
    retained = (*others, *_that_fit(encoder, record.preserved, str))
    anchors = [pair.anchor for pair in pairs]
    problem = ErasureProblem(
        prompt_embeds=pipelines.encode_prompts(encoder, [pair.prompt for pair in pairs]),
        anchor_embeds=pipelines.encode_prompts(encoder, anchors),
        name_positions=tuple(pipelines.name_positions(encoder, pairs)),
        name_ends=tuple(pipelines.name_ends(encoder, pairs)),
        anchor_ends=tuple(pipelines.last_positions(encoder, anchors)),
        bare_names=tuple(i for i, pair in enumerate(pairs) if pair.prompt in concept.names),
        empty_embeds=pipelines.encode_prompts(encoder, [""])[0],
        retained_rows=pipelines.encode_prompts(encoder, retained)[
            range(len(retained)), pipelines.last_positions(encoder, retained)
        ],
        preserved_rows=preserved_rows,
        null_basis=profile_null_basis(
            protected_embeds,
            [position + 2 for position in pipelines.last_positions(encoder, protected)],
            terms.profile,
            [i for i, prompt in enumerate(protected) if prompt in exact],
        ),
    )
    warnings = _contradictions(concept, terms.protect)
    warnings += [
        f"'{concept.name}' is another concept than '{other}', which is known: the names differ."
        for other in others
        if slug(other) == slug(concept.name)
    ]
    if too_long := len(spelled_out) - len(pairs):
        warnings.append(
            f"{too_long} prompts with this name are longer than the text encoder reads, and are "
            "left out: the erasure may be weaker in sentences."
        )
    capacity, concerns = _outlook(base, concept, terms.eraser, problem)
    plan = ErasurePlan(
        base=record.name,
        concept=concept.name,
        aliases=concept.aliases,
        kind=concept.kind,
        method=terms.eraser.name,
        hyperparameters=terms.hyperparameters(),
        prompts=tuple(pair.prompt for pair in pairs),
        protected=protected if terms.eraser.separable else (),
        preserved=preserved,
        capacity=capacity,
        warnings=(*warnings, *concerns),
    )
    return PreparedErasure(plan, concept, terms.eraser, pairs, problem, protected_embeds)


def _outlook(
    base: LoadedBase, concept: Concept, eraser: Eraser, problem: ErasureProblem
) -> tuple[dict[str, float], list[str]]:
    """What the method can be expected to reach, and what to mind about it."""
    capacity: dict[str, float] = {}
    if eraser.separable:
        predicted = predict_capacity(
            problem,
            base.layer_weights,
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
    encoder: pipelines.PromptEncoder, items: Sequence[T], prompt: Callable[[T], str]
) -> list[T]:
    """Those that the text encoder reads to their end."""
    fits = pipelines.fitting(encoder, [prompt(item) for item in items])
    return [item for item, fit in zip(items, fits, strict=True) if fit]


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
