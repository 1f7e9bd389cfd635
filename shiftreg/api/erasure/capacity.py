"""How many more concepts a base has room for, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftreg.api.erasure.plan import (
    HOPELESS_RESIDUAL,
    LARGE_RATIO,
    ErasureContext,
    ErasureTerms,
    prepare_erasure,
)
from shiftreg.api.values import ErasurePlan, Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import atomic_file
from shiftreg.concepts import Concept, Kind
from shiftreg.erasers import ClosedForm
from shiftreg.errors import InvalidInputError
from shiftreg.profiles import Profile
from shiftreg.reports import Panel, save_curves
from shiftreg.subspace import drifts

DEFAULT_PROFILES = ("exact", "content:0.01", "svd:0.01")


@dataclass(frozen=True)
class CapacityRow:
    """What is predicted for one concept, erased beside all that are known and all before it.

    Attributes:
        profile: How much of the others is kept exactly.
        protected: Prompts that its shift protects.
        width: ``d_in``.
        used: Dimensions that they take.
        free: Dimensions that are left.
        support: Dimensions of them that the concept reaches.
        residual: Share of the concept that no shift can take away.
        ratio: ``max_l |delta_l| / |W_l|``.
        max_drift: How far the closed form's shift moves a protected prompt at most, relative to its
            keys or values.
        verdict: "fits", "tight" (ordinary prompts will suffer) or "does not fit".
    """

    profile: str
    concept: str
    protected: int
    width: int
    used: int
    free: int
    support: int
    residual: float
    ratio: float
    max_drift: float
    verdict: str


def plan_capacity(
    workspace: Workspace,
    names: Sequence[str] = (),
    *,
    kind: Kind = "style",
    profiles: Sequence[str] = DEFAULT_PROFILES,
    protect: Sequence[str] = (),
    plot: Path | None = None,
    overwrite: bool = False,
    observe: Observer = ignore_progress,
) -> tuple[CapacityRow, ...]:
    """Predicts what erasing concepts would take, one after the other; nothing is changed.

    Args:
        names: Further concepts, in the order of their erasure; all known ones by default.
        kind: "style" or "object".
        profiles: As ``erase`` takes them.
        protect: Further prompts to leave exactly as they are.
        plot: PNG of the predictions.

    Returns:
        A row for each profile and concept.

    Raises:
        InvalidInputError: A profile that does not exist, a prompt that is too long, or no concept.
        AlreadyExistsError: The image exists.
    """
    names = tuple(names) or workspace.known_names()
    if not names:
        raise InvalidInputError(
            "Capacity is predicted for concepts, and none is known yet. Name some."
        )
    parsed = [Profile.parse(text) for text in profiles]
    weights = workspace.layer_weights
    eraser = ClosedForm()
    rows: list[CapacityRow] = []
    for profile in parsed:
        for i, name in enumerate(names):
            observe(Progress(f"predicting {profile}", len(rows), len(parsed) * len(names)))
            terms = ErasureTerms(
                eraser, ErasureContext.of(workspace, names[:i]), tuple(protect), profile
            )
            prepared = prepare_erasure(workspace, Concept(name, kind=kind), terms)
            erasure = eraser.erase(prepared.problem, weights)
            support = erasure.support.double()
            drift = max(
                float(drifts(prepared.protected_embeds, a.double() @ support, weights[layer]).max())
                for layer, a in erasure.factors.items()
            )
            rows.append(_row(str(profile), prepared.plan, drift))
    observe(Progress("predicting", len(rows), len(rows)))
    if plot is not None:
        with atomic_file(plot, overwrite) as partial:
            save_curves(_curves(rows), "concepts, one after the other", partial)
    return tuple(rows)


def _row(profile: str, plan: ErasurePlan, drift: float) -> CapacityRow:
    capacity = plan.capacity
    residual, ratio = capacity["predicted_residual"], capacity["predicted_ratio"]
    if residual > HOPELESS_RESIDUAL:
        verdict = "does not fit"
    elif residual > HOPELESS_RESIDUAL / 2 or ratio > LARGE_RATIO:
        verdict = "tight"
    else:
        verdict = "fits"
    return CapacityRow(
        profile=profile,
        concept=plan.concept,
        protected=len(plan.protected),
        width=int(capacity["width"]),
        used=int(capacity["rank"]),
        free=int(capacity["free"]),
        support=int(capacity["support"]),
        residual=residual,
        ratio=ratio,
        max_drift=drift,
        verdict=verdict,
    )


def _curves(rows: Sequence[CapacityRow]) -> list[Panel]:
    """Free dimensions, what stays of a concept, size and drift of a shift: one panel each."""
    panels: dict[str, Callable[[CapacityRow], float]] = {
        "free dimensions": lambda row: row.free,
        "share of the concept that stays": lambda row: row.residual,
        "|delta| / |W|": lambda row: row.ratio,
        "max drift": lambda row: row.max_drift,
    }
    profiles = dict.fromkeys(row.profile for row in rows)
    return [
        Panel(
            title,
            {p: [value(row) for row in rows if row.profile == p] for p in profiles},
            logarithmic=title == "max drift",
        )
        for title, value in panels.items()
    ]
