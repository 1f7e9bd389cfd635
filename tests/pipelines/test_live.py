"""Live switching: in place, exactly, and not at all where it would not hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.pipelines import generate_latents, layer_weights, load_pipeline, parameters
from shiftreg.pipelines.live import LiveComposer

Weights = dict[str, Tensor]


class MishapError(Exception):
    """Something that goes wrong in the middle."""


@pytest.fixture
def pipeline(base: Path) -> StableDiffusionPipeline:
    return load_pipeline(base)


@pytest.fixture
def unet(pipeline: StableDiffusionPipeline) -> nn.Module:
    return pipeline.unet


def changed(unet: nn.Module, by: float, count: int = 100) -> Weights:
    """Other weights for some layers, as a composition would have them."""
    return {name: w + by for name, w in list(layer_weights(unet).items())[:count]}


def snapshot(unet: nn.Module) -> Weights:
    return {name: p.detach().clone() for name, p in unet.named_parameters()}


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def holds(unet: nn.Module, weights: Weights) -> bool:
    own = parameters(unet)
    return all(torch.equal(own[name], weight) for name, weight in weights.items())


def predict(unet: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    embeds = torch.randn(1, 5, 8, generator=generator)
    with torch.no_grad():
        return unet(latents, torch.tensor([500]), encoder_hidden_states=embeds).sample


# Switching.


def test_weights_are_switched_and_the_base_returns_bit_for_bit(
    pipeline: StableDiffusionPipeline, unet: nn.Module
) -> None:
    base, image = snapshot(unet), predict(unet)
    one, other = changed(unet, 1.0), changed(unet, 2.0, count=2)
    bias = {"conv_in.bias": torch.full_like(unet.conv_in.bias, 3.0)}
    live = LiveComposer(pipeline)
    live.switch(one)
    assert holds(unet, one)
    assert not torch.allclose(predict(unet), image)
    live.switch(other | bias)
    # What the second composition leaves alone is the base's again.
    assert same(snapshot(unet), base | {f"{n}.weight": w for n, w in other.items()} | bias)
    live.restore()
    assert same(snapshot(unet), base)
    assert torch.equal(predict(unet), image)


def test_parameters_and_their_storages_stay_the_same_objects(unet: nn.Module) -> None:
    before = [(id(p), p.data_ptr()) for p in unet.parameters()]
    live = LiveComposer(unet)
    live.switch(changed(unet, 1.0))
    live.restore()
    assert [(id(p), p.data_ptr()) for p in unet.parameters()] == before


def test_what_is_applied_already_is_not_copied_again(unet: nn.Module) -> None:
    one = changed(unet, 1.0)
    first, second = list(one)[:2]
    live = LiveComposer(unet)
    live.switch(one)
    versions = {name: parameters(unet)[name]._version for name in one}
    live.switch(one)
    live.switch(one | {second: one[second] + 1})
    for name in one:
        copied = parameters(unet)[name]._version - versions[name]
        assert copied == (1 if name == second else 0)
    assert torch.equal(parameters(unet)[first], one[first])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_pipeline_in_half_precision_gets_what_a_cast_gives(
    base: Path, dtype: torch.dtype
) -> None:
    unet = load_pipeline(base, dtype).unet
    before = snapshot(unet)
    weights = {name: w.double() + 1 / 3 for name, w in layer_weights(unet).items()}
    with LiveComposer(unet).composed(weights):
        assert holds(unet, {name: weight.to(dtype) for name, weight in weights.items()})
    assert same(snapshot(unet), before)


def test_the_base_is_known_while_another_composition_is_applied(unet: nn.Module) -> None:
    base = {name: w.clone() for name, w in layer_weights(unet).items()}
    live = LiveComposer(unet, keep_on="cpu")
    live.switch(changed(unet, 1.0, count=2))
    assert same(live.base(base), base)
    live.switch(changed(unet, 5.0))
    assert same(live.base(base), base)


# Blocks.


def test_blocks_nest_and_each_returns_to_what_was_applied_before(unet: nn.Module) -> None:
    base = snapshot(unet)
    outer, inner = changed(unet, 1.0, count=3), changed(unet, 2.0, count=5)
    live = LiveComposer(unet)
    with live.composed(outer):
        with live.composed(inner):
            assert holds(unet, inner)
            live.switch({})
        assert same(snapshot(unet), base | {f"{n}.weight": w for n, w in outer.items()})
        with live.composed({}):
            assert same(snapshot(unet), base)
        assert holds(unet, outer)
    assert same(snapshot(unet), base)


def test_a_block_is_left_by_an_exception_too(unet: nn.Module) -> None:
    base = snapshot(unet)
    live = LiveComposer(unet)
    with pytest.raises(MishapError), live.composed(changed(unet, 1.0)):
        raise MishapError
    assert same(snapshot(unet), base)


def test_a_switch_that_fails_halfway_leaves_what_was_applied(unet: nn.Module) -> None:
    one, other = changed(unet, 1.0, count=2), changed(unet, 2.0)
    live = LiveComposer(unet)
    live.switch(one)
    applied = snapshot(unet)
    third = list(other)[2]
    other[third] = other[third].to("meta")  # there is nothing to copy
    with pytest.raises(NotImplementedError):
        live.switch(other)
    assert same(snapshot(unet), applied)
    live.restore()
    assert holds(unet, live.base(other))


# What cannot be switched.


def test_a_foreign_composition_is_refused_before_anything_changes(unet: nn.Module) -> None:
    base, weights = snapshot(unet), changed(unet, 1.0)
    live = LiveComposer(unet)
    with pytest.raises(IncompatibleError, match=r"no parameter 'mid_block\.none'"):
        live.switch(weights | {"mid_block.none": torch.ones(2)})
    last = list(weights)[-1]
    with pytest.raises(IncompatibleError, match="shape"):
        live.switch(weights | {last: weights[last][:, 1:]})
    assert same(snapshot(unet), base)


def test_values_beyond_half_precision_are_refused(base: Path) -> None:
    unet = load_pipeline(base, torch.float16).unet
    before, name = snapshot(unet), next(iter(layer_weights(unet)))
    live = LiveComposer(unet)
    for number in (1e6, torch.nan):
        with pytest.raises(InvalidInputError, match="do not fit"):
            live.switch({name: torch.full_like(parameters(unet)[name], number, dtype=torch.float)})
    assert same(snapshot(unet), before)


def test_weights_without_data_are_refused(unet: nn.Module) -> None:
    weights = changed(unet, 1.0)
    live = LiveComposer(unet)
    unet.to("meta")
    with pytest.raises(IncompatibleError, match="offloaded"):
        live.switch(weights)


def test_sequential_offloading_is_refused(unet: nn.Module) -> None:
    accelerate = pytest.importorskip("accelerate")
    weights = changed(unet, 1.0)
    live = LiveComposer(unet)
    accelerate.cpu_offload(unet, execution_device="cpu")
    with pytest.raises(IncompatibleError, match="offloaded"):
        live.switch(weights)


def test_models_that_are_offloaded_as_a_whole_are_switched(
    pipeline: StableDiffusionPipeline, base: Path
) -> None:
    pytest.importorskip("accelerate")
    repeat = partial(generate_latents, prompts=["a"], seeds=[0], steps=2, guidance=3.0)
    weights = changed(pipeline.unet, 1.0)
    before = repeat(pipeline)
    with LiveComposer(pipeline).composed(weights):
        wanted = repeat(pipeline)
    assert not torch.allclose(wanted, before)
    offloaded = load_pipeline(base)
    # The hooks are the same for any device: they move a whole model when it is called, and back.
    offloaded.enable_model_cpu_offload(device="cpu")
    live = LiveComposer(offloaded)
    for _ in range(2):  # what is away at first, and what has been there and back
        with live.composed(weights):
            assert torch.equal(repeat(offloaded), wanted)
        assert torch.equal(repeat(offloaded), before)
    offloaded.maybe_free_model_hooks()
    assert torch.equal(repeat(offloaded), before)


def test_offloading_in_groups_is_refused(unet: nn.Module) -> None:
    pytest.importorskip("accelerate")
    weights = changed(unet, 1.0)
    live = LiveComposer(unet)
    unet.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")
    with pytest.raises(IncompatibleError, match="in groups"):
        live.switch(weights)


def test_quantised_weights_are_refused(unet: nn.Module) -> None:
    class PackedParameter(nn.Parameter):
        pass

    weights = changed(unet, 1.0)
    name = next(iter(weights))
    layer = unet.get_submodule(name)
    live = LiveComposer(unet)
    layer.weight = PackedParameter(weights[name].to(torch.uint8), requires_grad=False)
    with pytest.raises(IncompatibleError, match=r"PackedParameter, torch\.uint8"):
        live.switch(weights)
    layer.weight = nn.Parameter(weights[name].to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(IncompatibleError, match="float8"):
        live.switch(weights)


def test_fused_projections_are_refused_until_they_are_apart_again(unet: nn.Module) -> None:
    weights = changed(unet, 1.0)
    live = LiveComposer(unet)
    unet.fuse_qkv_projections()
    with pytest.raises(IncompatibleError, match="unfuse_qkv_projections"):
        live.switch(weights)
    unet.unfuse_qkv_projections()
    live.switch(weights)
    assert holds(unet, weights)


# Compiled models.


class Attention(nn.Module):
    """Two layers of the kind that shifts change."""

    def __init__(self) -> None:
        super().__init__()
        self.to_k, self.to_v = nn.Linear(8, 6, bias=False), nn.Linear(8, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.to_k(x) * x.mean()).softmax(dim=-1) + self.to_v(x).relu()


class Counting:
    """A compiler that only counts what it is asked to compile."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_a_compiled_model_follows_without_compiling_again(fresh_compiler: None) -> None:
    model = Attention().requires_grad_(False)
    weights = {name: torch.full((6, 8), 0.1) for name in ("to_k", "to_v")}
    x, counting = torch.randn(3, 8), Counting()
    compiled = torch.compile(model, backend=counting)
    before, graphs = compiled(x), counting.graphs
    assert graphs
    live = LiveComposer(compiled)  # finds the layers within the compiler's wrapper
    with live.composed(weights):
        assert torch.equal(compiled(x), model(x))
        assert not torch.allclose(compiled(x), before, atol=1e-3)
    assert torch.equal(compiled(x), before)
    assert counting.graphs == graphs


def test_a_compiled_unet_follows_without_compiling_again(
    pipeline: StableDiffusionPipeline, unet: nn.Module, fresh_compiler: None
) -> None:
    weights, counting = changed(unet, 1.0), Counting()
    with LiveComposer(unet).composed(weights):
        wanted = predict(unet)
    before = predict(unet)
    pipeline.unet = torch.compile(unet, backend=counting)
    live = LiveComposer(pipeline)
    assert torch.equal(predict(pipeline.unet), before)
    graphs = counting.graphs
    with live.composed(weights):
        assert torch.equal(predict(pipeline.unet), wanted)
    assert torch.equal(predict(pipeline.unet), before)
    assert counting.graphs == graphs


@pytest.mark.second_tier
@pytest.mark.skipif(not shutil.which("c++"), reason="generated code needs a C++ compiler")
def test_generated_code_follows_too(fresh_compiler: None) -> None:
    model = Attention().requires_grad_(False)
    weights = {name: torch.full((6, 8), 0.1) for name in ("to_k", "to_v")}
    x, compiled = torch.randn(3, 8), torch.compile(model)
    live = LiveComposer(compiled)
    before = compiled(x)
    with live.composed(weights):
        assert torch.allclose(compiled(x), model(x), atol=1e-6)
        assert not torch.allclose(compiled(x), before, atol=1e-3)
    assert torch.equal(compiled(x), before)
