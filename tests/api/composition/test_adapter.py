"""Adapters, read by those who use them: diffusers with peft, our own importer, verify, inspect."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from shiftreg import api, miniature, pipelines
from shiftreg.api.composition.adapter_content import (
    adapter_check,
    adapter_content,
    held_ranks,
)
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.api.composition.describe import base_facts
from shiftreg.checkpoints import AdapterNames, file_digest, read_foreign, recipe_path_of
from shiftreg.compose import Composition, merged_weights
from shiftreg.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from shiftreg.settings import Settings
from shiftreg.verification import Check

QUICK = {"iterations": 1, "pool_size": 1, "batch_size": 1}


@pytest.fixture
def server() -> StableDiffusionPipeline:
    """A running server's pipeline: the base, loaded as people load it."""
    pipeline = StableDiffusionPipeline.from_pretrained(miniature.BASE_FOLDER).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export(
    workspace: api.Workspace, file: Path, *concepts: str, **options: object
) -> api.AdapterResult:
    plan = api.plan_adapter(workspace, file, api.Selection(only=concepts or None), **options)
    return api.export_adapter(workspace, plan, request=api.ReleaseRequest(reason="for the server"))


def metadata(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as handle:
        return dict(handle.metadata())


def predict(workspace: api.Workspace, pipeline: StableDiffusionPipeline) -> Tensor:
    """Noise predictions for an erased, a protected and an ordinary prompt."""
    prompts = ["Caravaggio", "Van Gogh", "a picture of a church"]
    embeds = pipelines.encode_prompts(workspace.pipeline, prompts)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return pipeline.unet(latents.expand(3, -1, -1, -1), 500, embeds).sample


def generate(pipeline: StableDiffusionPipeline) -> np.ndarray:
    prompts = ["Caravaggio", "a picture of a church"]
    return pipelines.generate(pipeline, prompts, [0, 1], steps=2, guidance=3.5).astype(int)


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_diffusers_switches_a_concept_off_and_on(
    erased: api.Workspace, server: StableDiffusionPipeline, tmp_path: Path, form: str
) -> None:
    base, base_images = predict(erased, server), generate(server)
    result = export(erased, tmp_path / "both.safetensors", "Caravaggio", "Picasso", form=form)
    unet = erased.pipeline.unet
    weights = merged_weights(
        pipelines.layer_weights(unet), plan_shifts(erased, result.plan.plan), torch.float32
    )
    with pipelines.applied_weights(unet, weights):
        composed, composed_images = predict(erased, erased.pipeline), generate(erased.pipeline)
    server.load_lora_weights(tmp_path, weight_name="both.safetensors", adapter_name="erase")
    server.set_adapters("erase", 1.0)
    if form == "kohya":
        downs = (t for name, t in load_file(result.path).items() if name.endswith("down.weight"))
        assert len({len(down) for down in downs}) == 1  # one scale, as diffusers reads such files
    assert torch.allclose(predict(erased, server), composed, atol=2e-5)
    assert np.abs(generate(server) - composed_images).max() <= 1
    assert np.abs(composed_images[0] - base_images[0]).max() > 50
    server.set_adapters("erase", 0.0)
    assert torch.equal(predict(erased, server), base)
    assert np.array_equal(generate(server), base_images)


def test_adapters_of_two_concepts_add_up(
    erased: api.Workspace, server: StableDiffusionPipeline, tmp_path: Path
) -> None:
    for name in ("Caravaggio", "Picasso"):
        export(erased, tmp_path / f"{name}.safetensors", name)
        server.load_lora_weights(
            tmp_path, weight_name=f"{name}.safetensors", adapter_name=name.lower()
        )
    unet = erased.pipeline.unet
    for only in (["Caravaggio"], ["Caravaggio", "Picasso"]):
        composition = plan_shifts(erased, api.plan_composition(erased, api.Selection(only=only)))
        with pipelines.applied_weights(
            unet, merged_weights(pipelines.layer_weights(unet), composition)
        ):
            expected = predict(erased, erased.pipeline)
        server.set_adapters(["caravaggio", "picasso"], [1.0, float(len(only) - 1)])
        assert torch.allclose(predict(erased, server), expected, atol=2e-5)


@pytest.mark.parametrize("form", ["diffusers", "kohya", "diff"])
def test_an_adapter_imports_as_the_shift_that_it_was(
    erased: api.Workspace, tmp_path: Path, form: str
) -> None:
    result = export(erased, tmp_path / "c.safetensors", "Caravaggio", form=form)
    (shift,) = plan_shifts(erased, result.plan.plan).shifts
    deltas = read_foreign(result.path, erased.folder).deltas
    assert {name.removesuffix(".weight") for name in deltas} == set(shift.layers)
    for layer in shift.layers:
        assert torch.equal(deltas[f"{layer}.weight"], shift.delta_weight(layer).float())


def test_dense_changes_round_trip_bit_for_bit(workspace: api.Workspace, tmp_path: Path) -> None:
    api.erase(workspace, ["Caravaggio"], method="esd", options={**QUICK, "layers": "u"}, force=True)
    (version,) = workspace.registry.shifts.active("miniature")
    shift = workspace.shift(version)
    assert any(name.endswith(".bias") for name in shift.dense)
    for rank in (None, 4):  # a bias has no rank
        with pytest.raises(InvalidInputError, match=r"\(esd\).*--form diff\.$"):
            api.plan_adapter(
                workspace, tmp_path / "e.safetensors", api.Selection(only=["Caravaggio"]), rank=rank
            )
    result = export(workspace, tmp_path / "e.safetensors", "Caravaggio", form="diff")
    deltas = {
        name.removesuffix(".weight"): delta
        for name, delta in read_foreign(result.path, workspace.folder).deltas.items()
    }
    for name, delta in shift.dense.items():
        assert torch.equal(deltas.get(name, torch.zeros_like(delta)), delta)


def test_a_dense_change_of_weights_alone_can_be_approximated(
    erased: api.Workspace, tmp_path: Path
) -> None:
    (shift, *_) = plan_shifts(
        erased, api.plan_composition(erased, api.Selection(only=["Caravaggio"]))
    ).shifts
    dense = {layer: shift.delta_weight(layer).float() for layer in shift.layers}
    composition = Composition.of(
        shift.base_digest, [replace(shift, support=shift.support[:0], factors={}, dense=dense)]
    )
    names = AdapterNames.of(erased.folder, base_facts(erased))
    with pytest.raises(InvalidInputError, match="or approximate it: --rank N"):
        held_ranks(composition, names, "kohya", None)
    assert set(held_ranks(composition, names, "kohya", 4).values()) == {4}
    content = adapter_content(erased, composition, "kohya", torch.float32, 4)
    assert 0.5 < content.kept < 1


def test_half_precision_keeps_protected_prompts(erased: api.Workspace, tmp_path: Path) -> None:
    for form in ("kohya", "diff"):
        file = tmp_path / f"{form}.safetensors"
        result = export(erased, file, "Caravaggio", form=form, dtype="float16")
        assert not result.exact
        assert result.max_drift is not None
        assert result.plain_drift is not None
        assert result.max_drift < result.plain_drift / 10
        numbers = {t.dtype for name, t in load_file(file).items() if not name.endswith("alpha")}
        assert numbers == {torch.float16}


def test_a_rank_is_an_approximation_that_says_so(erased: api.Workspace, tmp_path: Path) -> None:
    result = export(erased, tmp_path / "r.safetensors", "Caravaggio", rank=2)
    assert result.plan.ranks == (2,)
    assert 0.5 < result.change_kept < 1
    assert result.max_drift is not None
    assert result.max_drift < 1e-5  # what is left of the change is still in the null space
    assert not result.exact


def test_an_adapter_is_registered_and_audited(erased: api.Workspace, tmp_path: Path) -> None:
    result = export(erased, tmp_path / "c.safetensors", "Caravaggio", form="kohya")
    version = erased.registry.compositions.all("miniature")[-1]
    assert version.version == result.version
    assert version.form == "adapter, kohya"
    assert version.erased == ("Caravaggio",)
    assert version.export_digest == result.digest == file_digest(result.path)
    event = erased.audit.events()[-1]
    assert event.action == "export"
    assert event.details["form"] == "adapter, kohya"
    assert "At strength 1: Caravaggio erased. At strength 0" in event.details["strength"]
    assert event.digests["export"] == result.digest
    assert event.reason == "for the server"


def test_the_header_says_what_it_is(erased: api.Workspace, tmp_path: Path) -> None:
    result = export(erased, tmp_path / "c.safetensors", "Caravaggio", form="kohya")
    header = metadata(result.path)
    assert header["modelspec.sai_model_spec"] == "1.0.1"
    assert header["modelspec.architecture"] == "stable-diffusion/lora"
    assert header["modelspec.title"] == "Caravaggio erased, an adapter for miniature"
    assert header["modelspec.usage_hint"] == result.plan.strength
    assert header["modelspec.license"] == "apache-2.0"
    assert header["modelspec.prediction_type"] == "epsilon"
    assert header["ss_network_module"] == "networks.lora"
    assert header["ss_network_dim"] == header["ss_network_alpha"] == "90"
    assert header["shiftreg.base_sha256"] == erased.base.digest
    assert header["shiftreg.recipe_sha256"] == result.recipe_digest
    assert json.loads(header["shiftreg.states"])["Caravaggio"] == "erased"
    content = result.path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    (tmp_path / "tensors").write_bytes(content[start:])
    assert header["modelspec.hash_sha256"] == f"0x{file_digest(tmp_path / 'tensors')}"


@pytest.mark.usefixtures("computed_anew")
def test_exporting_twice_gives_the_same_bytes(
    erased: api.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = export(erased, tmp_path / "a.safetensors", "Caravaggio", dtype="float16")
    other = export(erased, tmp_path / "b.safetensors", "Caravaggio", dtype="float16")
    assert one.digest == other.digest
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    dated = export(erased, tmp_path / "c.safetensors", "Caravaggio")
    assert metadata(dated.path)["modelspec.date"] == "1970-01-02T00:00:00+00:00"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(InvalidInputError, match="SOURCE_DATE_EPOCH"):
        export(erased, tmp_path / "d.safetensors", "Caravaggio")


def check_of(workspace: api.Workspace, result: api.AdapterResult) -> Check:
    """What a verification says of the file itself."""
    plan = result.plan
    return adapter_check(
        workspace,
        result.path,
        plan_shifts(workspace, plan.plan),
        json.loads(recipe_path_of(result.path).read_text())["adapter"],
        getattr(torch, plan.dtype),
    )


@pytest.mark.parametrize(
    "options", [{"form": "kohya"}, {"form": "diff", "dtype": "float16"}, {"rank": 4}]
)
def test_a_changed_adapter_is_noticed(
    erased: api.Workspace, tmp_path: Path, options: dict[str, object]
) -> None:
    result = export(erased, tmp_path / "c.safetensors", "Caravaggio", **options)
    assert check_of(erased, result).passed
    tensors, header = load_file(result.path), metadata(result.path)
    name = next(name for name in tensors if not name.endswith("alpha"))
    save_file(tensors | {name: tensors[name] * 1.1}, result.path, header)
    check = check_of(erased, result)
    assert not check.passed
    assert "export again" in check.explanation


def test_verify_generates_with_what_an_adapter_makes_of_the_base(
    erased: api.Workspace, tmp_path: Path
) -> None:
    result = export(erased, tmp_path / "c.safetensors", "Caravaggio", dtype="float16")
    verification = api.verify(erased, result.path, images=1)
    failed = {check.name for check in verification.checks if not check.passed}
    assert failed <= {"images", "ordinary", "watermark", "erasure"}  # two steps generate nothing
    assert {check.name for check in verification.checks} >= {"separability", "noise", "file"}
    assert verification.plan.states["Caravaggio"] == "erased"
    (result.path.with_name("c.safetensors.recipe.json")).unlink()
    with pytest.raises(NotFoundError, match="no recipe"):
        api.verify(erased, result.path)


def test_an_adapter_is_not_verified_against_another_base(
    erased: api.Workspace, tmp_path: Path, home: Path
) -> None:
    result = export(erased, tmp_path / "c.safetensors", "Caravaggio")
    folder = shutil.copytree(miniature.BASE_FOLDER, tmp_path / "sibling")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"conv_in.bias": tensors["conv_in.bias"] + 0.25}, weights)
    other = api.open_workspace(Settings(home, "sibling", None))
    digest = api.register_base(other, str(folder), name="sibling", steps=2).digest
    expected = rf"base {erased.base.digest[:12]} \('miniature'\), and 'sibling' is {digest[:12]}"
    with pytest.raises(IntegrityError, match=rf"{expected}.*--base"):
        api.verify(other, result.path)


def test_inspect_finds_the_shift_in_an_adapter(erased: api.Workspace, tmp_path: Path) -> None:
    result = export(erased, tmp_path / "c.safetensors", "Caravaggio", form="diff")
    inspection = api.inspect_file(erased, result.path)
    assert [(s.concept, s.strength) for s in inspection.shifts] == [
        ("Caravaggio", pytest.approx(1.0))
    ]
    assert inspection.passed


def test_bad_wishes_are_refused_by_name(erased: api.Workspace, tmp_path: Path) -> None:
    file = tmp_path / "c.safetensors"
    for options, message in (
        ({"form": "lycoris"}, "Forms: diffusers, kohya, diff"),
        ({"dtype": "int8"}, "Dtypes: float32"),
        ({"rank": 0}, "at least 1"),
        ({"rank": 4, "form": "diff"}, "belongs to the forms"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            api.plan_adapter(erased, file, api.Selection(only=["Caravaggio"]), **options)
    with pytest.raises(InvalidInputError, match=r"Name it such as 'c\.ckpt\.safetensors'"):
        api.plan_adapter(erased, tmp_path / "c.ckpt", api.Selection(only=["Caravaggio"]))
    with pytest.raises(NotFoundError, match="never erased"):
        api.plan_adapter(erased, file, api.Selection(only=["Cezanne"]))
    with pytest.raises(InvalidInputError, match="no shift is left"):
        api.plan_adapter(erased, file, api.Selection(without=["Caravaggio", "Picasso"]))
    assert not list(tmp_path.glob("c*"))


@pytest.mark.erased("Picasso")
def test_what_must_never_return_has_no_switch(workspace: api.Workspace, tmp_path: Path) -> None:
    api.erase(workspace, ["Caravaggio"], method="srs-me-free", options=QUICK, force=True)
    with pytest.raises(InvalidInputError, match="can be switched off"):
        api.plan_adapter(
            workspace, tmp_path / "c.safetensors", api.Selection(only=["Caravaggio"]), form="diff"
        )
    # Another concept's adapter holds nothing of the base, and releases nothing.
    assert not api.plan_adapter(
        workspace, tmp_path / "p.safetensors", api.Selection(only=["Picasso"])
    ).warnings


@pytest.mark.parametrize("there", ["c.safetensors", "c.safetensors.md"])
def test_nothing_is_replaced_unasked(erased: api.Workspace, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(AlreadyExistsError):
        export(erased, tmp_path / "c.safetensors", "Caravaggio")
    assert (tmp_path / there).read_text() == "precious"
    assert len(list(tmp_path.glob("c.*"))) == 1
    plan = api.plan_adapter(erased, tmp_path / "c.safetensors", api.Selection(only=["Caravaggio"]))
    api.export_adapter(erased, plan, overwrite=True)
    assert len(list(tmp_path.glob("c.*"))) == 3


def test_an_adapter_that_cannot_be_registered_is_taken_away_again(
    erased: api.Workspace, tmp_path: Path
) -> None:
    places = tmp_path / "exports"
    places.mkdir()
    plan = api.plan_adapter(erased, places / "c.safetensors", api.Selection(only=["Caravaggio"]))
    artifacts = erased.settings.home / "artifacts"
    artifacts.rename(tmp_path / "elsewhere")
    artifacts.touch()
    try:
        with pytest.raises(StorageError):
            api.export_adapter(erased, plan)
    finally:
        artifacts.unlink()
        (tmp_path / "elsewhere").rename(artifacts)
    assert not list(places.iterdir())
