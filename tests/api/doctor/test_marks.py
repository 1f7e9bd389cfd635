"""What an export says of its last verification cannot be edited unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftreg import api
from shiftreg.audit import AuditLog
from shiftreg.registry import Measurements

pytestmark = pytest.mark.erased("Caravaggio")
COMPOSITIONS, TAG = "miniature.compositions", "shiftreg.verification"


class Killed(BaseException):
    """What nobody handles, like a signal."""


def killed(*_: object, **__: object) -> None:
    raise Killed


@pytest.fixture
def exported(workspace: api.Workspace, tmp_path: Path) -> Path:
    target = tmp_path / "model.safetensors"
    api.export_composition(workspace, api.plan_composition(workspace), target)
    return target


def damage(workspace: api.Workspace) -> list[tuple[str, str]]:
    findings = api.examine_registry(workspace).findings
    return [(f.subject, f.problem) for f in findings if f.severity == "damage"]


def test_an_edited_outcome_is_noticed(
    workspace: api.Workspace, client: MlflowClient, exported: Path
) -> None:
    def mark(text: str) -> None:
        client.set_model_version_tag(COMPOSITIONS, "1", TAG, text)

    mark('{"passed":true,"report":"x.json","run_id":"0"}')
    ((subject, problem),) = damage(workspace)
    assert (subject, "claims a verification" in problem) == (str(exported), True)
    mark("null")
    assert damage(workspace) == []

    api.verify(workspace, exported, images=1, gates={"ordinary": 0.0})
    assert damage(workspace) == []
    true = client.get_model_version(COMPOSITIONS, "1").tags[TAG]
    for forged in (
        true.replace("false", "true"),
        json.dumps(json.loads(true) | {"run_id": "0" * 32}),
        "null",
    ):
        assert forged != true
        mark(forged)
        ((subject, problem),) = damage(workspace)
        assert (subject, "shiftreg.verification was edited" in problem) == (str(exported), True)
    mark(true)
    api.verify(workspace, exported, images=1)
    assert damage(workspace) == []


def test_what_was_verified_before_it_was_exported_again_lacks_nothing(
    workspace: api.Workspace, exported: Path
) -> None:
    api.verify(workspace, exported, images=1)
    target = exported.with_name("again.safetensors")
    api.export_composition(workspace, api.plan_composition(workspace), target)
    first, second = workspace.registry.compositions.all("miniature")
    assert first.export_digest == second.export_digest
    assert damage(workspace) == []


@pytest.mark.parametrize(
    ("owner", "name"), [(Measurements, "mark_exports"), (AuditLog, "append")], ids=["mark", "event"]
)
def test_a_verification_that_was_killed_is_completed_with_its_mark(
    workspace: api.Workspace,
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
) -> None:
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(owner, name, killed)
        api.verify(workspace, exported, images=1)
    workspace = api.open_workspace(workspace.settings)
    assert workspace.audit.events()[-1].action == "verify"
    (composition,) = workspace.registry.compositions.all("miniature")
    assert composition.verification is not None
    assert damage(workspace) == []
