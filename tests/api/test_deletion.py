"""Deleting versions and compositions: refused where they are needed, and never forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from shiftreg import api
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.registry import Registry
from shiftreg_cli.main import app
from tests.worlds import Worlds


@pytest.fixture
def erased(home: Path, worlds: Worlds) -> api.Workspace:
    """Rembrandt, whom the base does not protect, is erased."""
    return worlds.open(home, "Rembrandt")


def delete(workspace: api.Workspace, *words: str) -> Result:
    home = str(workspace.settings.home)
    arguments = ["delete", *words, "--reason", "made in error", "--home", home]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def state(workspace: api.Workspace, name: str = "Rembrandt") -> Any:
    return next(s for s in api.list_concepts(workspace) if s.concept == name)


def is_whole(workspace: api.Workspace) -> bool:
    return api.examine_registry(workspace).findings == ()


def test_a_deleted_version_is_gone_and_its_story_stays(erased: api.Workspace) -> None:
    api.restore(erased, ["Rembrandt"], reason="licence 3")
    (version,) = erased.registry.shifts.versions("miniature", "Rembrandt")
    done = api.delete(erased, "rembrandt@1", reason="made in error")
    assert (done.subject, done.objections, done.done) == ("Rembrandt@1", (), True)
    assert erased.registry.shifts.concepts("miniature") == ()
    assert not erased.registry.examination.is_run_kept(version.run_id)
    last = erased.audit.events()[-1]
    assert (last.action, last.concepts, last.reason) == (
        "delete",
        ("Rembrandt",),
        "made in error",
    )
    assert last.digests["shift"] == version.digest
    assert last.digests["record"] == version.record_digest
    assert is_whole(erased)

    assert (state(erased).state, state(erased).deleted) == ("generates", (1,))
    history = api.show_concept(erased, "rembrandt").history
    assert [event["action"] for event in history] == ["erase", "restore", "delete"]
    assert api.exports_of(erased, "Rembrandt").now == "generates"
    assert len(api.list_events(erased, concept="Rembrandt")) == 3

    api.erase(erased, ["Rembrandt"])
    assert [v.version for v in erased.registry.shifts.versions("miniature", "Rembrandt")] == [2]
    assert is_whole(erased)


def test_what_is_active_or_exported_is_refused_unless_forced(
    erased: api.Workspace, tmp_path: Path
) -> None:
    target = tmp_path / "model.safetensors"
    with pytest.raises(InvalidInputError, match=r"active.*Restore it first.*--force"):
        api.delete(erased, "Rembrandt@1", reason="made in error")
    api.export_composition(erased, api.plan_composition(erased), target)
    api.restore(erased, ["Rembrandt"], reason="licence 3")
    with pytest.raises(InvalidInputError, match=r"in what was exported.*composition 1"):
        api.delete(erased, "Rembrandt@1", reason="made in error")
    with pytest.raises(InvalidInputError, match="could no longer be verified"):
        api.delete(erased, composition=1, reason="made in error")
    assert [event.action for event in erased.audit.events()] == [
        "init", "erase", "export", "restore",
    ]  # fmt: skip

    api.delete(erased, "Rembrandt@1", reason="made in error", force=True)
    (finding,) = api.examine_registry(erased).findings
    assert (finding.severity, "was deleted" in finding.problem) == ("note", True)
    target.unlink()
    api.delete(erased, composition=1, reason="never released")
    assert is_whole(erased)
    (export,) = api.exports_of(erased, "Rembrandt").exports
    assert (export.name, export.version) == (target.name, None)
    assert "no longer in the registry" in export.statement


def test_an_active_version_that_is_deleted_by_force_generates_again(
    erased: api.Workspace,
) -> None:
    api.erase(erased, ["Rembrandt"], options={"ridge": 0.5})
    api.delete(erased, "Rembrandt@2", reason="licence 3", force=True)
    assert (state(erased).version, state(erased).deleted) == (None, (2,))
    assert is_whole(erased)
    api.erase(erased, ["Rembrandt@1"])
    assert state(erased).version == 1
    assert is_whole(erased)


def test_an_interrupted_deletion_is_completed_or_never_was(
    erased: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException): ...

    def killed(*_args: object) -> None:
        raise Killed

    for method, actions in (("remove_version", []), ("drop_run", ["delete"])):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Registry, method, killed)
            api.delete(erased, "Rembrandt@1", reason="made in error", force=True)
        erased = api.open_workspace(erased.settings)
        assert [event.action for event in erased.audit.events()] == ["init", "erase", *actions]
        assert is_whole(erased)


def test_a_deletion_past_shiftreg_is_still_noticed(erased: api.Workspace) -> None:
    api.erase(erased, ["Picasso"])
    api.delete(erased, "Picasso@1", reason="made in error", force=True)
    assert is_whole(erased)
    (version,) = erased.registry.shifts.versions("miniature", "Rembrandt")
    erased.registry.remove_version(version)
    assert "deleted in MLflow" in api.examine_registry(erased).findings[0].problem


@pytest.mark.parametrize("reference", ["Rembrandt", "@1", "Rembrandt@active", "Rembrandt@"])
def test_one_version_must_be_named(erased: api.Workspace, reference: str) -> None:
    with pytest.raises(InvalidInputError, match="NAME@VERSION"):
        api.delete(erased, reference, reason="made in error")


def test_what_is_not_there_and_no_reason_are_refused(erased: api.Workspace) -> None:
    with pytest.raises(NotFoundError, match="no version '7'"):
        api.delete(erased, "Rembrandt@7", reason="made in error")
    with pytest.raises(NotFoundError, match="no composition 7"):
        api.delete(erased, composition=7, reason="made in error")
    with pytest.raises(InvalidInputError, match="needs a reason"):
        api.delete(erased, "Rembrandt@1", reason=" ")
    with pytest.raises(InvalidInputError, match="one thing at a time"):
        api.delete(erased, "Rembrandt@1", composition=1, reason="made in error")


def test_the_command_asks_and_shows_first(erased: api.Workspace) -> None:
    shown = delete(erased, "Rembrandt@1", "--dry-run")
    assert shown.exit_code == 0
    assert "would generate again" in " ".join(shown.stdout.split())
    assert delete(erased, "Rembrandt@1", "--yes").exit_code == 2
    unasked = delete(erased, "Rembrandt@1", "--force")
    assert unasked.exit_code == 2
    assert "needs confirmation" in unasked.stderr
    assert state(erased).version == 1
    assert delete(erased).exit_code == 2
    done = delete(erased, "Rembrandt@1", "--force", "--yes")
    assert done.exit_code == 0, done.stderr
    assert "Rembrandt@1" in done.stdout
    listed = CliRunner().invoke(app, ["list", "--home", str(erased.settings.home)])
    assert "1 deleted" in listed.stdout
