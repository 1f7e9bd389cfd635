"""Adapters are signed, listed and held to the policy, as far as it is about what they hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shiftreg import api
from shiftreg.settings import Settings
from tests.worlds import Worlds


def with_policy(workspace: api.Workspace, **policy: Any) -> api.Workspace:
    gates = policy.pop("gates", {})
    settings = replace(workspace.settings, policy=policy, gates=gates)
    return replace(workspace, settings=settings)


@pytest.fixture
def shop(home: Path, worlds: Worlds, signing_key: Path) -> api.Workspace:
    """Caravaggio is erased, and there is a key to sign with."""
    workspace = worlds.open(home, "Caravaggio")
    return replace(workspace, settings=replace(workspace.settings, signing_key=signing_key))


def test_a_signed_adapter_is_checked_elsewhere_and_says_what_it_is(
    shop: api.Workspace, signing_key: Path, tmp_path: Path
) -> None:
    strict = with_policy(shop, verify=True, signature_required=True, bill_of_materials=True)
    file = tmp_path / "out" / "adapter.safetensors"
    file.parent.mkdir()
    plan = api.plan_adapter(strict, file)
    result = api.export_adapter(
        strict, plan, request=api.ReleaseRequest(sign=True, images=1, reason="v1")
    )
    assert (result.passed, result.overridden) == (True, ())
    made = {path.name.removeprefix(file.name) for path in file.parent.iterdir()}
    assert made == {"", ".recipe.json", ".md", ".sig", ".intoto.jsonl", ".cdx.json"}
    auditor = Settings(Path("/nowhere"), "miniature", None)
    report = api.check_signature(auditor, file, signing_key.with_suffix(".pub"))
    assert report.passed
    assert report.statement["adapter"]["form"] == "diffusers"
    assert report.statement["verification"]["passed"] is True
    bill = json.loads(file.with_name(f"{file.name}.cdx.json").read_text())
    assert "that erases Caravaggio" in bill["metadata"]["component"]["description"]
    assert api.verify(strict, file, images=1).passed
    (event,) = [e for e in shop.audit.events() if e.action == "export"]
    assert (event.details["signer"], event.digests["export"]) == (report.signer, result.digest)
    # What replaces it without a signature takes the signature away, which is of another file.
    api.export_adapter(shop, api.plan_adapter(shop, file, dtype="float16"), overwrite=True)
    assert not file.with_name(f"{file.name}.sig").exists()


def test_what_breaks_the_policy_is_not_written_unless_that_is_overridden(
    shop: api.Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "adapter.safetensors"
    strict = with_policy(shop, signature_required=True, verify=True, gates={"attack": 0.1})
    plan = api.plan_adapter(strict, file)
    before = set(tmp_path.iterdir())
    with pytest.raises(api.ReleaseRefusedError) as refused:
        api.export_adapter(strict, plan)
    broken = {check.name: check.explanation for check in refused.value.refusal.broken}
    assert set(broken) == {"signature", "attack"}
    assert "adapter --sign" in broken["signature"]
    assert set(tmp_path.iterdir()) == before
    result = api.export_adapter(
        strict, plan, request=api.ReleaseRequest(override=True, reason="a trial", images=1)
    )
    assert {"signature", "attack"} <= {check.name for check in result.overridden}
    assert json.loads(result.recipe_path.read_text())["override"]["reason"] == "a trial"


def test_an_adapter_is_not_held_to_what_a_model_generates(
    shop: api.Workspace, tmp_path: Path
) -> None:
    strict = with_policy(shop, must_erase=["Picasso"], may_generate=[])
    result = api.export_adapter(strict, api.plan_adapter(strict, tmp_path / "a.safetensors"))
    assert result.overridden == ()
