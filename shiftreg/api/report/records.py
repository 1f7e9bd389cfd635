"""What is on record about a composition: the origins of its shifts, events, exports."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from shiftreg.api.trail.measurements import doubt, on_record
from shiftreg.api.trail.stored_checks import read_stored
from shiftreg.api.values import CompositionPlan
from shiftreg.api.workspace import Workspace
from shiftreg.attacks.results import AttackReport
from shiftreg.audit import AuditEvent
from shiftreg.errors import IntegrityError
from shiftreg.evaluation.results import Evaluation
from shiftreg.plugins import list_methods
from shiftreg.registry import ShiftVersion
from shiftreg.registry.records import CompositionVersion, Measurement
from shiftreg.reports import Note, ShiftPart, curve, read_report

MOST_EVENTS = 200


def shift_parts(workspace: Workspace, plan: CompositionPlan) -> tuple[ShiftPart, ...]:
    """The shifts of a composition by concept, each with its origin."""
    events, *_ = audit_trail(workspace)
    trained = {method.name: method.trains for method in list_methods()}
    return tuple(
        _shift_part(workspace, concept, number, events, trained)
        for concept, number, _ in sorted(plan.shifts, key=lambda shift: shift[0].lower())
    )


def audit_trail(workspace: Workspace) -> tuple[tuple[AuditEvent, ...], str, str]:
    """All events, what the check of their hash chain says, and its head.

    Events that cannot be read are no reason to show none of the rest of a page: the sentence says
    so in their place.
    """
    report = workspace.audit.verify()
    try:
        events = workspace.audit.events()
    except IntegrityError as error:
        return (), str(error), ""
    if report.valid:
        sentence = f"The audit trail's hash chain of {report.count} events holds."
        return events, sentence, report.head
    problems = " ".join(f"{problem}." for problem in report.problems)
    return events, f"The audit trail's hash chain is BROKEN. {problems}", ""


def event_lines(
    workspace: Workspace, plan: CompositionPlan
) -> tuple[tuple[AuditEvent, ...], str, str]:
    """The events about a plan's concepts; what the check of the whole chain says, and its head."""
    events, chain, head = audit_trail(workspace)
    about = [
        event
        for event in events
        if event.base == plan.base and not plan.states.keys().isdisjoint(event.concepts)
    ]
    if len(about) > MOST_EVENTS:
        chain += f" Below are the last {MOST_EVENTS} of {len(about)} events about these concepts."
    return tuple(about[-MOST_EVENTS:]), chain, head


def export_lines(workspace: Workspace, plan: CompositionPlan) -> tuple[CompositionVersion, ...]:
    """The registered files that hold a composition, oldest first."""
    return tuple(
        version
        for version in workspace.registry.compositions.all(plan.base)
        if version.digest == plan.digest and version.export_digest
    )


def _shift_part(
    workspace: Workspace,
    concept: str,
    number: int,
    events: Sequence[AuditEvent],
    trained: Mapping[str, bool],
) -> ShiftPart:
    version = workspace.registry.shifts.version(workspace.base.name, concept, number)
    shift = workspace.shift(version)
    # The first event that names a shift is the one that made it.
    made = next((event for event in events if event.digests.get("shift") == shift.digest), None)
    histories: Mapping[str, Sequence[tuple[int, float]]] = {}
    if trained.get(version.method) is False:
        solved = "Solved in one step: there was no training, so there is no curve."
    else:
        histories = workspace.registry.trainings.curves(version)
        solved = (
            "No curve of a training is on record: it was made elsewhere, or from another shift."
        )
    curves = (curve(name, history) for name, history in histories.items())
    return ShiftPart(
        version=version,
        shift=shift,
        actor=version.actor or (made.actor if made else ""),
        predecessor=_predecessor(workspace, version),
        hyperparameters=json.dumps(dict(shift.hyperparameters), indent=2, ensure_ascii=False),
        curves=tuple(line for line in curves if line),
        solved=solved,
    )


def _predecessor(workspace: Workspace, version: ShiftVersion) -> str:
    if not version.predecessor:
        return ""
    older = next(
        (v for v in workspace.versions(version.concept) if v.digest == version.predecessor), None
    )
    short = version.predecessor[:12]
    return f"version {older.version} ({short})" if older else short


def stored_evaluation(
    workspace: Workspace, plan: CompositionPlan
) -> tuple[Evaluation | None, tuple[Note, ...]]:
    """The latest evaluation of a composition, and what to say if there is none."""
    command = f"shiftreg evaluate{_choice(workspace, plan)}"
    record = on_record(workspace, plan.base, "evaluation")
    stored = [measurement for measurement in record.known if measurement.digest == plan.digest]
    doubts = _doubts(one for one in record.doubted if one.digest == plan.digest)
    if not stored:
        text = "No evaluation of this composition is stored. Make one:"
        return None, (*doubts, Note(text, command))
    part, notes = read_stored(workspace, stored[-1], partial(read_report, Evaluation), command)
    return part, notes + doubts


def stored_attacks(
    workspace: Workspace, plan: CompositionPlan
) -> tuple[tuple[AttackReport, ...], tuple[Note, ...]]:
    """The latest attacks on each erased concept, and what to say where there are none.

    Attacks on this composition are preferred to later ones on another.
    """

    def command(concept: str) -> str:
        return f"shiftreg attack {shlex.quote(concept)}{_choice(workspace, plan)}"

    latest: dict[str, Measurement] = {}
    record = on_record(workspace, plan.base, "attack")
    for measurement in record.known:
        known = latest.get(measurement.concept)
        if not known or measurement.digest == plan.digest or known.digest != plan.digest:
            latest[measurement.concept] = measurement
    parts: list[AttackReport] = []
    erased = [concept for concept, state in plan.states.items() if state == "erased"]
    notes = list(_doubts(one for one in record.doubted if one.concept in erased))
    for concept in erased:
        if concept in latest:
            read = partial(read_report, AttackReport)
            part, wrong = read_stored(workspace, latest[concept], read, command(concept))
            parts += [part] if part else []
            notes += wrong
    if not erased:
        notes.append(Note("No concept is erased, so there is nothing to attack."))
    if never := [concept for concept in erased if concept not in latest]:
        text = f"No attack is stored on {', '.join(never)}. Make one:"
        notes.append(Note(text, command(never[0])))
    return tuple(parts), tuple(notes)


def _doubts(measurements: Iterable[Measurement]) -> tuple[Note, ...]:
    """Says which reports are not shown, since the audit trail does not know them."""
    text = doubt(measurements)
    return (Note(text),) if text else ()


def _choice(workspace: Workspace, plan: CompositionPlan) -> str:
    """The option that makes a command choose this composition; "" for the default one."""
    active = {
        version.concept: version.digest for version in workspace.registry.shifts.active(plan.base)
    }
    chosen = {concept: digest for concept, _, digest in plan.shifts}
    if chosen == active:
        return ""
    if chosen.items() <= active.items():
        return _option("--without", [concept for concept in active if concept not in chosen])
    return _option("--only", list(chosen))


def _option(option: str, names: Sequence[str]) -> str:
    # As the command line reads it: a name that holds a comma stands between double quotes.
    listed = ",".join(f'"{name}"' if "," in name else name for name in names)
    return f" {option} {shlex.quote(listed)}"
