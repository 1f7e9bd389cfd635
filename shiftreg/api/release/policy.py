"""How a composition stands against the requirements of the project."""

from __future__ import annotations

from collections.abc import Sequence

from shiftreg import pipelines
from shiftreg.api.composition.compose import plan_composition
from shiftreg.api.release.values import PolicyStanding
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.trail.measurements import doubt, on_record, stored_report
from shiftreg.api.values import CompositionPlan, Estimate
from shiftreg.api.workspace import Workspace
from shiftreg.attacks.results import COMPOSITION, CONTROL, above_control
from shiftreg.errors import NotFoundError
from shiftreg.profiles import Profile, profile_null_basis
from shiftreg.settings import PROJECT_FILE, Settings
from shiftreg.shift import ConceptShift
from shiftreg.verification import Check, Gates, Policy


def policy_standing(workspace: Workspace, selection: Selection = ACTIVE) -> PolicyStanding:
    """Says how a composition stands, by what is on record; nothing is measured anew.

    Raises:
        InvalidInputError: The project file has an unknown gate or requirement.
        NotFoundError: An unknown concept.
    """
    policy, gates = read_policy(workspace.settings)
    plan = plan_composition(workspace, selection)
    checks = requirements(
        workspace, plan, policy, signed=workspace.settings.signing_key is not None, billed=True
    )
    warnings: tuple[str, ...] = ()
    if policy.verify or workspace.settings.gates:
        checks += _on_record(workspace, plan, gates) + attack_checks(workspace, plan, gates)
        warnings = _doubts(workspace, plan)
    met = all(check.passed for check in checks)
    return PolicyStanding(policy, gates.limits(), plan, tuple(checks), met, warnings)


def read_policy(settings: Settings) -> tuple[Policy, Gates]:
    """The requirements and the limits of the project file.

    Raises:
        InvalidInputError: An unknown gate or requirement, or a value of the wrong kind.
    """
    source = str(PROJECT_FILE)
    return Policy.read(settings.policy, source), Gates().updated(settings.gates, source)


def requirements(
    workspace: Workspace,
    plan: CompositionPlan,
    policy: Policy,
    *,
    signed: bool,
    billed: bool,
    is_adapter: bool = False,
) -> list[Check]:
    """What a policy requires of a composition, and whether it holds.

    Args:
        is_adapter: Whether it is an adapter: what it does not erase, it does not release either.
    """
    command = "adapter" if is_adapter else "compose"
    checks = []
    if not is_adapter:
        checks += [_must_erase(workspace, plan, name) for name in policy.must_erase]
        if policy.may_generate is not None:
            checks.append(_may_generate(workspace, plan, policy.may_generate))
    if policy.capacity is not None:
        checks.append(_capacity(workspace, plan, policy.capacity))
    if policy.signature_required:
        what = f"A signature is required. Sign: {command} --sign, with --signing-key or "
        what += f"SHIFTREG_SIGNING_KEY or signing_key in {PROJECT_FILE}."
        checks.append(Check.at_least("signature", "the release", float(signed), 1.0, what))
    if policy.bill_of_materials:
        what = f"A bill of materials is required. Write one: {command} --bill, or --sign."
        checks.append(Check.at_least("bill", "the release", float(billed), 1.0, what))
    return checks


def _must_erase(workspace: Workspace, plan: CompositionPlan, name: str) -> Check:
    try:
        concept = workspace.find(name)
    except NotFoundError:
        concept = name
    state = plan.states.get(concept)
    command = f'shiftreg erase "{concept}"'
    if state == "erased":
        explanation = f"{concept} is erased."
    elif any(version.active for version in workspace.versions(concept)):
        explanation = f"{concept} generates: its shift is left out. Leave it in."
    elif state == "generates":
        explanation = f"{concept} generates. Run: {command}"
    else:
        explanation = f"{concept} was never erased from this base. Run: {command}"
    return Check.at_least("must erase", concept, float(state == "erased"), 1.0, explanation)


def _may_generate(workspace: Workspace, plan: CompositionPlan, allowed: Sequence[str]) -> Check:
    names = set()
    for name in allowed:
        try:
            names.add(workspace.find(name))
        except NotFoundError:
            continue  # what nobody knows, nothing generates knowingly
    others = [name for name, state in plan.states.items() if state == "generates"]
    others = [name for name in others if name not in names]
    explanation = "Of the known concepts, none but the allowed ones generates."
    if others:
        explanation = (
            f"{', '.join(others)} may not generate. Erase them, or add them to may_generate."
        )
    return Check.at_most("may generate", "other concepts", float(len(others)), 0.0, explanation)


def _capacity(workspace: Workspace, plan: CompositionPlan, limit: float) -> Check:
    """The share of the text space that was taken when each shift was made, at its worst."""
    taken: dict[str, float] = {}
    for concept, number, _ in plan.shifts:
        shift = workspace.shift_of(concept, number)
        if shift.separable:
            taken[concept] = _taken(workspace, shift)
    name, value = max(taken.items(), key=lambda one: one[1], default=("no shift", 0.0))
    explanation = (
        f"What {name} leaves as it is takes {value:.0%} of the text space. Protect fewer prompts, "
        "or erase with a profile (erase --profile). See: shiftreg capacity"
    )
    return Check.at_most("capacity", name, value, limit, explanation)


def _taken(workspace: Workspace, shift: ConceptShift) -> float:
    base, pipeline = workspace.base, workspace.prompt_encoder
    prompts = list(shift.protected)
    options = shift.hyperparameters
    profile = Profile.parse(str(options.get("profile", "exact")))
    exact = {"", *base.triggers, *base.protected, *options.get("exact", ())}
    embeds = pipelines.encode_prompts(pipeline, prompts)
    lasts = pipelines.last_positions(pipeline, prompts)
    kept = [i for i, prompt in enumerate(prompts) if prompt in exact]
    free = profile_null_basis(embeds, [position + 2 for position in lasts], profile, kept)
    return 1 - len(free) / embeds.shape[-1]


def _on_record(workspace: Workspace, plan: CompositionPlan, gates: Gates) -> list[Check]:
    """The checks of the last verification of this composition by these gates, a kind each."""
    limits = gates.limits()
    for measurement in reversed(on_record(workspace, plan.base, "verification").known):
        if measurement.digest != plan.digest:
            continue
        report = stored_report(workspace, measurement)
        if report.get("gates") == limits:
            checks = [Check(**check) for check in report["checks"] if check["name"] != "attack"]
            return _worst_of_each(checks)
    missing = "No verification of this composition by these gates is recorded. "
    missing += "Run: shiftreg verify (compose --export verifies the file anyway)"
    return [Check.at_least("verification", "this composition", 0.0, 1.0, missing)]


def _doubts(workspace: Workspace, plan: CompositionPlan) -> tuple[str, ...]:
    """Says which reports on record are not believed."""
    stored = [on_record(workspace, plan.base, kind) for kind in ("verification", "attack")]
    doubted = [measurement for kind in stored for measurement in kind.doubted]
    lost = [
        f"The registry has no true report of event {event.sequence} ({event.action}), which "
        "measured this composition last. See: shiftreg doctor"
        for kind in stored
        for event in kind.lost
        if event.digests.get("composition") == plan.digest
    ]
    return (*([doubt(doubted)] if doubted else []), *lost)


def _worst_of_each(checks: Sequence[Check]) -> list[Check]:
    """Of each kind the check that fails most, or else the one that is nearest to failing."""

    def badness(check: Check) -> tuple[bool, float]:
        distance = abs(check.value - check.limit)
        return not check.passed, -distance if check.passed else distance

    worst: dict[str, Check] = {}
    for check in checks:
        worst[check.name] = max(worst.get(check.name, check), check, key=badness)
    return list(worst.values())


def attack_checks(workspace: Workspace, plan: CompositionPlan, limits: Gates) -> list[Check]:
    """The strongest recorded attack on each erased concept, if a gate asks for it."""
    if limits.attack is None:
        return []
    stored = on_record(workspace, plan.base, "attack")
    recorded = {
        measurement.concept: stored_report(workspace, measurement)
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
