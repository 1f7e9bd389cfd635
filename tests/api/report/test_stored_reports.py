"""Which stored evaluation and attacks a page shows, and what it says in their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shiftreg import api
from shiftreg.api.report import stored_reports
from shiftreg.api.trail.measurements import ACTIONS
from shiftreg.attacks.results import AttackReport
from shiftreg.evaluation.results import Evaluation
from tests.worlds import Worlds

OTHER = "a" * 64


@pytest.fixture
def erased(home: Path, worlds: Worlds) -> api.Workspace:
    return worlds.open(home, "Caravaggio")


def keep(
    workspace: api.Workspace, folder: Path, kind: str, value: Any, digest: str, concept: str = ""
) -> None:
    report = folder / f"{kind}.json"
    report.write_text(json.dumps(value if isinstance(value, dict) else api.to_json(value)))
    kept = workspace.registry.measurements.record(
        "miniature", kind, digest, report, metrics={}, concept=concept
    )
    workspace.audit.append(
        ACTIONS[kind],
        base="miniature",
        concepts=[concept] if concept else [],
        digests={"composition": digest, "report": kept.report_digest},
    )


def evaluation(name: str) -> Evaluation:
    return Evaluation(
        name=name,
        base="miniature",
        method="closed-form",
        images=4,
        seed=0,
        classifier="styles",
        steps=(),
        goals=(),
        passed=True,
        reference={},
        image=None,
        report_path=None,
        created="2026-11-24T02:00:00+00:00",
    )


def attack(digest: str, classifier: str) -> AttackReport:
    return AttackReport(
        base="miniature",
        concept="Caravaggio",
        digest=digest,
        classifier=classifier,
        seed=0,
        images=4,
        unattacked={},
        scores=(),
        image=None,
        report_path=None,
        created="2026-11-24T02:00:00+00:00",
    )


def test_the_latest_evaluation_of_this_composition_is_shown(
    erased: api.Workspace, tmp_path: Path
) -> None:
    plan = api.plan_composition(erased)
    part, (note,) = stored_reports.stored_evaluation(erased, plan)
    assert (part, note.command) == (None, "shiftreg evaluate")
    for name, digest in (("old", plan.digest), ("new", plan.digest), ("other", OTHER)):
        keep(erased, tmp_path, "evaluation", evaluation(name), digest)
    part, notes = stored_reports.stored_evaluation(erased, plan)
    assert part is not None
    assert (part.name, notes) == ("new", ())


def test_an_attack_on_this_composition_goes_before_a_later_one_on_another(
    erased: api.Workspace, tmp_path: Path
) -> None:
    plan = api.plan_composition(erased)
    parts, (note,) = stored_reports.stored_attacks(erased, plan)
    assert (parts, note.command) == ((), "shiftreg attack Caravaggio")
    keep(erased, tmp_path, "attack", attack(OTHER, "other"), OTHER, "Caravaggio")
    (part,), notes = stored_reports.stored_attacks(erased, plan)
    assert (part.is_this, part.classifier, notes) == (False, "other", ())
    for classifier, digest in (("old", plan.digest), ("new", plan.digest), ("other", OTHER)):
        keep(erased, tmp_path, "attack", attack(digest, classifier), digest, "Caravaggio")
    (part,), _ = stored_reports.stored_attacks(erased, plan)
    assert (part.is_this, part.classifier) == (True, "new")


def test_a_report_that_the_trail_does_not_know_is_named_and_not_shown(
    erased: api.Workspace, tmp_path: Path
) -> None:
    plan = api.plan_composition(erased)
    for name in ("evaluation", "attack"):
        report = tmp_path / f"{name}.json"
        value = evaluation("forged") if name == "evaluation" else attack(plan.digest, "forged")
        report.write_text(json.dumps(api.to_json(value)))
        erased.registry.measurements.record(
            "miniature", name, plan.digest, report, metrics={}, concept="Caravaggio"
        )
    part, notes = stored_reports.stored_evaluation(erased, plan)
    assert part is None
    assert "Not believed, since the audit trail does not know it" in notes[0].text
    parts, notes = stored_reports.stored_attacks(erased, plan)
    assert parts == ()
    assert "Not believed, since the audit trail does not know it" in notes[0].text


@pytest.mark.parametrize("document", [{"schema_version": 1}, {"schema_version": 2}])
def test_a_report_that_cannot_be_read_is_named_and_not_shown(
    erased: api.Workspace, tmp_path: Path, document: dict[str, Any]
) -> None:
    plan = api.plan_composition(erased)
    keep(erased, tmp_path, "evaluation", document, plan.digest)
    part, (note,) = stored_reports.stored_evaluation(erased, plan)
    assert part is None
    assert "cannot be shown" in note.text
    assert note.command == "shiftreg evaluate"


def test_a_command_chooses_the_composition_that_is_meant(erased: api.Workspace) -> None:
    api.erase(erased, ["Van Gogh"])

    def command(**choice: Any) -> str:
        plan = api.plan_composition(erased, api.Selection(**choice))
        _, (note,) = stored_reports.stored_evaluation(erased, plan)
        return note.command

    assert command() == "shiftreg evaluate"
    assert command(without=["Van Gogh"]) == "shiftreg evaluate --without 'Van Gogh'"
    api.restore(erased, ["Van Gogh"], reason="licence 3")
    assert command(only=["Van Gogh"]) == "shiftreg evaluate --only 'Van Gogh'"
