"""Lists, details, restoring, and the JSON that scripts read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shiftreg import api
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.settings import Settings


def test_a_fresh_registry_lists_what_the_base_protects_as_generating(
    workspace: api.Workspace,
) -> None:
    states = api.list_concepts(workspace)
    assert len(states) == 9
    assert {state.state for state in states} == {"generates"}
    assert {state.latest for state in states} == {0}


def test_restoring_says_why_and_keeps_the_shift(workspace: api.Workspace) -> None:
    api.erase(workspace, ["Picasso"])
    (state,) = api.restore(workspace, ["picasso"], reason="licence 3")
    assert (state.concept, state.state, state.version, state.latest) == (
        "Picasso",
        "generates",
        None,
        1,
    )
    detail = api.show_concept(workspace, "Picasso")
    assert [event["action"] for event in detail.history] == ["erase", "restore"]
    assert detail.history[-1]["reason"] == "licence 3"
    assert len(detail.versions) == 1


def test_restoring_needs_a_reason_and_something_erased(workspace: api.Workspace) -> None:
    with pytest.raises(NotFoundError, match="not erased"):
        api.restore(workspace, ["Picasso"], reason="why not")
    api.erase(workspace, ["Picasso"])
    with pytest.raises(InvalidInputError, match="reason"):
        api.restore(workspace, ["Picasso"], reason=" ")
    with pytest.raises(NotFoundError):
        api.restore(workspace, ["Picasso", "Cezanne"], reason="both or none")
    assert next(s for s in api.list_concepts(workspace) if s.concept == "Picasso").state == "erased"


def test_one_version_can_be_shown(workspace: api.Workspace) -> None:
    api.erase(workspace, ["Picasso"])
    api.erase(workspace, ["Picasso"], options={"ridge": 0.5})
    assert [v["version"] for v in api.show_concept(workspace, "Picasso").versions] == [1, 2]
    assert [v["version"] for v in api.show_concept(workspace, "Picasso@1").versions] == [1]
    assert [v["version"] for v in api.show_concept(workspace, "Picasso@active").versions] == [2]
    with pytest.raises(NotFoundError):
        api.show_concept(workspace, "Picasso@7")


def test_every_value_becomes_one_json_document(workspace: api.Workspace) -> None:
    document = api.to_json(api.list_concepts(workspace))
    assert document["schema_version"] == 1
    assert json.loads(json.dumps(document))["items"][0]["concept"] == "Caravaggio"
    plan = api.to_json(api.plan_composition(workspace))
    assert json.loads(json.dumps(plan))["states"]["Picasso"] == "generates"


def test_the_ui_serves_this_registry(home: Path) -> None:
    command = api.ui_command(Settings(home, "miniature", None), port=5001)
    assert f"sqlite:///{home}/registry.db" in command
    assert command[-1] == "5001"
    with pytest.raises(InvalidInputError, match="server"):
        api.ui_command(Settings(home, "miniature", "http://127.0.0.1:5000"))
