"""A registry that is not what the audit trail says releases nothing."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftreg import api
from shiftreg.errors import IntegrityError
from tests.commands import run_command
from tests.servers import WHOLE_ON_SERVER
from tests.worlds import Worlds, opened


@pytest.fixture
def exported(home: Path, worlds: Worlds) -> api.Workspace:
    """Caravaggio is erased, and ``model.safetensors`` beside the home is an export."""
    return worlds.exported(home, "Caravaggio")


def refuses_all(workspace: api.Workspace, message: str) -> None:
    """Whether every way to a release is refused, and nothing is written."""
    home = workspace.settings.home
    new, old = home.with_name("new.ckpt"), home.with_name("model.safetensors")
    before = sorted(home.parent.iterdir())
    for words in (
        ("compose",),
        ("compose", "--export", new),
        ("compose", "--export", new, "--override", "--reason", "x"),
        ("adapter", "Caravaggio", new.with_suffix(".safetensors")),
        ("verify",),
        ("verify", old),
    ):
        result = run_command(*words, "--home", home)
        assert result.exit_code == 2, words
        assert message in " ".join(result.stderr.split()), (words, result.stderr)
        assert "shiftreg doctor" in result.stderr
    assert sorted(home.parent.iterdir()) == before
    assert run_command("doctor", "--home", home).exit_code == 1


@pytest.mark.skipif(WHOLE_ON_SERVER, reason="replaces the home's database")
def test_a_registry_that_was_lost_releases_nothing(exported: api.Workspace, database: Path) -> None:
    plan = api.plan_composition(exported)
    home = exported.settings.home
    shutil.copyfile(database, home / "registry.db")
    refuses_all(exported, "'Caravaggio' no version is active in the registry")
    with pytest.raises(IntegrityError, match="shiftreg doctor"):
        api.export_composition(exported, plan, home.with_name("new.ckpt"))
    again = opened(home)
    api.erase(again, ["Caravaggio"], reason="again")
    assert api.plan_composition(again).states["Caravaggio"] == "erased"


def test_a_concept_whose_alias_was_deleted_releases_nothing(exported: api.Workspace) -> None:
    client = MlflowClient(exported.registry.uri)
    client.delete_registered_model_alias("miniature.caravaggio", "active")
    refuses_all(exported, "'Caravaggio' no version is active in the registry")
    api.erase(exported, ["Caravaggio@1"])
    assert api.plan_composition(exported).shifts[0][:2] == ("Caravaggio", 1)


def test_a_version_that_was_made_active_past_the_trail_releases_nothing(
    exported: api.Workspace,
) -> None:
    api.erase(exported, ["Caravaggio"], options={"ridge": 0.2})
    client = MlflowClient(exported.registry.uri)
    client.set_registered_model_alias("miniature.caravaggio", "active", "1")
    refuses_all(exported, "Of 'Caravaggio' version 1")
    api.erase(exported, ["Caravaggio@2"])
    api.restore(exported, ["Caravaggio"], reason="licence 3")
    assert api.plan_composition(exported).shifts == ()
    client.set_registered_model_alias("miniature.caravaggio", "active", "1")
    refuses_all(exported, "and no version by the audit trail")


def test_a_trail_that_was_lost_releases_nothing(exported: api.Workspace) -> None:
    if not exported.settings.tracking_uri:
        (exported.settings.home / "audit.jsonl").unlink()
        refuses_all(exported, "and no version by the audit trail")


def test_a_change_whose_event_is_on_its_way_is_waited_for(workspace: api.Workspace) -> None:
    api.erase(workspace, ["Caravaggio"])
    registry, active = workspace.registry, threading.Event()

    def restore() -> None:
        with registry.lock():
            registry.shifts.deactivate("miniature", "Caravaggio")
            active.set()
            active.wait(0.5)
            workspace.audit.append("restore", base="miniature", concepts=["Caravaggio"])

    other = threading.Thread(target=restore)
    other.start()
    active.wait()
    assert api.plan_composition(workspace).states["Caravaggio"] == "generates"
    other.join()
