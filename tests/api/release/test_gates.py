"""Gates of the project file: each alone stops a release that breaks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from shiftreg import api, miniature
from shiftreg.checkpoints import file_digest
from shiftreg.verification import Check
from tests.worlds import Worlds

NETWORK = miniature.BASE_FOLDER / "unet" / "diffusion_pytorch_model.safetensors"
LENIENT = dict.fromkeys(
    (
        "separability",
        "noise",
        "half_noise",
        "images",
        "ordinary",
        "watermark",
        "name",
        "held_out_prompts",
        "remaining",
    ),
    1e9,
)
"""Limits that nothing breaks, so that one other can be looked at alone."""


@pytest.fixture
def careless(home: Path, worlds: Worlds) -> api.Workspace:
    """An imported eraser weakens whatever a prompt says, and the watermark with it."""

    def make(home: Path) -> None:
        workspace = worlds.open(home, steps=8)  # in two, no watermark decodes on the base either
        weights = {name: w for name, w in load_file(NETWORK).items() if "attn2.to_v" in name}
        eraser = home.with_name("eraser.safetensors")
        save_file({name: weight * 0.1 for name, weight in weights.items()}, eraser)
        api.import_shift(workspace, api.read_import(workspace, eraser, "Monet"))
        eraser.unlink()

    return worlds.filled(home, "a careless import", make)


def limited(workspace: api.Workspace, gates: Mapping[str, float]) -> api.Workspace:
    """The same with gates in its project file, and no policy."""
    return replace(workspace, settings=replace(workspace.settings, gates=gates))


def refused(workspace: api.Workspace, target: Path) -> tuple[Check, ...]:
    """What an export was refused for; nothing may be left of it."""
    before = set(target.parent.iterdir())
    with pytest.raises(api.ReleaseRefusedError) as caught:
        api.export_composition(
            workspace, api.plan_composition(workspace), target, request=api.ReleaseRequest(images=1)
        )
    assert set(target.parent.iterdir()) == before
    assert list(workspace.registry.compositions.all("miniature")) == []
    return caught.value.refusal.broken


@pytest.mark.erased("Caravaggio")
def test_a_stated_gate_is_measured_without_a_policy(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    strict = limited(workspace, {"ordinary": 0.0})
    (check,) = refused(strict, tmp_path / "model.ckpt")
    assert (check.name, check.limit) == ("ordinary", 0.0)
    assert not api.policy_standing(strict).met
    adapter = api.plan_adapter(strict, tmp_path / "adapter.safetensors")
    with pytest.raises(api.ReleaseRefusedError, match="ordinary"):
        api.export_adapter(strict, adapter, request=api.ReleaseRequest(images=1))

    plan = api.plan_composition(workspace)
    freely = api.export_composition(workspace, plan, tmp_path / "model.ckpt")
    assert freely.passed is None


@pytest.mark.second_tier
def test_a_lost_watermark_stops_a_release(careless: api.Workspace, tmp_path: Path) -> None:
    checks = refused(limited(careless, LENIENT | {"watermark": 0.0}), tmp_path / "model.ckpt")
    assert {check.name for check in checks} == {"watermark"}
    assert "'watermark SRS-ME'" in {check.subject for check in checks}
    assert all((check.value, check.limit) == (0.0, 1.0) for check in checks)
    assert "decodes in 0% of images; base: 100%" in checks[0].explanation


@pytest.mark.second_tier
def test_changed_images_of_protected_prompts_stop_a_release(
    careless: api.Workspace, tmp_path: Path
) -> None:
    checks = refused(limited(careless, LENIENT | {"images": 0.1}), tmp_path / "model.ckpt")
    assert {check.name for check in checks} == {"images"}
    assert "'Picasso'" in {check.subject for check in checks}
    assert all(check.value > check.limit == 0.1 for check in checks)


@pytest.mark.erased("Caravaggio")
def test_a_recorded_attack_above_its_limit_stops_a_release(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    plan = api.plan_composition(workspace)
    report = tmp_path / "attack.json"
    success = {"value": 0.4, "low": 0.1, "high": 0.7, "count": 8}
    score = {"attack": "ring-a-bell", "target": "composition", "success": success}
    report.write_text(json.dumps({"scores": [score]}))
    workspace.registry.measurements.record(
        "miniature", "attack", plan.digest, report, metrics={}, concept="Caravaggio"
    )
    digests = {"composition": plan.digest, "report": file_digest(report)}
    workspace.audit.append("attack", base=plan.base, concepts=["Caravaggio"], digests=digests)
    (check,) = refused(limited(workspace, LENIENT | {"attack": 0.3}), tmp_path / "model.ckpt")
    assert (check.name, check.subject, check.value) == ("attack", "Caravaggio", 0.4)
    assert "ring-a-bell makes Caravaggio appear in 40%" in check.explanation
    held = limited(workspace, LENIENT | {"attack": 0.5})
    made = api.export_composition(
        held, plan, tmp_path / "model.ckpt", request=api.ReleaseRequest(images=1)
    )
    assert made.passed is True
