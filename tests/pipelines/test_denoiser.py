"""The noise predictor: what is changed in it for a while returns bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from shiftreg.checkpoints import Unfinished
from shiftreg.erasers import (
    ConceptAblation,
    ErasureProblem,
    Esd,
    ForgetMeNot,
    SrsMe,
    SrsMeFree,
    SrsMeJoint,
    Step,
    TrainingData,
)
from shiftreg.pipelines import Denoiser, applied_weights, load_pipeline, parameters
from shiftreg.subspace import null_space_basis

Inputs = tuple[Tensor, Tensor, Tensor]
LENGTH, WIDTH = 6, 8


@pytest.fixture(scope="module")
def pipeline(base: Path) -> StableDiffusionPipeline:
    return load_pipeline(base)


@pytest.fixture
def denoiser(pipeline: StableDiffusionPipeline) -> Denoiser:
    return Denoiser(pipeline)


@pytest.fixture
def inputs() -> Inputs:
    """Latents, timesteps and embeddings of two prompts."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 4, 8, 8, generator=generator),
        torch.tensor([900, 100]),
        torch.randn(2, LENGTH, WIDTH, generator=generator),
    )


@pytest.fixture(autouse=True)
def untouched(pipeline: StableDiffusionPipeline) -> Iterator[None]:
    """After every test the base is what it was: the very tensors, their bits, and no hook left."""
    unet = pipeline.unet
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in unet.named_parameters()}
    yield
    for name, parameter in unet.named_parameters():
        address, value = before[name]
        assert torch.equal(parameter, value), name
        assert parameter.data_ptr() == address, name
        assert not parameter.requires_grad, name
        assert parameter.grad is None, name
    assert not any(module._forward_hooks for module in unet.modules())


class MishapError(Exception):
    """Something goes wrong within a block."""


# What a method may train.


def test_cross_attentions_and_others_are_everything_but_the_time_embedding_and_the_output(
    pipeline: StableDiffusionPipeline, denoiser: Denoiser
) -> None:
    cross, others = set(denoiser.cross_attention), set(denoiser.others)
    names = set(parameters(pipeline.unet))
    assert not cross & others
    assert {name for name in names if ".attn2." in name} == cross
    neither = {
        name
        for name in names
        if name.startswith(("time_embedding.linear_", "conv_norm_out", "conv_out"))
    }
    assert cross | others == names - neither
    assert len(neither) == 8
    assert len(denoiser.others) == len(others)
    assert {"conv_in", "conv_in.bias"} <= others
    assert any(".attn1." in name for name in others)


def test_every_parameter_has_one_name(pipeline: StableDiffusionPipeline) -> None:
    named = parameters(pipeline.unet)
    assert len(named) == len(list(pipeline.unet.parameters()))
    assert named["conv_in"] is pipeline.unet.conv_in.weight
    assert named["conv_in.bias"] is pipeline.unet.conv_in.bias
    assert Denoiser(pipeline).weights.keys() <= named.keys()


# Training in place.

TRAINED = ("conv_in.bias", "conv_in", "mid_block.attentions.0.transformer_blocks.0.attn2.to_q")


def train_a_step(denoiser: Denoiser, inputs: Inputs, trained: Any) -> None:
    optimizer = torch.optim.Adam(trained.parameters.values(), lr=0.1)
    denoiser.predict(*inputs).square().mean().backward()
    optimizer.step()


def test_what_is_trained_changes_the_prediction_within_the_block_alone(
    denoiser: Denoiser, inputs: Inputs
) -> None:
    before = denoiser.predict(*inputs)
    with denoiser.trainable(TRAINED) as trained:
        assert torch.equal(denoiser.predict(*inputs), before)
        train_a_step(denoiser, inputs, trained)
        assert not torch.allclose(denoiser.predict(*inputs), before)
    assert torch.equal(denoiser.predict(*inputs), before)


def test_the_deltas_are_how_far_each_parameter_moved(
    denoiser: Denoiser, inputs: Inputs, pipeline: StableDiffusionPipeline
) -> None:
    base = {name: p.clone() for name, p in parameters(pipeline.unet).items() if name in TRAINED}
    before = denoiser.predict(*inputs)
    with denoiser.trainable((*TRAINED, "conv_norm_out")) as trained:
        assert trained.deltas() == {}
        train_a_step(denoiser, inputs, trained)
        trained.parameters["conv_norm_out"].data.copy_(trained.base["conv_norm_out"])
        moved = {name: trained.parameters[name].detach().clone() for name in TRAINED}
        deltas, changed = trained.deltas(), denoiser.predict(*inputs).detach()
    assert set(deltas) == set(TRAINED), "what is where it was has no delta"
    for name, delta in deltas.items():
        assert delta.dtype == torch.float32
        assert torch.allclose(base[name] + delta, moved[name], atol=1e-7)
    weights = {name: base[name] + delta for name, delta in deltas.items()}
    with applied_weights(pipeline.unet, weights):
        assert torch.allclose(denoiser.predict(*inputs), changed, atol=1e-5)
    assert not torch.allclose(before, changed, atol=1e-3)


@pytest.mark.parametrize("error", [MishapError, KeyboardInterrupt])
def test_after_an_exception_the_base_is_what_it_was(
    denoiser: Denoiser, inputs: Inputs, error: type[BaseException]
) -> None:
    with pytest.raises(error), denoiser.trainable(denoiser.others) as trained:
        train_a_step(denoiser, inputs, trained)
        raise error


def test_an_unknown_parameter_is_refused_before_anything_happens(denoiser: Denoiser) -> None:
    with pytest.raises(KeyError, match="no_such"), denoiser.trainable(["conv_in", "no_such"]):
        pass


def test_nothing_else_collects_gradients(
    denoiser: Denoiser, inputs: Inputs, pipeline: StableDiffusionPipeline
) -> None:
    with denoiser.trainable(["conv_in.bias"]):
        denoiser.predict(*inputs).square().mean().backward()
        with_gradient = [n for n, p in pipeline.unet.named_parameters() if p.grad is not None]
    assert with_gradient == ["conv_in.bias"]


# Attention maps.


def test_attention_maps_are_shares_of_the_tokens(denoiser: Denoiser, inputs: Inputs) -> None:
    maps = denoiser.attention(*inputs)
    assert len(maps) == len(denoiser.weights) / 2  # a key and a value projection each
    for m in maps:
        assert m.shape[0] == 2
        assert m.shape[-1] == LENGTH
        assert m.min() >= 0
        assert torch.allclose(m.sum(dim=-1), torch.ones(m.shape[:-1]), atol=1e-5)
    assert {m.shape[2] for m in maps} == {4, 16}, "pixels at both resolutions"


def test_attention_maps_are_those_that_the_layers_attend_with(
    denoiser: Denoiser, inputs: Inputs, pipeline: StableDiffusionPipeline
) -> None:
    seen: list[tuple[Any, Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(
            lambda module, args, _kwargs, output: seen.append((module, args[0], output)),
            with_kwargs=True,
        )
        for name, module in pipeline.unet.named_modules()
        if name.endswith("attn2")
    ]
    maps = denoiser.attention(*inputs)
    for handle in handles:
        handle.remove()
    assert len(seen) == len(maps)
    embeds = inputs[2]
    for (layer, hidden, output), attention in zip(seen, maps, strict=True):
        query, key, value = (
            projected.reshape(2, -1, layer.heads, projected.shape[-1] // layer.heads)
            for projected in (layer.to_q(hidden), layer.to_k(embeds), layer.to_v(embeds))
        )
        scores = torch.einsum("bphd,blhd->bhpl", query, key) / query.shape[-1] ** 0.5
        expected = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
        assert attention.shape == expected.shape
        assert torch.allclose(attention, expected, atol=1e-5)
        attended = torch.einsum("bhpl,blhd->bphd", attention, value).flatten(2)
        assert torch.allclose(layer.to_out[0](attended), output, atol=1e-5)


def test_attention_maps_can_be_learnt_from(denoiser: Denoiser, inputs: Inputs) -> None:
    with denoiser.trainable(denoiser.cross_attention) as trained:
        optimizer = torch.optim.Adam(trained.parameters.values(), lr=0.05)
        shares = []
        for _ in range(20):
            share = torch.stack([m[..., 2].mean() for m in denoiser.attention(*inputs)]).mean()
            optimizer.zero_grad()
            share.backward()
            optimizer.step()
            shares.append(share.item())
        moved = trained.deltas()
    assert shares[-1] < 0.5 * shares[0]
    assert {name.rpartition(".")[2] for name in moved} >= {"to_q", "to_k"}


def test_hooks_are_removed_after_an_exception_too(denoiser: Denoiser, inputs: Inputs) -> None:
    latents, timesteps, embeds = inputs
    with suppress(RuntimeError):
        denoiser.attention(latents, timesteps, embeds[..., :5])


# Weights that are put in for a block.


def test_a_bias_and_a_convolution_are_applied_for_a_block(
    denoiser: Denoiser, inputs: Inputs, pipeline: StableDiffusionPipeline
) -> None:
    own = parameters(pipeline.unet)
    before = denoiser.predict(*inputs)
    for name in ("conv_in", "conv_in.bias"):
        changed = own[name].detach() + 0.5
        with applied_weights(pipeline.unet, {name: changed}):
            assert torch.equal(own[name], changed)
            assert not torch.allclose(denoiser.predict(*inputs), before)
        assert torch.equal(denoiser.predict(*inputs), before)


def test_applied_weights_take_the_model_s_dtype_and_leave_after_an_exception(
    denoiser: Denoiser, inputs: Inputs, pipeline: StableDiffusionPipeline
) -> None:
    own = parameters(pipeline.unet)
    weights = {name: (own[name].detach() + 1).double() for name in ("conv_in", "conv_in.bias")}
    with pytest.raises(MishapError), applied_weights(pipeline.unet, weights):
        assert own["conv_in"].dtype == torch.float32
        denoiser.predict(*inputs)
        raise MishapError


# The methods on a real UNet: what they say they change is what they change.

QUICK: dict[str, Any] = {"iterations": 3, "pool_size": 4, "batch_size": 2, "learning_rate": 1e-3}
METHODS: dict[str, tuple[Any, Callable[[str], bool]]] = {
    "srs-me": (SrsMe(**QUICK), lambda name: name.endswith(("attn2.to_k", "attn2.to_v"))),
    "srs-me-joint": (SrsMeJoint(**QUICK), lambda n: n.endswith(("attn2.to_k", "attn2.to_v"))),
    "srs-me-free": (SrsMeFree(**QUICK), lambda name: ".attn2." in name),
    "esd-x": (Esd(**QUICK), lambda name: ".attn2." in name),
    "esd-u": (
        Esd(**QUICK, layers="u"),
        lambda n: (
            ".attn2." not in n and not n.startswith(("time_embedding.", "conv_norm", "conv_o"))
        ),
    ),
    "concept-ablation": (
        ConceptAblation(**QUICK),
        lambda name: name.endswith(("attn2.to_k", "attn2.to_v")),
    ),
    "forget-me-not": (ForgetMeNot(**QUICK), lambda name: ".attn2." in name),
}


@pytest.fixture
def problem() -> ErasureProblem:
    generator = torch.Generator().manual_seed(1)
    prompts, anchors = torch.randn(2, 2, LENGTH, WIDTH, generator=generator)
    rows = torch.randn(3, WIDTH, generator=generator)
    return ErasureProblem(
        prompt_embeds=prompts,
        anchor_embeds=anchors,
        name_positions=(1, 2),
        name_ends=(2, 2),
        anchor_ends=(2, 2),
        bare_names=(0,),
        empty_embeds=torch.randn(LENGTH, WIDTH, generator=generator),
        retained_rows=rows,
        preserved_rows=rows,
        null_basis=null_space_basis(rows),
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_method_changes_what_it_claims_and_continues_from_disk_with_the_same_bits(
    method: str, denoiser: Denoiser, problem: ErasureProblem, tmp_path: Path
) -> None:
    eraser, claims = METHODS[method]
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    data = TrainingData(denoiser, latents, (0, 1, 0), lambda step: None)
    whole = eraser.erase(problem, denoiser.weights, data, seed=3)
    changed = {**whole.factors, **whole.dense}
    assert changed
    assert all(claims(name) for name in changed)
    if method in ("srs-me", "srs-me-joint", "concept-ablation"):
        assert changed.keys() == denoiser.weights.keys()

    def interrupt(step: Step) -> None:
        if step.number == 2:
            raise MishapError

    unfinished = Unfinished(tmp_path / "work", interval=0.0)
    with pytest.raises(MishapError):
        stopped = replace(data, observe=interrupt, checkpoints=unfinished)
        eraser.erase(problem, denoiser.weights, stopped, seed=3)
    further: list[Step] = []
    again = Unfinished(tmp_path / "work", interval=0.0)
    rest = replace(data, observe=further.append, checkpoints=again)
    continued = eraser.erase(problem, denoiser.weights, rest, seed=3)
    assert [step.number for step in further] == [3]
    mine = {**continued.factors, **continued.dense}
    assert mine.keys() == changed.keys()
    assert all(torch.equal(mine[name], changed[name]) for name in changed)
