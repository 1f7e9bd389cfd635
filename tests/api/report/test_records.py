"""What is on record about a composition, gathered without painting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shiftreg import api
from shiftreg.api.report import records
from shiftreg.api.trail.measurements import ACTIONS
from shiftreg.attacks.results import AttackReport
from shiftreg.evaluation.results import Evaluation
from tests.worlds import Worlds


@pytest.fixture
def erased(home: Path, worlds: Worlds) -> api.Workspace:
    return worlds.open(home, "Caravaggio", reason="request 17")


def test_a_shift_names_its_origin(erased: api.Workspace) -> None:
    api.erase(erased, ["Rembrandt"], force=True)
    api.refresh(erased, reason="a newer neighbour")
    plan = api.plan_composition(erased)
    caravaggio, rembrandt = records.shift_parts(erased, plan)
    assert (caravaggio.version.concept, caravaggio.version.version) == ("Caravaggio", 2)
    assert caravaggio.predecessor.startswith("version 1 (")
    assert caravaggio.version.reason == "a newer neighbour"
    assert caravaggio.actor == erased.audit.events()[-1].actor
    assert caravaggio.curves == ()
    assert "one step" in caravaggio.solved
    assert "ridge" in json.loads(caravaggio.hyperparameters)
    assert (rembrandt.predecessor, rembrandt.version.reason) == ("", "")


def test_a_trained_shift_has_curves(workspace: api.Workspace) -> None:
    options = {"iterations": 3, "pool_size": 4, "batch_size": 2}
    api.erase(workspace, ["Picasso"], method="srs-me", options=options, force=True)
    (part,) = records.shift_parts(workspace, api.plan_composition(workspace))
    loss = next(curve for curve in part.curves if curve.name == "loss")
    assert (loss.start, loss.end) == (1, 3)
    assert {curve.name for curve in part.curves} >= {"loss", "correlation", "momentum average"}


def test_events_about_the_concepts_are_told_and_the_chain_is_checked(
    erased: api.Workspace,
) -> None:
    plan = api.plan_composition(erased)
    events, chain, head = records.event_lines(erased, plan)
    assert [(event.action, event.reason) for event in events] == [("erase", "request 17")]
    assert "holds" in chain
    assert head == erased.audit.events()[-1].digest
    foreign = replace(plan, states={"Nobody": "generates"})
    assert records.event_lines(erased, foreign)[0] == ()


def test_an_edited_event_is_told_as_a_broken_chain(erased: api.Workspace) -> None:
    path = erased.audit.store.path
    path.write_text(path.read_text().replace("request 17", "request 18"))
    events, chain, head = records.event_lines(erased, api.plan_composition(erased))
    assert [event.reason for event in events] == ["request 18"]
    assert "BROKEN" in chain
    assert "edited" in chain
    assert head == ""


def test_a_line_that_is_no_event_is_told_in_place_of_the_events(erased: api.Workspace) -> None:
    path = erased.audit.store.path
    plan = api.plan_composition(erased)
    path.write_text("nonsense\n" + path.read_text())
    events, chain, head = records.event_lines(erased, plan)
    assert (events, head) == ((), "")
    assert "line 1" in chain


def test_exports_of_this_composition_are_told(erased: api.Workspace, tmp_path: Path) -> None:
    plan = api.plan_composition(erased)
    assert records.export_lines(erased, plan) == ()
    other = api.plan_composition(erased, api.Selection(without=["Caravaggio"]))
    api.export_composition(erased, other, tmp_path / "other.ckpt")
    made = api.export_composition(
        erased, plan, tmp_path / "model.ckpt", request=api.ReleaseRequest(reason="release")
    )
    (line,) = records.export_lines(erased, plan)
    assert (line.export_path, line.export_digest) == (str(tmp_path / "model.ckpt"), made.digest)
    assert line.reason == "release"


OTHER = "a" * 64


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
    part, (note,) = records.stored_evaluation(erased, plan)
    assert (part, note.command) == (None, "shiftreg evaluate")
    for name, digest in (("old", plan.digest), ("new", plan.digest), ("other", OTHER)):
        keep(erased, tmp_path, "evaluation", evaluation(name), digest)
    part, notes = records.stored_evaluation(erased, plan)
    assert part is not None
    assert (part.name, notes) == ("new", ())


def test_an_attack_on_this_composition_goes_before_a_later_one_on_another(
    erased: api.Workspace, tmp_path: Path
) -> None:
    plan = api.plan_composition(erased)
    parts, (note,) = records.stored_attacks(erased, plan)
    assert (parts, note.command) == ((), "shiftreg attack Caravaggio")
    keep(erased, tmp_path, "attack", attack(OTHER, "other"), OTHER, "Caravaggio")
    (part,), notes = records.stored_attacks(erased, plan)
    assert (part.digest == plan.digest, part.classifier, notes) == (False, "other", ())
    for classifier, digest in (("old", plan.digest), ("new", plan.digest), ("other", OTHER)):
        keep(erased, tmp_path, "attack", attack(digest, classifier), digest, "Caravaggio")
    (part,), _ = records.stored_attacks(erased, plan)
    assert (part.digest == plan.digest, part.classifier) == (True, "new")


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
    part, notes = records.stored_evaluation(erased, plan)
    assert part is None
    assert "Not believed, since the audit trail does not know it" in notes[0].text
    parts, notes = records.stored_attacks(erased, plan)
    assert parts == ()
    assert "Not believed, since the audit trail does not know it" in notes[0].text


@pytest.mark.parametrize("document", [{"schema_version": 1}, {"schema_version": 2}])
def test_a_report_that_cannot_be_read_is_named_and_not_shown(
    erased: api.Workspace, tmp_path: Path, document: dict[str, Any]
) -> None:
    plan = api.plan_composition(erased)
    keep(erased, tmp_path, "evaluation", document, plan.digest)
    part, (note,) = records.stored_evaluation(erased, plan)
    assert part is None
    assert "cannot be shown" in note.text
    assert note.command == "shiftreg evaluate"


def test_a_command_chooses_the_composition_that_is_meant(erased: api.Workspace) -> None:
    api.erase(erased, ["Van Gogh"])

    def command(**choice: Any) -> str:
        plan = api.plan_composition(erased, api.Selection(**choice))
        _, (note,) = records.stored_evaluation(erased, plan)
        return note.command

    assert command() == "shiftreg evaluate"
    assert command(without=["Van Gogh"]) == "shiftreg evaluate --without 'Van Gogh'"
    api.restore(erased, ["Van Gogh"], reason="licence 3")
    assert command(only=["Van Gogh"]) == "shiftreg evaluate --only 'Van Gogh'"
