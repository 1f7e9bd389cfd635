"""Attacking an erasure: can the concept be made to appear again?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shiftreg.api.attacks.campaign import Campaign
from shiftreg.api.attacks.images import generate_evidence
from shiftreg.api.attacks.planning import ALL, IMAGES, PreparedAttacks, prepare_attacks
from shiftreg.api.attacks.searching import unfinished_attacks
from shiftreg.api.changes import change, kept_report
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import Observer, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.attacks.results import BASE, COMPOSITION, AttackReport, AttackScore
from shiftreg.checkpoints import file_digest
from shiftreg.concepts import slug
from shiftreg.reports import image_grid

__all__ = ["AttackReport", "AttackScore", "attack"]


def attack(
    workspace: Workspace,
    concept: str,
    *,
    attacks: Sequence[str] = ALL,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    against: Sequence[str] = (),
    selection: Selection = ACTIVE,
    images: int = IMAGES,
    seed: int = 0,
    classifier: Path | None = None,
    observe: Observer = ignore_progress,
) -> AttackReport:
    """Attacks an erasure, and lets a classifier say how often the concept appears again.

    The base is attacked, too: an attack that does not find the concept where it generates says
    nothing about an erasure. What starts from images of the concept is compared with the base
    that generates on from them without the name. Attacks that were interrupted go on with what they
    had found.

    Args:
        workspace: Where.
        concept: Its name; it must be erased in the composition.
        attacks: Names; see :func:`~shiftreg.api.attacks.methods.list_attacks`. "all" for all.
        options: Attack -> option -> value.
        against: Versions of the concept's shift to attack, too, each alone: "NAME@VERSION",
            "@VERSION", or a method's name for the newest version that it made.
        selection: The composition to attack.
        images: Images an attack and target.
        seed: Of the attacks, and the first of the images.
        classifier: A classifier's file; by default as in ``classifiers.find_classifier``.
        observe: Told of the progress.

    Returns:
        The report; it is also in the home's ``attacks`` folder and in the registry, with a grid of
        the images.

    Raises:
        NotFoundError: An unknown concept, attack, version or method, no classifier, or one that
            does not know the concept.
        InvalidInputError: The concept is not erased in the composition, no image asked for, or an
            option that an attack does not take.
    """
    prepared = prepare_attacks(
        workspace,
        concept,
        attacks=attacks,
        options=options,
        against=against,
        selection=selection,
        images=images,
        seed=seed,
        classifier=classifier,
    )
    plan = prepared.plan
    unfinished = unfinished_attacks(workspace, prepared.concept, seed)
    evidence = generate_evidence(workspace, prepared.concept, seed, unfinished, observe)
    campaign = Campaign(workspace, prepared, evidence, unfinished, observe)
    for target in prepared.targets:
        campaign.attack(target)
    campaign.compare()
    report = AttackReport(
        base=plan.base,
        concept=plan.concept,
        digest=plan.digest,
        classifier=plan.classifier,
        seed=seed,
        images=images,
        unattacked=campaign.unattacked,
        scores=campaign.in_order(),
        image=None,
        report_path=None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    name = f"{slug(plan.concept)}-{plan.digest[:12]}"
    grid = image_grid(campaign.grid(report.scores))
    with kept_report(workspace.settings.home / "attacks", name, report, grid) as report:
        _register(workspace, prepared, report)
    unfinished.discard()
    return report


def _register(workspace: Workspace, prepared: PreparedAttacks, report: AttackReport) -> None:
    plan = prepared.plan
    assert report.report_path is not None
    assert report.image is not None
    at_last = {s.attack: s.success.value for s in report.scores if s.target == COMPOSITION}
    success: dict[str, dict[str, float]] = {}
    for score in report.scores:
        success.setdefault(score.attack, {})[score.target] = score.success.value
    with change(
        workspace,
        "attack",
        base=plan.base,
        concepts=(plan.concept,),
        digests={
            "base": prepared.composed.base_digest,
            "composition": plan.digest,
            "classifier": prepared.classifier.digest,
            "report": file_digest(report.report_path),
        },
        recovery={"kind": "attack"},
        details={
            "success": success,
            "budgets": dict(plan.budgets),
            "images": plan.images,
            "seed": plan.seed,
        },
    ):
        workspace.registry.measurements.record(
            plan.base,
            "attack",
            plan.digest,
            report.report_path,
            metrics={
                "unattacked": report.unattacked[COMPOSITION].value,
                "unattacked.base": report.unattacked[BASE].value,
                **{f"success.{name}": value for name, value in at_last.items()},
            },
            concept=plan.concept,
            files=[report.image],
        )
