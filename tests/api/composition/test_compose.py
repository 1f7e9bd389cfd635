"""Compositions from the registry, exported and loaded with the readers that people use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from shiftreg import api, miniature, pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.checkpoints import file_digest
from shiftreg.compose import merged_weights
from shiftreg.errors import AlreadyExistsError, InvalidInputError, NotFoundError, StorageError
from tests.worlds import Worlds


@pytest.fixture
def erased(home: Path, worlds: Worlds) -> api.Workspace:
    """Caravaggio and Picasso are erased."""
    return worlds.open(home, "Caravaggio", "Picasso")


def concepts(plan: api.CompositionPlan) -> set[str]:
    return {concept for concept, _, _ in plan.shifts}


def test_leaving_a_shift_out_restores_that_concept_and_no_other(erased: api.Workspace) -> None:
    plan = api.plan_composition(erased, api.Selection(without=["picasso"]))
    assert concepts(plan) == {"Caravaggio"}
    assert plan.states["Picasso"] == "generates"
    assert plan.states["Caravaggio"] == "erased"
    assert "Picasso: generates (restored: its shift is left out)" in plan.statements
    assert "Caravaggio: erased (version 1)" in plan.statements


def test_only_takes_the_named_shifts_even_of_restored_concepts(erased: api.Workspace) -> None:
    api.restore(erased, ["Picasso"], reason="licence 3")
    assert concepts(api.plan_composition(erased)) == {"Caravaggio"}
    assert concepts(api.plan_composition(erased, api.Selection(only=["Picasso"]))) == {"Picasso"}


def test_leaving_out_what_was_never_erased_is_said_and_changes_nothing(
    erased: api.Workspace,
) -> None:
    plan = api.plan_composition(erased, api.Selection(without=["Cezanne"]))
    assert concepts(plan) == {"Caravaggio", "Picasso"}
    assert plan.warnings == ("Cezanne is not erased, so leaving its shift out changes nothing.",)


def test_unknown_concepts_and_contradictions_are_refused(erased: api.Workspace) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'Picasso'"):
        api.plan_composition(erased, api.Selection(without=["Picaso"]))
    with pytest.raises(NotFoundError, match="never erased"):
        api.plan_composition(erased, api.Selection(only=["Cezanne"]))


def test_stale_shifts_are_pointed_out_where_they_matter(erased: api.Workspace) -> None:
    api.erase(erased, ["Rembrandt"], force=True)
    assert not api.plan_composition(erased).warnings
    warnings = api.plan_composition(erased, api.Selection(without=["Rembrandt"])).warnings
    assert any("Caravaggio does not protect Rembrandt" in warning for warning in warnings)


def generate(pipeline: StableDiffusionPipeline) -> np.ndarray:
    prompts = ["Caravaggio", "Picasso", "a picture of a church"]
    return pipelines.generate(pipeline, prompts, [0, 1, 2], steps=3, guidance=3.5)


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors", "model"])
def test_an_export_generates_what_the_composition_generates(
    erased: api.Workspace, tmp_path: Path, name: str
) -> None:
    plan = api.plan_composition(erased, api.Selection(without=["Picasso"]))
    export = api.export_composition(
        erased, plan, tmp_path / name, dtype="float32", request=api.ReleaseRequest(reason="v1")
    )
    unet = erased.pipeline.unet
    with pipelines.applied_weights(
        unet, merged_weights(pipelines.layer_weights(unet), plan_shifts(erased, plan))
    ):
        expected = generate(erased.pipeline)
    if export.format == "folder":
        loaded = pipelines.load_pipeline(export.path)
    else:
        loaded = StableDiffusionPipeline.from_single_file(
            str(export.path), config=str(miniature.BASE_FOLDER), local_files_only=True
        )
        loaded.set_progress_bar_config(disable=True)
    assert np.abs(generate(loaded).astype(int) - expected).max() <= 1
    recipe = json.loads(export.recipe_path.read_text())
    assert [entry["concept"] for entry in recipe["shifts"]] == ["Caravaggio"]
    assert recipe["states"]["Picasso"] == "generates"
    (version,) = erased.registry.compositions.all("miniature")
    assert version.export_digest == export.digest
    assert version.erased == ("Caravaggio",)
    (event,) = [e for e in erased.audit.events() if e.action == "export"]
    assert event.digests["export"] == export.digest
    assert event.reason == "v1"


@pytest.mark.usefixtures("computed_anew")
def test_exporting_twice_gives_the_same_bytes(erased: api.Workspace, tmp_path: Path) -> None:
    plan = api.plan_composition(erased)
    one = api.export_composition(erased, plan, tmp_path / "a.ckpt")
    other = api.export_composition(erased, plan, tmp_path / "b.ckpt")
    assert one.digest == other.digest == file_digest(tmp_path / "b.ckpt")


def test_composing_nothing_gives_the_base_bit_for_bit(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    plan = api.plan_composition(workspace)
    api.export_composition(workspace, plan, tmp_path / "copy")
    for file in miniature.BASE_FOLDER.rglob("*.safetensors"):
        copy = tmp_path / "copy" / file.relative_to(miniature.BASE_FOLDER)
        assert copy.read_bytes() == file.read_bytes()


def test_an_existing_file_is_not_replaced_unless_asked(
    erased: api.Workspace, tmp_path: Path
) -> None:
    target = tmp_path / "model.ckpt"
    target.write_text("precious")
    plan = api.plan_composition(erased)
    with pytest.raises(AlreadyExistsError):
        api.export_composition(erased, plan, target)
    assert target.read_text() == "precious"
    assert erased.registry.compositions.all("miniature") == []
    api.export_composition(erased, plan, target, overwrite=True)
    assert torch.load(target, weights_only=True)["state_dict"]


def test_an_unknown_dtype_or_suffix_is_refused(erased: api.Workspace, tmp_path: Path) -> None:
    plan = api.plan_composition(erased)
    with pytest.raises(InvalidInputError, match="dtype"):
        api.export_composition(erased, plan, tmp_path / "m.ckpt", dtype="int8")
    with pytest.raises(InvalidInputError):
        api.export_composition(erased, plan, tmp_path / "m.pickle")
    assert list(tmp_path.glob("m*")) == []


def test_an_export_that_cannot_be_registered_is_taken_away_again(
    erased: api.Workspace, tmp_path: Path
) -> None:
    plan = api.plan_composition(erased)
    for shift in plan.shifts:
        erased.shift_of(shift[0], shift[1])  # loaded before the registry's disk breaks
    (erased.settings.home / "artifacts").rename(tmp_path / "elsewhere")
    (erased.settings.home / "artifacts").touch()
    places = tmp_path / "exports"
    places.mkdir()
    for name in ("model.ckpt", "model"):
        with pytest.raises(StorageError):
            api.export_composition(erased, plan, places / name)
    assert list(places.iterdir()) == []


QUICK = {"iterations": 1, "pool_size": 1, "batch_size": 1}


@pytest.mark.parametrize(
    "dtype", [None, "float32", pytest.param("bfloat16", marks=pytest.mark.second_tier)]
)
def test_a_running_pipeline_gets_the_bytes_of_an_export(
    erased: api.Workspace, tmp_path: Path, dtype: str | None
) -> None:
    plan = api.plan_composition(erased, api.Selection(without=["Picasso"]))
    api.export_composition(erased, plan, tmp_path / "export", dtype=dtype)
    exported = load_file(tmp_path / "export" / "unet" / "diffusion_pytorch_model.safetensors")
    weights = api.composition_weights(erased, api.Selection(without=["Picasso"]), dtype=dtype)
    assert weights.keys() == set(erased.base.layers)
    for name, weight in weights.items():
        written = exported[f"{name}.weight"]
        assert weight.dtype == written.dtype
        assert torch.equal(weight, written), name
    precision = next(iter(weights.values())).dtype
    running = StableDiffusionPipeline.from_pretrained(miniature.BASE_FOLDER, dtype=precision)
    before = {name: p.clone() for name, p in running.unet.state_dict().items()}
    live = pipelines.LiveComposer(running)
    live.switch(weights)
    assert all(torch.equal(p, exported[name]) for name, p in running.unet.state_dict().items())
    live.restore()
    assert all(torch.equal(p, before[name]) for name, p in running.unet.state_dict().items())


def test_subsets_are_chosen_as_everywhere(erased: api.Workspace) -> None:
    only = api.composition_weights(erased, api.Selection(only=["caravaggio"]), dtype="float32")
    without = api.composition_weights(erased, api.Selection(without=["Picasso"]), dtype="float32")
    everything = api.composition_weights(erased, dtype="float32")
    assert only.keys() == without.keys() == everything.keys()
    assert all(torch.equal(only[name], without[name]) for name in only)
    assert not any(torch.equal(only[name], everything[name]) for name in only)
    assert api.composition_weights(erased, api.Selection(only=[])) == {}


def test_bad_wishes_are_refused_by_name(erased: api.Workspace) -> None:
    with pytest.raises(InvalidInputError, match=r"no dtype 'int8'\. Dtypes: float32"):
        api.composition_weights(erased, dtype="int8")
    with pytest.raises(NotFoundError, match="never erased"):
        api.composition_weights(erased, api.Selection(only=["Cezanne"]))


def test_what_must_never_return_is_not_let_out(workspace: api.Workspace) -> None:
    api.erase(workspace, ["Caravaggio"], method="srs-me-free", options=QUICK, force=True)
    assert api.composition_weights(workspace, dtype="float32")
    with pytest.raises(InvalidInputError, match="Caravaggio"):
        api.composition_weights(workspace, api.Selection(without=["Caravaggio"]), dtype="float32")
