"""A server that goes away in the middle of a command, and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shiftreg import api
from shiftreg.errors import StorageError
from shiftreg.registry import turns
from shiftreg.settings import Settings
from tests.links import Link
from tests.servers import Server

pytestmark = pytest.mark.slow
CREATE = "POST /api/2.0/mlflow/model-versions/create"


def is_whole(workspace: api.Workspace) -> bool:
    """Whether a registry has nothing to repair: each version has its event, each event its own."""
    diagnosis = api.examine_registry(workspace)
    assert diagnosis.findings == (), diagnosis.findings
    return diagnosis.healthy


def versions(workspace: api.Workspace) -> list[str]:
    return [version.reference for version in workspace.registry.active(workspace.base.name)]


def story(workspace: api.Workspace) -> list[str]:
    return [event.action for event in workspace.audit.events()]


@pytest.fixture
def link(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """A way to the server that can be cut; nobody waits long for it, or for a lost turn."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(turns, "LEASE_SECONDS", 1.0)
    link = Link(server.uri)
    yield link
    if link.is_up:
        link.cut()


def test_a_server_that_goes_away_leaves_no_change_in_between(link: Link, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home", "miniature", link.uri)
    workspace = api.open_workspace(settings)
    api.register_base(workspace, steps=2)
    api.erase(workspace, ["Picasso"])
    told = ["init", "erase"]

    def broken(
        request: str, change: Callable[..., object], *words: Any, nth: int = 1, answered: bool
    ) -> api.Workspace:
        link.cut_at(request, nth=nth, answered=answered)
        with pytest.raises(StorageError, match=r"Check that the server runs|Try again"):
            change(workspace, *words)
        assert not link.is_up
        link.mend()
        reopened = api.open_workspace(settings)
        assert is_whole(reopened)
        return reopened

    def restore(workspace: api.Workspace) -> None:
        api.restore(workspace, ["Picasso"], reason="licence")

    erase, upload = ["Caravaggio"], "PUT /api/2.0/mlflow-artifacts"
    for request, nth, answered in ((upload, 1, False),):
        workspace = broken(request, api.erase, erase, nth=nth, answered=answered)
        assert versions(workspace) == ["Picasso@1"], request
        assert story(workspace) == told
    # The version is there, and the answer, or the event was lost.
    for number, (nth, answered) in enumerate(((1, True), (2, False)), start=1):
        workspace = broken(CREATE, api.erase, erase, nth=nth, answered=answered)
        assert versions(workspace) == [f"Caravaggio@{number}", "Picasso@1"]
        told.append("erase")
        assert story(workspace) == told

    alias = "DELETE /api/2.0/mlflow/registered-models/alias"
    workspace = broken(alias, restore, answered=True)
    assert story(workspace) == [*told, "restore"]
    assert versions(workspace) == ["Caravaggio@2"]
