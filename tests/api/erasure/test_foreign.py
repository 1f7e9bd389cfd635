"""Other tools' erasers: registered with their origin, made separable, composed like ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from shiftreg import api, miniature, pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.checkpoints import file_digest
from shiftreg.compose import merged_weights
from shiftreg.errors import CapacityError, IncompatibleError, InvalidInputError
from shiftreg.settings import Settings
from tests.worlds import Worlds


@pytest.fixture
def partial(workspace: api.Workspace, tmp_path: Path) -> Path:
    """Caravaggio's keys and values onto another artist's, as an unconstrained edit would do it."""
    e = pipelines.encode_prompts(workspace.pipeline, ["Caravaggio", "a painting"]).double()
    concept, anchor = e[0, 1:], e[1, 1:]
    system = concept.T @ concept + 0.01 * torch.eye(256, dtype=torch.float64)
    change = torch.linalg.solve(system, concept.T @ (anchor - concept)).T  # (d_in, d_in)
    state = {
        f"{name}.weight": (weight.double() + weight.double() @ change).float().contiguous()
        for name, weight in pipelines.layer_weights(workspace.pipeline.unet).items()
    }
    save_file(state, tmp_path / "esd-Caravaggio.safetensors")
    return tmp_path / "esd-Caravaggio.safetensors"


def kohya(workspace: api.Workspace, path: Path, rank: int = 2, alpha: float = 1.0) -> Path:
    """A LoRA of one layer."""
    draw = torch.Generator().manual_seed(0)
    layer, weight = next(iter(pipelines.layer_weights(workspace.pipeline.unet).items()))
    key = f"lora_unet_{layer.replace('.', '_')}"
    tensors: dict[str, Tensor] = {
        f"{key}.lora_down.weight": torch.randn(rank, weight.shape[1], generator=draw),
        f"{key}.lora_up.weight": torch.randn(weight.shape[0], rank, generator=draw),
        f"{key}.alpha": torch.tensor(alpha),
    }
    save_file(tensors, path)
    return path


def test_a_partial_state_dict_becomes_a_version_with_its_origin(
    workspace: api.Workspace, partial: Path
) -> None:
    foreign = api.read_import(workspace, partial, "caravaggio")
    assert foreign.concept.name == "Caravaggio"
    assert foreign.form == "partial state dict"
    assert foreign.parameters == foreign.text_layers == 14
    (result,) = api.import_shift(workspace, foreign, reason="from a partner")
    assert result.statement.startswith("Caravaggio: erased (version 1, imported from esd-Cara")
    (version,) = workspace.registry.shifts.active("miniature")
    shift = workspace.shift(version)
    assert shift.method == "imported"
    assert not shift.separable
    assert shift.hyperparameters["file"] == partial.name
    assert shift.hyperparameters["file_digest"] == file_digest(partial)
    (event,) = [e for e in workspace.audit.events() if e.action == "import"]
    assert event.digests["file"] == file_digest(partial)
    assert event.reason == "from a partner"


def test_decoupling_keeps_both_versions_and_says_what_it_cost_and_gained(
    workspace: api.Workspace, partial: Path
) -> None:
    foreign = api.read_import(workspace, partial, "Caravaggio")
    imported, decoupled = api.import_shift(workspace, foreign, decouple=True)
    assert imported.metrics["max_drift"] > 0.1
    assert decoupled.metrics["max_drift"] <= 1e-5
    assert decoupled.metrics["drift_before"] == pytest.approx(imported.metrics["max_drift"])
    assert decoupled.metrics["noise_on_protected"] <= 1e-5
    assert decoupled.metrics["noise_on_protected_before"] > 0.01
    assert 0.02 < decoupled.metrics["kept_change"] < 1
    assert decoupled.metrics["noise_on_names"] > 0.01
    versions = workspace.registry.shifts.versions("miniature", "Caravaggio")
    assert [version.method for version in versions] == ["imported", "decoupled"]
    assert [version.active for version in versions] == [False, True]
    assert versions[1].predecessor == versions[0].digest
    actions = [e.action for e in workspace.audit.events() if "Caravaggio" in e.concepts]
    assert actions == ["import", "decouple"]


def test_a_fit_within_the_null_space_keeps_more_of_the_erasure_than_the_projection(
    workspace: api.Workspace, partial: Path
) -> None:
    foreign = api.read_import(workspace, partial, "Caravaggio")
    _, projected = api.import_shift(workspace, foreign, decouple=True)
    fitted = api.decouple(workspace, "Caravaggio@1", refit=True)
    assert fitted.metrics["max_drift"] <= 1e-5
    assert fitted.metrics["kept_change"] > 2 * projected.metrics["kept_change"]
    assert fitted.metrics["noise_on_names"] > 2 * projected.metrics["noise_on_names"]
    assert any("--refit" in warning for warning in projected.plan.warnings)
    assert fitted.plan.warnings == ()


def test_a_decoupled_shift_is_refreshed_from_its_origin(
    workspace: api.Workspace, partial: Path
) -> None:
    foreign = api.read_import(workspace, partial, "Caravaggio")
    api.import_shift(workspace, foreign, decouple=True)
    api.erase(workspace, ["Somebody New"])
    assert dict(api.plan_refresh(workspace))["Caravaggio"] == ("Somebody New",)
    (result,) = api.refresh(workspace, ["Caravaggio"])
    assert "Somebody New" in result.plan.protected
    assert dict(api.plan_refresh(workspace)).get("Caravaggio") is None
    versions = workspace.registry.shifts.versions("miniature", "Caravaggio")
    assert versions[2].predecessor == versions[1].digest
    shift = workspace.shift(versions[2])
    assert shift.hyperparameters["origin"] == versions[0].digest


def test_our_own_unconstrained_shift_can_be_decoupled_later(workspace: api.Workspace) -> None:
    api.erase(workspace, ["Caravaggio"], method="uce", options={"erasing": 1000}, force=True)
    result = api.decouple(workspace, "caravaggio", reason="licence of Picasso")
    assert result.metrics["max_drift"] <= 1e-5 < result.metrics["drift_before"]
    with pytest.raises(InvalidInputError, match="nothing to decouple"):
        api.decouple(workspace, "Caravaggio")


def test_the_strength_of_a_lora_is_alpha_over_rank_and_can_be_turned_around(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    path = kohya(workspace, tmp_path / "lora.safetensors", rank=4, alpha=2.0)
    foreign = api.read_import(workspace, path, "Picasso", strength=-1)
    ((name, delta),) = foreign.deltas.items()
    tensors = {k.rpartition("lora_")[2]: v for k, v in load(path).items()}
    expected = -0.5 * tensors["up.weight"].double() @ tensors["down.weight"].double()
    assert torch.allclose(delta.double(), expected, rtol=1e-5)
    assert name in pipelines.layer_weights(workspace.pipeline.unet)


def load(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_a_whole_erased_checkpoint_comes_back_as_the_shift_that_made_it(
    workspace: api.Workspace, tmp_path: Path, worlds: Worlds
) -> None:
    options = {"layers": "u", "iterations": 2, "pool_size": 4, "learning_rate": 1e-3}
    api.erase(workspace, ["Caravaggio"], method="esd", options=options, force=True)
    target = tmp_path / "erased.ckpt"
    plan = api.plan_composition(workspace)
    api.export_composition(workspace, plan, target)
    shipped = merged_weights(
        pipelines.parameters(workspace.pipeline.unet), plan_shifts(workspace, plan), torch.float16
    )
    other = worlds.open(tmp_path / "fresh")
    foreign = api.read_import(other, target, "Caravaggio")
    assert foreign.form == "checkpoint"
    assert not any("attn2" in name for name in foreign.deltas)
    own = pipelines.parameters(other.pipeline.unet)
    for name, delta in foreign.deltas.items():
        again = (own[name].double() + delta.double()).to(torch.float16)
        assert torch.equal(again, shipped[name]), name
    with pytest.raises(CapacityError, match="no layer that sees the text alone"):
        api.import_shift(other, foreign, decouple=True)
    assert other.registry.shifts.active("miniature") == []  # stored, and not applied
    assert len(other.registry.shifts.versions("miniature", "Caravaggio")) == 1


@pytest.mark.parametrize("damage", ["nan", "width", "nothing", "foreign base"])
def test_what_cannot_be_used_is_refused_and_nothing_is_registered(
    workspace: api.Workspace, tmp_path: Path, damage: str
) -> None:
    layer, weight = next(iter(pipelines.layer_weights(workspace.pipeline.unet).items()))
    draw = torch.Generator().manual_seed(1)
    tensors = {
        "nan": weight * float("nan"),
        "width": torch.randn(weight.shape[0], 768, generator=draw),
        "nothing": weight.clone(),
        "foreign base": torch.randn(weight.shape, generator=draw) * weight.std(),
    }
    path = tmp_path / "model.safetensors"
    save_file({f"{layer}.weight": tensors[damage].contiguous()}, path)
    with pytest.raises((InvalidInputError, IncompatibleError)):
        api.read_import(workspace, path, "Picasso")
    assert workspace.registry.shifts.concepts("miniature") == ()
    assert not [e for e in workspace.audit.events() if e.action == "import"]


@pytest.mark.erased("Caravaggio")
def test_an_adapter_of_a_base_of_the_same_shapes_is_refused(
    workspace: api.Workspace, tmp_path: Path, worlds: Worlds
) -> None:
    file = tmp_path / "caravaggio.safetensors"
    api.export_adapter(
        workspace, api.plan_adapter(workspace, file, api.Selection(only=["Caravaggio"]))
    )
    sibling = sibling_base(tmp_path / "sibling")
    fresh = worlds.empty(tmp_path / "fresh")
    other = api.open_workspace(Settings(fresh, "sibling", None))
    api.register_base(other, str(sibling), name="sibling", steps=2)
    with pytest.raises(IncompatibleError, match=f"for base {workspace.base.digest[:12]}.*--base"):
        api.read_import(other, file, "Caravaggio")
    assert api.read_import(workspace, file, "Caravaggio").form == "lora, diffusers/PEFT"


def sibling_base(folder: Path) -> Path:
    """The miniature after a little more training."""
    shutil.copytree(miniature.BASE_FOLDER, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load(weights)
    save_file(tensors | {"conv_in.bias": tensors["conv_in.bias"] + 0.25}, weights)
    return folder


def test_a_strength_of_nothing_is_refused(workspace: api.Workspace, partial: Path) -> None:
    with pytest.raises(InvalidInputError, match="other than 0"):
        api.read_import(workspace, partial, "Picasso", strength=0)
