"""Whatever a killed command left half-done, the next one finds the registry before or after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shiftreg import api
from shiftreg.api.recovery import recover
from shiftreg.audit import AuditLog
from shiftreg.checkpoints import atomic, file_digest
from shiftreg.checkpoints.atomic import Placement
from shiftreg.errors import StorageError
from shiftreg.registry import Compositions, Measurements, Shifts


class Killed(BaseException):
    """What nobody handles, like a signal."""


def killed(*_args: Any, **_kwargs: Any) -> Any:
    raise Killed


def killed_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        function(*args, **kwargs)
        raise Killed

    return run


def story(workspace: api.Workspace) -> list[str]:
    return [event.action for event in workspace.audit.events()]


def reopened(workspace: api.Workspace) -> api.Workspace:
    return api.open_workspace(workspace.settings)


def test_an_erasure_is_completed_once_its_version_is_registered(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Shifts, "register", killed)
        api.erase(workspace, ["Caravaggio"], reason="request 7")
    assert reopened(workspace).registry.shifts.active("miniature") == []
    assert story(workspace) == ["init"]

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(AuditLog, "append", killed)
        api.erase(workspace, ["Caravaggio"], reason="request 7")
    (version,) = workspace.registry.shifts.active("miniature")
    workspace.registry.shifts.deactivate(
        "miniature", "Caravaggio"
    )  # as if it died before that, too
    workspace = reopened(workspace)
    assert workspace.registry.shifts.active("miniature") == [version]
    last = workspace.audit.events()[-1]
    assert (last.action, last.concepts, last.reason) == ("erase", ("Caravaggio",), "request 7")
    assert last.details["version"] == 1
    assert last.details["completed"] == "after an interruption"
    assert last.digests["shift"] == version.digest
    assert last.digests["record"] == version.record_digest
    assert api.examine_registry(workspace).healthy

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Shifts, "deactivate", killed)
        api.restore(workspace, ["Caravaggio"], reason="licence 3")
    assert story(reopened(workspace)) == ["init", "erase"]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Shifts, "deactivate", killed_after(Shifts.deactivate))
        api.restore(workspace, ["Caravaggio"], reason="licence 3")
    assert story(reopened(workspace)) == ["init", "erase", "restore"]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(AuditLog, "append", killed_after(AuditLog.append))
        api.erase(workspace, ["Caravaggio@1"])
    assert story(reopened(workspace)) == ["init", "erase", "restore", "activate"], "told once"
    assert api.examine_registry(workspace).healthy


@pytest.mark.parametrize("target", ["model.safetensors", "model"])
def test_an_export_is_completed_or_taken_back(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: str
) -> None:
    plan = api.plan_composition(workspace)
    path = tmp_path / target
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(AuditLog, "append", killed)
        patched.setattr(Placement, "withdraw", lambda _: None)  # the dead put nothing back
        api.export_composition(workspace, plan, path)
    assert path.exists()
    workspace = reopened(workspace)
    (composition,) = workspace.registry.compositions.all("miniature")
    last = workspace.audit.events()[-1]
    assert (last.action, last.digests["export"]) == ("export", composition.export_digest)
    assert api.examine_registry(workspace).findings == ()

    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Compositions, "register", killed)
        api.export_composition(workspace, plan, path, overwrite=True)
    reopened(workspace)
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before
    assert story(workspace) == ["init", "export"]
    assert api.examine_registry(workspace).healthy

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(AuditLog, "append", refuse)
        api.export_composition(workspace, plan, path, dtype="float16", overwrite=True)
    new = tmp_path / f"other-{target}"
    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(Compositions, "register", refuse)
        api.export_composition(workspace, plan, new)
    new.write_bytes(b"somebody else's, put there meanwhile")
    reopened(workspace)
    assert new.read_bytes() == b"somebody else's, put there meanwhile"
    new.unlink()
    exported = {name: before[name] for name in before if name != "home"}
    now = [p for p in tmp_path.iterdir() if p.name != "home"]
    assert {p.name: p.stat().st_mtime_ns for p in now} == exported
    assert workspace.registry.compositions.all("miniature") == [composition]
    assert story(workspace) == ["init", "export"]
    assert api.examine_registry(workspace).healthy


@pytest.mark.erased("Caravaggio")
def test_a_verification_that_only_repeats_an_older_one_is_not_taken_for_it(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = api.verify(workspace, images=1)
    assert first.report_path is not None
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Measurements, "record", killed)
        api.verify(workspace, images=1)
    workspace = reopened(workspace)
    assert story(workspace) == ["init", "erase", "verify"]
    assert api.examine_registry(workspace).healthy

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(AuditLog, "append", killed)
        api.verify(workspace, images=1)
    workspace = reopened(workspace)
    assert story(workspace) == ["init", "erase", "verify", "verify"]
    one, other = (event.digests["report"] for event in workspace.audit.events()[-2:])
    assert one == other == file_digest(first.report_path)
    assert len(workspace.registry.measurements.all("miniature", "verification")) == 2
    assert api.examine_registry(workspace).healthy


def test_a_write_ahead_record_stays_while_the_trail_cannot_be_written(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(AuditLog, "append", refuse)
        with pytest.raises(StorageError):
            api.register_base(workspace, steps=3)
        with pytest.raises(StorageError):
            recover(workspace)
    assert recover(workspace) == ("An interrupted 'init' of miniature was completed.",)
    assert recover(workspace) == ()
    assert story(workspace) == ["init", "init"]


@pytest.mark.erased("Caravaggio")
def test_a_page_of_evidence_that_appeared_is_told_of_and_one_that_did_not_is_not(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(atomic, "place_file", killed)
        api.write_evidence(workspace, "Caravaggio", page)
    assert not page.exists()
    workspace = reopened(workspace)
    assert story(workspace) == ["init", "erase"]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(AuditLog, "append", killed)
        api.write_evidence(workspace, "Caravaggio", page)
    workspace = reopened(workspace)
    assert story(workspace) == ["init", "erase", "evidence"]
    assert workspace.audit.events()[-1].digests["page"] == file_digest(page)


def test_a_classifier_that_appeared_is_told_of(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train() -> None:
        api.train_classifier(workspace, concepts=["Picasso"], images=2, epochs=1)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(atomic, "place_file", killed)
        train()
    workspace = reopened(workspace)
    assert story(workspace) == ["init"]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(AuditLog, "append", killed)
        train()
    workspace = reopened(workspace)
    assert story(workspace) == ["init", "train classifier"]
    file = workspace.settings.home / "classifiers" / "miniature.safetensors"
    assert workspace.audit.events()[-1].digests["classifier"] == file_digest(file)
