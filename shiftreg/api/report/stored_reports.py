"""The latest stored evaluation and attacks of a composition, as a page shows them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from shiftreg.api.trail.measurements import doubt, on_record
from shiftreg.api.values import CompositionPlan
from shiftreg.api.workspace import Workspace
from shiftreg.errors import IntegrityError
from shiftreg.registry.records import Measurement
from shiftreg.reports import AttackPart, EvaluationPart, Note, read_attack, read_evaluation
from shiftreg.reports.numbers import moment

Part = TypeVar("Part")


def stored_evaluation(
    workspace: Workspace, plan: CompositionPlan
) -> tuple[EvaluationPart | None, tuple[Note, ...]]:
    """The latest evaluation of a composition, and what to say if there is none."""
    command = f"shiftreg evaluate{_choice(workspace, plan)}"
    record = on_record(workspace, plan.base, "evaluation")
    stored = [measurement for measurement in record.known if measurement.digest == plan.digest]
    doubts = _doubts(one for one in record.doubted if one.digest == plan.digest)
    if not stored:
        text = "No evaluation of this composition is stored. Make one:"
        return None, (*doubts, Note(text, command))
    part, notes = _read(workspace, stored[-1], plan, read_evaluation, command)
    return part, notes + doubts


def stored_attacks(
    workspace: Workspace, plan: CompositionPlan
) -> tuple[tuple[AttackPart, ...], tuple[Note, ...]]:
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
    parts: list[AttackPart] = []
    erased = [concept for concept, state in plan.states.items() if state == "erased"]
    notes = list(_doubts(one for one in record.doubted if one.concept in erased))
    for concept in erased:
        if concept in latest:
            part, wrong = _read(workspace, latest[concept], plan, read_attack, command(concept))
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


def _read(
    workspace: Workspace,
    measurement: Measurement,
    plan: CompositionPlan,
    reader: Callable[[Mapping[str, Any], str], Part],
    command: str,
) -> tuple[Part | None, tuple[Note, ...]]:
    """A stored report, or what is wrong with it: that must not keep the page from being made."""
    try:
        path = workspace.registry.measurements.download(measurement)
        return reader(json.loads(path.read_text(encoding="utf-8")), plan.digest), ()
    except (IntegrityError, ValueError) as error:
        when = moment(measurement.created)
        text = f"The {measurement.kind} of {when} cannot be shown: {error}. Make a new one:"
        return None, (Note(text, command),)


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
