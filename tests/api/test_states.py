"""Lists, details, restoring."""

from __future__ import annotations

import pytest

from shiftreg import api
from shiftreg.errors import InvalidInputError, NotFoundError


def test_a_fresh_registry_lists_what_the_base_protects_as_generating(
    workspace: api.Workspace,
) -> None:
    states = api.list_concepts(workspace)
    assert len(states) == 9
    assert {state.state for state in states} == {"generates"}
    assert {state.latest for state in states} == {0}


@pytest.mark.erased("Picasso")
def test_restoring_says_why_and_keeps_the_shift(workspace: api.Workspace) -> None:
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


@pytest.mark.erased("Picasso")
def test_one_version_can_be_shown(workspace: api.Workspace) -> None:
    api.erase(workspace, ["Picasso"], options={"ridge": 0.5})
    assert [v["version"] for v in api.show_concept(workspace, "Picasso").versions] == [1, 2]
    assert [v["version"] for v in api.show_concept(workspace, "Picasso@1").versions] == [1]
    assert [v["version"] for v in api.show_concept(workspace, "Picasso@active").versions] == [2]
    with pytest.raises(NotFoundError):
        api.show_concept(workspace, "Picasso@7")
