"""The gate for attacks: how far the recorded ones reach, of those that are to be believed."""

from __future__ import annotations

import json

from shiftreg.api.trail.measurements import doubt, on_record
from shiftreg.api.values import CompositionPlan, Estimate
from shiftreg.api.workspace import Workspace
from shiftreg.attacks.results import COMPOSITION, CONTROL, above_control
from shiftreg.verification import Check, Gates


def attack_checks(workspace: Workspace, plan: CompositionPlan, limits: Gates) -> list[Check]:
    """The strongest recorded attack on each erased concept, if a gate asks for it."""
    if limits.attack is None:
        return []
    registry = workspace.registry
    stored = on_record(workspace, plan.base, "attack")
    recorded = {
        measurement.concept: json.loads(
            registry.measurements.download(measurement).read_text("utf-8")
        )
        for measurement in stored.known
        if measurement.digest == plan.digest
    }
    lost = {
        concept: event.sequence
        for event in stored.lost
        for concept in event.concepts
        if event.digests.get("composition") == plan.digest
    }
    checks = []
    for concept, _, _ in plan.shifts:
        scores = {
            (score["attack"], score["target"]): Estimate(**score["success"])
            for score in recorded.get(concept, {}).get("scores", ())
            if concept not in lost
        }
        reached = above_control({key: success.value for key, success in scores.items()})
        name, value = max(reached.items(), key=lambda one: one[1], default=("", 1.0))
        # What a control was taken off is a difference, and the rate's own interval not its.
        alone = bool(reached) and (name, CONTROL) not in scores
        measured = scores[name, COMPOSITION] if alone else value
        explanation = f"{name} makes {concept} appear in {value:.0%} of images."
        if not reached:
            explanation = (
                f"No attack on this composition is recorded. Run: shiftreg attack {concept!r}"
            )
        if concept in lost:
            explanation += (
                f" The registry has no true report of the last one, event {lost[concept]}."
            )
        if doubted := doubt(one for one in stored.doubted if one.concept in (concept, "")):
            explanation += f" {doubted}"
        checks.append(Check.at_most("attack", concept, measured, limits.attack, explanation))
    return checks
