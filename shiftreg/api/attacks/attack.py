"""Attacking an erasure: can the concept be made to appear again?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Unpack

from shiftreg.api.attacks.campaign import Campaign, unfinished_attacks
from shiftreg.api.attacks.images import generate_evidence
from shiftreg.api.attacks.plan import AttackRequest, PreparedAttacks, plan_attack
from shiftreg.api.changes import change, kept_report
from shiftreg.api.values import Observer, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.attacks.results import BASE, COMPOSITION, AttackReport, AttackScore
from shiftreg.checkpoints import file_digest
from shiftreg.concepts import slug
from shiftreg.reports import image_grid

__all__ = ["AttackReport", "AttackScore", "attack"]


def attack(
    workspace: Workspace,
    concept: PreparedAttacks | str,
    *,
    observe: Observer = ignore_progress,
    **request: Unpack[AttackRequest],
) -> AttackReport:
    """Attacks an erasure, and lets a classifier say how often the concept appears again.

    The base is attacked, too: an attack that does not reach the concept where it generates says
    nothing about an erasure. What starts from images of the concept is compared with the base
    that generates on from them without the name. Attacks that were interrupted go on with the
    results that they had.

    Args:
        concept: What :func:`plan_attack` gave; or a name, to be planned here.
        **request: How a named concept is attacked.

    Returns:
        The report; it is also in the home's ``attacks`` folder and in the registry, with a grid of
        the images.

    Raises:
        NotFoundError: As :func:`plan_attack`, as all that follows.
        InvalidInputError: Likewise.
    """
    if isinstance(concept, PreparedAttacks):
        prepared = concept
    else:
        prepared = plan_attack(workspace, concept, **request)
    plan = prepared.plan
    unfinished = unfinished_attacks(workspace, prepared.concept, plan.seed)
    evidence = generate_evidence(workspace, prepared.concept, plan.seed, unfinished, observe)
    campaign = Campaign(workspace, prepared, evidence, unfinished, observe)
    for target in prepared.targets:
        campaign.attack(target)
    campaign.compare()
    report = AttackReport(
        base=plan.base,
        concept=plan.concept,
        digest=plan.digest,
        classifier=plan.classifier,
        seed=plan.seed,
        images=plan.images,
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
