"""Every method through the registry: dense shifts, joint training, no return, resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shiftreg import api, pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.api.erasure.measures import disturbance
from shiftreg.api.values import Progress
from shiftreg.checkpoints import Unfinished
from shiftreg.compose import merged_weights
from shiftreg.errors import InvalidInputError
from shiftreg.settings import Settings

QUICK = {"iterations": 3, "pool_size": 8, "batch_size": 2}
QUICK_HARDENED = {"rounds": 1, "inversions": 1, "iterations": 2, "batch_size": 2}
TRAINED = ("srs-me", "srs-me-free", "esd", "concept-ablation", "forget-me-not")


@pytest.mark.parametrize("method", [*TRAINED, "closed-form-hardened", "uce", "speed-like"])
def test_every_method_gives_a_version_that_composes_and_restores(
    workspace: api.Workspace, method: str
) -> None:
    options = QUICK if method in TRAINED else {}
    if method == "closed-form-hardened":
        options = QUICK_HARDENED
    if method in ("esd", "concept-ablation"):
        options = options | {"learning_rate": 1e-3}
    api.erase(workspace, ["Caravaggio"], method=method, options=options, force=True)
    (version,) = workspace.registry.shifts.versions("miniature", "Caravaggio")
    assert version.method == method
    assert version.metrics["relative_change"] > 0
    unet = workspace.pipeline.unet
    composition = plan_shifts(workspace, api.plan_composition(workspace))
    weights = merged_weights(pipelines.parameters(unet), composition)
    embeds = pipelines.encode_prompts(workspace.pipeline, ["Caravaggio"])
    assert pipelines.noise_difference(workspace.pipeline, weights, embeds).item() > 1e-4
    assert api.plan_composition(workspace, api.Selection(without=["Caravaggio"])).shifts == ()


def test_a_dense_shift_of_every_other_layer_exports_and_verifies_against_its_file(
    workspace: api.Workspace,
    tmp_path,  # noqa: ANN001
) -> None:
    options = QUICK | {"layers": "u", "learning_rate": 1e-4}
    api.erase(workspace, ["Caravaggio"], method="esd", options=options, force=True)
    (version,) = workspace.registry.shifts.versions("miniature", "Caravaggio")
    shift = workspace.shift(version)
    assert "conv_in.bias" in shift.dense
    assert not any("attn2" in name for name in shift.dense)
    target = tmp_path / "model.safetensors"
    api.export_composition(workspace, api.plan_composition(workspace), target)
    verification = api.verify(workspace, target, images=1)
    checks = {check.name: check for check in verification.checks}
    assert checks["file"].passed
    assert not checks["separability"].passed
    assert "not separable" in checks["separability"].explanation
    assert verification.separability["Caravaggio"]["Picasso"] > 1e-4


def test_parameters_that_are_zero_in_the_base_may_change(
    home: Path, stable_diffusion_base: Path
) -> None:
    workspace = api.open_workspace(Settings(home, "other", None))
    options = {"subjects": ["owl"], "preserved": ["an owl"], "steps": 1, "guidance": 1.0}
    api.register_base(workspace, str(stable_diffusion_base), name="other", **options)  # type: ignore[arg-type]
    assert any(not p.any() for p in pipelines.parameters(workspace.pipeline.unet).values())
    (result,) = api.erase(
        workspace, ["mo"], method="esd", options=QUICK | {"layers": "u"}, force=True
    )
    assert 0 < result.metrics["relative_change"] < float("inf")
    (version,) = workspace.registry.shifts.versions("other", "mo")
    assert len(workspace.shift(version).dense) > 200


def test_a_method_that_is_not_separable_is_never_stale_and_says_so_in_its_plan(
    workspace: api.Workspace,
) -> None:
    (plan,) = api.plan_erasures(workspace, ["Caravaggio"], method="uce").plans
    assert plan.protected == ()
    assert any("uce is not separable" in warning for warning in plan.warnings)
    api.erase(workspace, ["Caravaggio"], method="uce", force=True)
    api.erase(workspace, ["Somebody New"], force=True)
    assert "Caravaggio" not in dict(api.plan_refresh(workspace))


def test_a_joint_training_gives_one_separable_version_a_concept(workspace: api.Workspace) -> None:
    seen: list[Progress] = []
    results = api.erase(
        workspace,
        ["Caravaggio", "Picasso"],
        method="srs-me-joint",
        options=QUICK,
        force=True,
        observe=seen.append,
    )
    assert [result.plan.concept for result in results] == ["Caravaggio", "Picasso"]
    assert all(result.metrics["max_drift"] <= 1e-5 for result in results)
    trained = [p for p in seen if p.stage == "training Caravaggio, Picasso"]
    assert [p.done for p in trained] == [1, 2, 3]
    assert {v.concept for v in workspace.registry.shifts.active("miniature")} == {
        "Caravaggio",
        "Picasso",
    }
    assert len([e for e in workspace.audit.events() if e.action == "erase"]) == 2


def test_what_must_never_return_is_neither_restored_nor_released(
    workspace: api.Workspace,
    tmp_path,  # noqa: ANN001
) -> None:
    api.erase(workspace, ["Caravaggio"], method="srs-me-free", options=QUICK, force=True)
    with pytest.raises(InvalidInputError, match="must never return"):
        api.restore(workspace, ["Caravaggio"], reason="licence")
    plan = api.plan_composition(workspace, api.Selection(without=["Caravaggio"]))
    assert any("cannot be exported" in warning for warning in plan.warnings)
    with pytest.raises(InvalidInputError, match="must never return"):
        api.export_composition(workspace, plan, tmp_path / "model.ckpt")
    assert list(tmp_path.glob("model*")) == []
    api.erase(workspace, ["Caravaggio"])  # by a recoverable method: now it may
    api.restore(workspace, ["Caravaggio"], reason="licence")
    assert workspace.registry.shifts.active("miniature") == []


@pytest.mark.parametrize("method", ["srs-me", "esd"])
def test_an_interrupted_training_continues_to_the_very_same_shift(
    workspace: api.Workspace,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Unfinished.__init__, "__defaults__", (0.0,))  # keeps every state
    options = QUICK | {"iterations": 6}
    (whole,) = api.erase(workspace, ["Caravaggio"], method=method, options=options)

    def interrupt(progress: Progress) -> None:
        if progress.stage.startswith("training") and progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.erase(
            workspace, ["Caravaggio"], method=method, options=options, seed=1, observe=interrupt
        )
    unfinished = workspace.settings.home / "unfinished"
    assert len(list(unfinished.iterdir())) == 1
    seen: list[Progress] = []
    (resumed,) = api.erase(
        workspace, ["Caravaggio"], method=method, options=options, seed=1, observe=seen.append
    )
    assert [p.done for p in seen if p.stage.startswith("training")] == [5, 6]
    assert not any(p.stage.startswith("generating C") for p in seen)
    assert list(unfinished.iterdir()) == []
    (again,) = api.erase(workspace, ["Caravaggio"], method=method, options=options, seed=1)
    assert again.digest == resumed.digest
    assert again.digest != whole.digest


def test_a_bounded_drift_is_recorded_and_verified(workspace: api.Workspace) -> None:
    names = [f"{first} {last}" for first in ("Ada", "Bo") for last in ("Nox", "Orb")]
    api.erase(workspace, names, profile="svd:0.003", force=True)
    for version in workspace.registry.shifts.active("miniature"):
        shift = workspace.shift(version)
        assert 1e-5 < shift.metrics["drift_bound"] < 10
        assert version.metrics["max_drift"] <= shift.metrics["drift_bound"]
        assert shift.hyperparameters["profile"] == "svd:0.003"
        artists = pipelines.encode_prompts(workspace.pipeline, ["", "CCS 2024", "Picasso"])
        row = disturbance(workspace, shift, artists)
        assert max(row) <= 1e-5, "what must be exact is exact under any profile"
    verification = api.verify(workspace, images=1)
    checks = [check for check in verification.checks if check.name == "separability"]
    assert len(checks) == len(names)
    assert all(check.passed for check in checks)
    assert any(check.limit > 1e-5 for check in checks)


def test_training_leaves_the_base_bit_for_bit(workspace: api.Workspace) -> None:
    unet = workspace.pipeline.unet
    before = {name: p.detach().clone() for name, p in pipelines.parameters(unet).items()}
    api.erase(workspace, ["Caravaggio"], method="esd", options=QUICK, force=True)
    after = pipelines.parameters(unet)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.requires_grad for p in after.values())
