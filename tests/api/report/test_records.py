"""What is on record about a composition, gathered without painting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shiftreg import api
from shiftreg.api.report import records
from tests.worlds import Worlds


@pytest.fixture
def erased(home: Path, worlds: Worlds) -> api.Workspace:
    return worlds.open(home, "Caravaggio", reason="request 17")


def test_a_shift_names_its_origin(erased: api.Workspace) -> None:
    api.erase(erased, ["Rembrandt"])
    api.refresh(erased, reason="a newer neighbour")
    plan = api.plan_composition(erased)
    caravaggio, rembrandt = records.shift_parts(erased, plan)
    assert (caravaggio.concept, caravaggio.version) == ("Caravaggio", 2)
    assert caravaggio.predecessor.startswith("version 1 (")
    assert caravaggio.reason == "a newer neighbour"
    assert caravaggio.actor == erased.audit.events()[-1].actor
    assert caravaggio.curves == ()
    assert "one step" in caravaggio.solved
    assert "ridge" in json.loads(caravaggio.hyperparameters)
    assert (rembrandt.predecessor, rembrandt.reason) == ("", "")


def test_a_trained_shift_has_curves(workspace: api.Workspace) -> None:
    options = {"iterations": 3, "pool_size": 4, "batch_size": 2}
    api.erase(workspace, ["Picasso"], method="srs-me", options=options)
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
    path.write_text("nonsense\n" + path.read_text())
    events, chain, head = records.event_lines(erased, api.plan_composition(erased))
    assert (events, head) == ((), "")
    assert "line 1" in chain


def test_exports_of_this_composition_are_told(erased: api.Workspace, tmp_path: Path) -> None:
    plan = api.plan_composition(erased)
    assert records.export_lines(erased, plan) == ()
    other = api.plan_composition(erased, api.Selection(without=["Caravaggio"]))
    api.export_composition(erased, other, tmp_path / "other.ckpt")
    made = api.export_composition(erased, plan, tmp_path / "model.ckpt", reason="release")
    (line,) = records.export_lines(erased, plan)
    assert (line.name, line.digest, line.reason) == ("model.ckpt", made.digest, "release")
