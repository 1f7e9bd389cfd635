"""Planning erasures: what they are to be, and which of them cannot work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shiftreg.api.erasure.methods import build_eraser
from shiftreg.api.erasure.preparing import HOPELESS_RESIDUAL, prepare_erasure
from shiftreg.api.erasure.surroundings import Surroundings
from shiftreg.api.values import ErasurePlan
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import Concept, Kind
from shiftreg.erasers import ClosedForm
from shiftreg.errors import CapacityError, InvalidInputError, NotFoundError
from shiftreg.profiles import Profile


def plan_erasures(
    workspace: Workspace,
    names: Sequence[str],
    *,
    aliases: Sequence[str] = (),
    kind: Kind = "style",
    method: str = ClosedForm.name,
    options: Mapping[str, float] | None = None,
    protect: Sequence[str] = (),
    profile: str = "exact",
) -> tuple[ErasurePlan, ...]:
    """Says what erasing concepts would take and touch; nothing is changed.

    Args:
        workspace: Where.
        names: Of the concepts; stored versions ("NAME@VERSION") need no plan and are passed over.
        aliases: Other names that the one concept is erased with.
        kind: "style" or "object": decides the prompts.
        method: Name of the eraser.
        options: Its hyper-parameters; see :func:`list_methods`.
        protect: Further prompts to leave exactly as they are.
        profile: How much of other concepts' names is kept exactly: see ``profiles.Profile``.

    Raises:
        InvalidInputError: Unknown option or profile, a prompt that is too long, or aliases for
            several.
        NotFoundError: Unknown method.
    """
    concepts = named_concepts(workspace, names, aliases, kind)
    eraser = build_eraser(method, options)
    kept = Profile.parse(profile)
    around = Surroundings.of(workspace, [concept.name for concept in concepts])
    return tuple(
        prepare_erasure(workspace, c, eraser, around, protect=protect, profile=kept).plan
        for c in concepts
    )


def named_concepts(
    workspace: Workspace, names: Sequence[str], aliases: Sequence[str], kind: Kind
) -> list[Concept]:
    """The concepts that are to be erased anew, with their registered spelling if they have one.

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
