"""Erasing, composing, verifying and exporting on a base of every family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from shiftreg import api, pipelines
from shiftreg.checkpoints import compare_checkpoint, folder_digest
from shiftreg.compose import Composition, merged_weights
from shiftreg.errors import IncompatibleError
from shiftreg.settings import Settings
from shiftreg.shift import ConceptShift
from shiftreg_cli.main import app

TRIGGER, OTHER = "mark", "bob"
QUICK = {"iterations": 2, "pool_size": 4, "batch_size": 2}


# Those that differ from Stable Diffusion 1.x, on which all other tests work.
every_other = pytest.mark.parametrize("family", ["sd2", "sdxl", "pixart-alpha"], indirect=True)


@pytest.fixture
def workspace(home: Path, folder: Path) -> api.Workspace:
    """The base of each family in turn, registered with a trigger and another name."""
    workspace = api.open_workspace(Settings(home, "base", None))
    api.register_base(
        workspace,
        str(folder),
        triggers={TRIGGER: ""},
        protected=[OTHER],
        subjects=["owl", "cat"],
        steps=2,
        guidance=3.0,
    )
    return workspace


def export(workspace: api.Workspace, target: Path, **choice: Any) -> None:
    api.export_composition(
        workspace, api.plan_composition(workspace, api.Selection(**choice)), target
    )


def active_shift(workspace: api.Workspace) -> ConceptShift:
    (version,) = workspace.versions("ann")
    return workspace.shift(version)


def assert_erased_and_separable(workspace: api.Workspace) -> None:
    """Keys, values and noise of protected prompts are what they were; the concept's are not."""
    shift = active_shift(workspace)
    base = pipelines.layer_weights(workspace.network)
    assert set(shift.layers) == set(base)
    own = pipelines.encode_prompts(workspace.pipeline, ["ann", "an owl by ann"]).double()
    kept = pipelines.encode_prompts(workspace.pipeline, ["", TRIGGER, OTHER]).double()
    for name in shift.layers:
        delta, weight = shift.delta_weight(name).double(), base[name].double()
        assert (kept @ delta.T).norm() <= 1e-5 * (kept @ weight.T).norm(), name
        assert (own @ delta.T).norm() > 1e-3 * (own @ weight.T).norm(), name
    weights = merged_weights(
        pipelines.parameters(workspace.network), Composition.of(workspace.base.digest, [shift])
    )
    moved = pipelines.noise_difference(
        workspace.pipeline, weights, torch.cat([kept, own[:1]]).float()
    )
    assert moved[:3].max() < 1e-4
    assert moved[3] > 10 * moved[:3].max()


@every_other
def test_a_concept_is_erased_composed_verified_and_exported(
    workspace: api.Workspace, tmp_path: Path, folder: Path
) -> None:
    api.erase(workspace, ["ann"], options={"preservation": 1.0}, reason="request 1", force=True)
    assert_erased_and_separable(workspace)
    export(workspace, tmp_path / "erased")
    verification = api.verify(workspace, tmp_path / "erased", images=1)
    checks = {check.name: check for check in verification.checks}
    assert {"separability", "noise", "images", "file"} <= checks.keys()
    assert all(c.passed for c in verification.checks if c.name in ("separability", "noise", "file"))

    shift = active_shift(workspace)
    weights = merged_weights(
        pipelines.parameters(workspace.network), Composition.of(workspace.base.digest, [shift])
    )
    options: dict[str, Any] = {"steps": 2, "guidance": 3.0}
    prompts = ["ann", OTHER, ""]
    before = pipelines.generate_latents(workspace.pipeline, prompts, [0] * 3, **options)
    with pipelines.applied_weights(workspace.network, weights):
        composed = pipelines.generate_latents(workspace.pipeline, prompts, [0] * 3, **options)
    read = DiffusionPipeline.from_pretrained(
        tmp_path / "erased", low_cpu_mem_usage=False, local_files_only=True
    )
    read.set_progress_bar_config(disable=True)
    again = pipelines.generate_latents(read, prompts, [0] * 3, **options)
    assert (again - composed).norm() <= 1e-5 * composed.norm()
    moved = (composed - before).flatten(1).norm(dim=1)
    assert moved[0] > 10 * moved[1:].max()

    export(workspace, tmp_path / "restored", without=["ann"])
    comparison = compare_checkpoint(tmp_path / "restored", folder, {})
    assert comparison.equal
    found = api.inspect_file(workspace, tmp_path / "erased")
    assert [match.concept for match in found.shifts] == ["ann"]

    # What is tampered with is found in any part.
    file = tmp_path / "restored" / "text_encoder" / "model.safetensors"
    state = load_file(file)
    first = min(state)
    save_file(state | {first: state[first] + 1}, file, {"format": "pt"})
    checks = api.verify(workspace, tmp_path / "restored", images=1).checks
    (failed,) = [check for check in checks if check.name == "file"]
    assert not failed.passed
    assert f"text_encoder.{first}" in failed.explanation


@every_other
def test_a_shift_is_trained(workspace: api.Workspace) -> None:
    api.erase(workspace, ["ann"], method="srs-me", options=QUICK, reason="request 2", force=True)
    shift = active_shift(workspace)
    kept = pipelines.encode_prompts(workspace.pipeline, ["", TRIGGER, OTHER]).double()
    base = pipelines.layer_weights(workspace.network)
    for name in shift.layers:
        drift = (kept @ shift.delta_weight(name).T).norm() / (kept @ base[name].double().T).norm()
        assert drift <= 1e-5


@every_other
@pytest.mark.parametrize("method", ["esd", "forget-me-not"])
def test_methods_that_bind_themselves_to_nothing_run(workspace: api.Workspace, method: str) -> None:
    api.erase(workspace, ["ann"], method=method, options=QUICK, reason="request 3", force=True)
    assert active_shift(workspace).dense


@every_other
def test_the_digest_of_two_text_encoders_is_that_of_both(
    workspace: api.Workspace, folder: Path, family: str
) -> None:
    own = folder_digest(folder / "text_encoder")
    assert (workspace.base.text_encoder_digest == own) is (family != "sdxl")


@pytest.mark.parametrize("family", ["sdxl"], indirect=True)
def test_a_lora_that_names_another_family_is_refused_whatever_its_shapes(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    layer, weight = next(iter(pipelines.layer_weights(workspace.network).items()))
    rows, columns = weight.shape
    file = tmp_path / "lora.safetensors"
    pair = {"lora_A": torch.ones(1, columns), "lora_B": torch.ones(rows, 1)}
    tensors = {f"unet.{layer}.{side}.weight": tensor for side, tensor in pair.items()}
    save_file(tensors, file, {"ss_base_model_version": "sdxl_base_v1-0"})
    assert api.read_import(workspace, file, "ann").form == "lora, diffusers/PEFT"
    save_file(tensors, file, {"ss_base_model_version": "sd_v1"})
    with pytest.raises(IncompatibleError, match=r"Diffusion 1\.x .* Diffusion XL\. .*--base"):
        api.read_import(workspace, file, "ann")
    assert not workspace.registry.shifts.concepts("base")


def test_the_command_line_registers_a_transformer(
    home: Path, saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFTREG_HOME", str(home))
    monkeypatch.setenv("SHIFTREG_BASE", "mine")
    (home / "subjects.txt").write_text("owl\ncat\n")
    options = ["--name", "mine", "--subjects", str(home / "subjects.txt"), "--steps", "2"]
    result = CliRunner().invoke(app, ["init", str(saved("pixart-sigma")), *options])
    assert result.exit_code == 0, result.output
    listed = CliRunner().invoke(app, ["list", "--json"])
    assert listed.exit_code == 0, listed.output
    assert json.loads(listed.stdout)
