"""Planning an erasure: which prompts lose the concept, which stay, and whether there is room."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.values import ErasurePlan
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import Concept, Kind, PromptPair, mentions
from shiftreg.erasers import ERASERS, ClosedForm, ErasureProblem, SrsMe, predict_capacity
from shiftreg.errors import CapacityError, InvalidInputError, NotFoundError
from shiftreg.subspace import Capacity

LARGE_RATIO = 4.0
HOPELESS_RESIDUAL = 0.8


@dataclass(frozen=True)
class PreparedErasure:
    """An erasure ready to run: the plan that is shown, and the tensors behind it."""

    plan: ErasurePlan
    concept: Concept
    eraser: ClosedForm | SrsMe
    pairs: list[PromptPair]
    problem: ErasureProblem
    protected_embeds: Tensor


def plan_erasures(
    workspace: Workspace,
    names: Sequence[str],
    *,
    aliases: Sequence[str] = (),
    kind: Kind = "style",
    method: str = ClosedForm.name,
    options: Mapping[str, float] | None = None,
    protect: Sequence[str] = (),
) -> tuple[ErasurePlan, ...]:
    """Says what erasing concepts would take and touch; nothing is changed.

    Args:
        workspace: Where.
        names: Of the concepts; stored versions ("NAME@VERSION") need no plan and are passed over.
        aliases: Other names that the one concept is erased with.
        kind: "style" or "object": decides the wordings.
        method: Name of the eraser.
        options: Its hyper-parameters; see :func:`eraser_options`.
        protect: Further prompts to leave exactly as they are.

    Raises:
        InvalidInputError: Unknown option, a prompt that is too long, or aliases for several.
        NotFoundError: Unknown method.
    """
    concepts = named_concepts(workspace, names, aliases, kind)
    eraser = build_eraser(method, options)
    together = (*protect, *(concept.name for concept in concepts))
    return tuple(prepare_erasure(workspace, c, eraser, together).plan for c in concepts)


def named_concepts(
    workspace: Workspace, names: Sequence[str], aliases: Sequence[str], kind: Kind
) -> list[Concept]:
    """The concepts that are to be erased anew, with their registered spelling if they have one.

    They are also to protect each other, or the first would be stale at once.

    Raises:
        InvalidInputError: Aliases for more than one concept.
    """
    if aliases and len(names) != 1:
        raise InvalidInputError(
            "Aliases belong to one concept, and several are named. Erase them one by one."
        )
    return [
        Concept(_known_spelling(workspace, name), tuple(aliases), kind)
        for name in names
        if "@" not in name
    ]


def eraser_names() -> tuple[str, ...]:
    """Names of all methods."""
    return tuple(ERASERS)


def eraser_options(method: str) -> dict[str, tuple[float, str]]:
    """Hyper-parameters of a method: name -> (default, what its documentation says)."""
    eraser = _eraser_class(method)
    documentation = inspect.getdoc(eraser) or ""
    described = {
        name: " ".join(text.split()).replace("``", "")
        for name, text in re.findall(
            r"^    (\w+): (.*(?:\n {8}.*)*)", documentation, flags=re.MULTILINE
        )
    }
    return {f.name: (f.default, described[f.name]) for f in fields(eraser)}  # type: ignore[misc]


def _eraser_class(method: str) -> type[ClosedForm] | type[SrsMe]:
    if method not in ERASERS:
        raise NotFoundError(f"There is no method '{method}'. Methods: {', '.join(ERASERS)}.")
    return ERASERS[method]


def build_eraser(method: str, options: Mapping[str, Any] | None) -> ClosedForm | SrsMe:
    """Builds a method from its options; keys that are no hyper-parameter are refused."""
    eraser = _eraser_class(method)
    defaults: dict[str, Any] = {f.name: f.default for f in fields(eraser)}
    values = {}
    for name, value in (options or {}).items():
        if name not in defaults:
            raise InvalidInputError(
                f"Method '{method}' has no option '{name}'. Options: {', '.join(defaults)}."
            )
        kind = type(defaults[name])
        try:
            values[name] = kind(value)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"Option '{name}' of '{method}' is a {kind.__name__}, and '{value}' is none."
            ) from error
    return eraser(**values)


def _known_spelling(workspace: Workspace, name: str) -> str:
    """The registered spelling of a concept, or the given one if it is new."""
    try:
        return workspace.find(name)
    except NotFoundError:
        return name


def prepare_erasure(
    workspace: Workspace, concept: Concept, eraser: ClosedForm | SrsMe, protect: Sequence[str]
) -> PreparedErasure:
    """Encodes all prompts of an erasure and predicts what it can reach."""
    base, pipeline = workspace.base, workspace.pipeline
    spelled_out = concept.prompt_pairs(base.subjects)
    pipelines.encode_prompts(pipeline, concept.names)  # refuses names that are too long
    pairs = [
        pair
        for pair, fits in zip(
            spelled_out,
            pipelines.fitting(pipeline, [pair.prompt for pair in spelled_out]),
            strict=True,
        )
        if fits
    ]
    others = [name for name in workspace.known_names() if not mentions(name, concept.names)]
    hard = dict.fromkeys(("", *base.triggers, *others, *protect))
    protected = tuple(prompt for prompt in hard if not mentions(prompt, concept.names))
    soft = [*base.preserved]
    # An alias costs no rank here: it is kept softly, its concept's name exactly.
    aliases = {version.concept: version.aliases for version in workspace.registry.active(base.name)}
    for other in others:
        spelled = Concept(other, aliases.get(other, ()), concept.kind)
        soft += [pair.prompt for pair in spelled.prompt_pairs(base.subjects)]
    ordinary = [prompt for prompt in dict.fromkeys(soft) if not mentions(prompt, concept.names)]
    fits_encoder = pipelines.fitting(pipeline, ordinary)
    preserved = tuple(p for p, fits in zip(ordinary, fits_encoder, strict=True) if fits)
    protected_embeds = pipelines.encode_prompts(pipeline, protected)
    problem = ErasureProblem.of(
        prompt_embeds=pipelines.encode_prompts(pipeline, [pair.prompt for pair in pairs]),
        anchor_embeds=pipelines.encode_prompts(pipeline, [pair.anchor for pair in pairs]),
        name_positions=pipelines.name_positions(pipeline, pairs),
        protected_embeds=protected_embeds,
        preserved_rows=pipelines.encode_prompts(pipeline, preserved).flatten(0, 1),
    )
    weights = pipelines.layer_weights(pipeline.unet)
    capacity = predict_capacity(
        problem,
        weights,
        [i for i, pair in enumerate(pairs) if pair.prompt in concept.names],
        ClosedForm(preservation=eraser.preservation, ridge=eraser.ridge),
    )
    plan = ErasurePlan(
        base=base.name,
        concept=concept.name,
        aliases=concept.aliases,
        kind=concept.kind,
        method=eraser.name,
        hyperparameters=asdict(eraser),
        prompts=tuple(pair.prompt for pair in pairs),
        protected=protected,
        preserved=preserved,
        capacity=asdict(capacity),
        warnings=(
            *_contradictions(concept, protect),
            *_warnings(capacity, len(spelled_out) - len(pairs)),
        ),
    )
    return PreparedErasure(plan, concept, eraser, pairs, problem, protected_embeds)


def _contradictions(concept: Concept, protect: Sequence[str]) -> list[str]:
    return [
        f"'{prompt}' names {concept.name}, so it loses it too and is not protected."
        for prompt in protect
        if mentions(prompt, concept.names) and prompt not in concept.names
    ]


def _warnings(capacity: Capacity, too_long: int) -> tuple[str, ...]:
    warnings = []
    if too_long:
        warnings.append(
            f"{too_long} wordings with this name are longer than the text encoder reads, and are "
            "left out: the erasure may be weaker in sentences."
        )
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
    return tuple(warnings)


def require_capacity(plan: ErasurePlan) -> None:
    """Refuses an erasure that cannot work.

    Raises:
        CapacityError: Most of the concept lies within the protected span.
    """
    if plan.capacity["predicted_residual"] > HOPELESS_RESIDUAL:
        raise CapacityError(
            f"'{plan.concept}' cannot be erased beside {len(plan.protected)} protected prompts: "
            f"they take {plan.capacity['rank']} of {plan.capacity['width']} dimensions, and "
            f"{plan.capacity['predicted_residual']:.0%} of the concept lies within them. Protect "
            "fewer prompts (init --protect, erase --protect), or only names, not sentences."
        )
