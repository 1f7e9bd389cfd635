"""Planning attacks: which ones, on which models, with which budget, and by which classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

from shiftreg.api.composition.compose import plan_composition, plan_shifts
from shiftreg.api.evaluation.classifiers import require_classifier
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import CompositionPlan
from shiftreg.api.workspace import Workspace
from shiftreg.attacks import Attack
from shiftreg.attacks.results import BASE, COMPOSITION
from shiftreg.compose import Composition
from shiftreg.concepts import Concept, Kind
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation.classifier import Classifier
from shiftreg.plugins import build_attacks
from shiftreg.registry import ShiftVersion

ALL = ("all",)
IMAGES = 8


@dataclass(frozen=True)
class AttackPlan:
    """What would be attacked, and how hard.

    Attributes:
        targets: What is attacked: "base", "composition", versions.
        budgets: Attack -> its options.
        images: Images an attack and target.
        classifier: Which classifier looks.
    """

    base: str
    concept: str
    digest: str
    targets: tuple[str, ...]
    budgets: Mapping[str, Mapping[str, Any]]
    images: int
    seed: int
    classifier: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A model under attack: the base with some shifts."""

    name: str
    composition: Composition


@dataclass(frozen=True)
class PreparedAttacks:
    """Attacks ready to run: the plan that is shown, and what is behind it."""

    plan: AttackPlan
    concept: Concept
    composed: CompositionPlan
    targets: tuple[Target, ...]
    attacks: tuple[Attack, ...]
    classifier: Classifier = field(repr=False)


class AttackRequest(TypedDict, total=False):
    """How an erasure is to be attacked.

    Attributes:
        attacks: Names; see :func:`list_attacks`. "all", the default, for all.
        options: Attack -> option -> value.
        against: Versions of the concept's shift to attack, too, each alone: "NAME@VERSION",
            "@VERSION", or a method's name for the newest version that it made.
        selection: The composition to attack; the active one by default.
        images: Images an attack and target.
        seed: Of the attacks, and the first of the images.
        classifier: A classifier's file; by default as in ``classifiers.find_classifier``.
    """

    attacks: Sequence[str]
    options: Mapping[str, Mapping[str, Any]] | None
    against: Sequence[str]
    selection: Selection
    images: int
    seed: int
    classifier: Path | None


def plan_attack(
    workspace: Workspace, concept: str, **request: Unpack[AttackRequest]
) -> PreparedAttacks:
    """Finds everything that attacks need, and refuses what cannot work before it takes time.

    Args:
        concept: Its name; it must be erased in the composition.
        **request: See :class:`AttackRequest`.

    Raises:
        NotFoundError: An unknown concept, attack, version or method, no classifier, or one that
            does not know the concept.
        InvalidInputError: The concept is not erased in the composition, no image asked for, or an
            option that an attack does not take.
    """
    images, seed = request.get("images", IMAGES), request.get("seed", 0)
    if images < 1:
        raise InvalidInputError(f"At least 1 image an attack is needed, and {images} asked for.")
    built = build_attacks(request.get("attacks", ALL), request.get("options") or {})
    name = workspace.find(concept)
    reader = require_classifier(workspace, request.get("classifier"))
    if not reader.knows(name):
        raise NotFoundError(
            f"{reader.name} does not know '{name}', so that nothing tells whether an attack "
            f"brings it back. It knows: {', '.join(reader.labels)}. "
            "Run: shiftreg classifier train"
        )
    composed = plan_composition(workspace, request.get("selection", ACTIVE))
    applied = next((number for known, number, _ in composed.shifts if known == name), None)
    if applied is None:
        raise InvalidInputError(_not_erased(workspace, name))
    shift = workspace.shift_of(name, applied)
    kind: Kind = "object" if shift.kind == "object" else "style"
    versions = {
        f"{version.reference} ({version.method})": version
        for version in (_find_version(workspace, name, text) for text in request.get("against", ()))
    }
    base_digest = workspace.base.digest
    targets = (
        Target(BASE, Composition.of(base_digest, ())),
        Target(COMPOSITION, plan_shifts(workspace, composed)),
        *(
            Target(label, Composition.of(base_digest, [workspace.shift(version)]))
            for label, version in versions.items()
        ),
    )
    plan = AttackPlan(
        base=composed.base,
        concept=name,
        digest=composed.digest,
        targets=tuple(target.name for target in targets),
        budgets={one.name: asdict(one) for one in built},  # type: ignore[call-overload]
        images=images,
        seed=seed,
        classifier=reader.name,
        warnings=composed.warnings,
    )
    return PreparedAttacks(
        plan, Concept(name, shift.aliases, kind), composed, targets, built, reader
    )


def _not_erased(workspace: Workspace, name: str) -> str:
    """Why there is nothing to attack, and what to do about it."""
    base = workspace.base.name
    if name in {version.concept for version in workspace.registry.shifts.active(base)}:
        return (
            f"'{name}' generates in this composition, so there is nothing to attack. Do not leave "
            "its shift out (--without), and name it where others are named (--only)."
        )
    versions = workspace.versions(name)
    remedy = f"{name}@{versions[-1].version}" if versions else name
    return (
        f"'{name}' is not erased, so there is nothing to attack. Run: shiftreg erase \"{remedy}\""
    )


def _find_version(workspace: Workspace, name: str, text: str) -> ShiftVersion:
    """The version that ``--against`` names: NAME@VERSION, @VERSION, or the newest by a method."""
    other, at, number = text.partition("@")
    if at:
        if other and workspace.find(other) != name:
            raise InvalidInputError(
                f"--against takes a version of the concept under attack, and '{text}' is none of "
                f"'{name}'. See: shiftreg show \"{name}\""
            )
        return workspace.registry.shifts.version(workspace.base.name, name, number or None)
    versions = workspace.versions(name)
    made = [version for version in versions if version.method == text]
    if not made:
        methods = ", ".join(dict.fromkeys(version.method for version in versions))
        raise NotFoundError(
            f"'{name}' has no version made by '{text}'; its versions are by {methods}. Make one: "
            f'shiftreg erase "{name}" --method {text}'
        )
    return made[-1]
