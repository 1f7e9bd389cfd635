"""Weights for a running pipeline: those of an export, switched in milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from shiftreg import api, miniature, pipelines
from shiftreg.errors import InvalidInputError, NotFoundError

QUICK = {"iterations": 1, "pool_size": 1, "batch_size": 1}


@pytest.mark.parametrize(
    "dtype", [None, "float32", pytest.param("bfloat16", marks=pytest.mark.slow)]
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
    api.erase(workspace, ["Caravaggio"], method="srs-me-free", options=QUICK)
    assert api.composition_weights(workspace, dtype="float32")
    with pytest.raises(InvalidInputError, match="Caravaggio"):
        api.composition_weights(workspace, api.Selection(without=["Caravaggio"]), dtype="float32")
