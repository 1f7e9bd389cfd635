"""A server that goes away in the middle of a command, and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from shiftreg import api, miniature
from shiftreg.errors import StorageError
from shiftreg.registry import lock
from shiftreg.settings import Settings
from shiftreg_cli.main import app
from tests.links import Link
from tests.servers import Server

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
CREATE = "POST /api/2.0/mlflow/model-versions/create"


def is_whole(workspace: api.Workspace) -> bool:
    """Whether a registry has nothing to repair: each version has its event, each event its own."""
    diagnosis = api.examine_registry(workspace)
    assert diagnosis.findings == (), diagnosis.findings
    return diagnosis.healthy


def versions(workspace: api.Workspace) -> list[str]:
    return [version.reference for version in workspace.registry.shifts.active(workspace.base.name)]


def story(workspace: api.Workspace) -> list[str]:
    return [event.action for event in workspace.audit.events()]


@pytest.fixture
def link(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """A way to the server that can be cut; nobody waits long for it, or for a lost lock."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(lock, "LEASE_SECONDS", 1.0)
    link = Link(server.uri)
    yield link
    if link.is_up:
        link.cut()


def test_a_server_that_goes_away_leaves_no_change_in_between(link: Link, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home", "miniature", link.uri)
    workspace = api.open_workspace(settings)
    api.register_base(workspace, steps=1)
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


UPLOAD = "PUT /api/2.0/mlflow-artifacts"
RUN = "POST /api/2.0/mlflow/runs/create"
DROP = "DELETE /api/2.0/mlflow/model-versions/delete"
POINT = "POST /api/2.0/mlflow/experiments/set-experiment-tag"

CUTS: dict[str, tuple[tuple[str, int, bool, bool], ...]] = {
    # Where, at the how manieth, whether it was answered -> whether the change was made.
    # An export's files are put back, whatever the server has: then it is not registered either.
    "compose --export {folder}/model.ckpt": (
        (CREATE, 1, False, False),
        (CREATE, 1, True, False),
        (CREATE, 2, False, False),
    ),
    "import {folder}/given.safetensors --concept Monet": (
        (UPLOAD, 1, False, False),
        (CREATE, 1, True, True),
    ),
    "verify --images 1": (
        (RUN, 1, False, False),
        (UPLOAD, 1, False, False),
        (CREATE, 1, False, True),
    ),
    "attack Picasso --images 1 --attack noise-probe": (
        (UPLOAD, 1, True, False),
        (CREATE, 1, False, True),
    ),
    "delete Picasso@1 --reason licence --force --yes": (
        (DROP, 1, False, False),
        (DROP, 1, True, True),
    ),
    "init --steps 3": ((UPLOAD, 1, False, False), (POINT, 1, True, True)),
}
"""Commands, and where each is cut off, one after the other."""
QUICKEST = [command for command in CUTS if command.startswith(("compose", "delete"))]


@pytest.fixture
def prepared(link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Picasso is erased, in a registry that commands find behind the link."""
    settings = Settings(tmp_path / "home", "miniature", link.uri)
    workspace = api.open_workspace(settings)
    api.register_base(workspace, steps=1)
    api.erase(workspace, ["Picasso"])
    folder = tmp_path / "files"
    folder.mkdir()
    weights = load_file(miniature.BASE_FOLDER / "unet" / "diffusion_pytorch_model.safetensors")
    save_file({LAYER: weights[LAYER] * 1.01}, folder / "given.safetensors")
    monkeypatch.setenv("SHIFTREG_HOME", str(settings.home))
    monkeypatch.setenv("SHIFTREG_TRACKING_URI", link.uri)
    monkeypatch.setenv("COLUMNS", "200")
    return settings


def fails(command: str, folder: Path) -> str:
    """Runs a command that is expected to fail with an error for people, and says which."""
    result = CliRunner().invoke(app, [word.format(folder=folder) for word in command.split()])
    assert result.exit_code == 2, (command, result.stdout, result.exception)
    assert "Traceback" not in result.stderr
    return result.stderr


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            command,
            id=command.split()[0],
            marks=() if command in QUICKEST else pytest.mark.second_tier,
        )
        for command in CUTS
    ],
)
def test_a_command_that_is_cut_off_made_its_change_or_did_not(
    prepared: Settings, link: Link, tmp_path: Path, command: str
) -> None:
    folder = tmp_path / "files"
    before = files(folder)
    told = story(api.open_workspace(prepared))
    for request, nth, answered, is_made in CUTS[command]:
        link.cut_at(request, nth=nth, answered=answered)
        message = fails(command, folder)
        assert not link.is_up, (request, nth)
        assert "Check that the server runs" in message or "Try again" in message
        link.mend()
        workspace = api.open_workspace(prepared)
        told += [command.split(maxsplit=1)[0]] * is_made
        assert story(workspace) == told, (request, nth)
        assert files(folder) == before
        assert workspace.audit.verify().valid
        assert is_whole(workspace)
        assert not workspace.write_ahead.paths()


@pytest.mark.parametrize(
    ("nth", "is_made"),
    [
        pytest.param(1, False, id="version", marks=pytest.mark.second_tier),
        pytest.param(2, True, id="event"),
    ],
)
def test_a_database_that_stops_behind_the_server_leaves_no_change_in_between(
    prepared: Settings, server: Server, link: Link, tmp_path: Path, nth: int, is_made: bool
) -> None:
    """The server itself runs on, and answers that something is wrong."""
    database = server.postgresql
    assert database
    told = story(api.open_workspace(prepared))
    link.cut_at(CREATE, nth=nth, meanwhile=database.stop)
    try:
        message = fails("erase Caravaggio", tmp_path)
    finally:
        database.start()
    assert link.is_up
    assert "refused" in message
    assert "Check that the server runs" in message
    workspace = api.open_workspace(prepared)
    assert story(workspace) == told + ["erase"] * is_made
    assert versions(workspace) == ["Caravaggio@1"] * is_made + ["Picasso@1"]
    assert workspace.audit.verify().valid
    assert is_whole(workspace)
