"""Every family by its structure: layers, embeddings, predictions, images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, PixArtAlphaPipeline
from torch import Tensor

from shiftreg import pipelines
from shiftreg.concepts import Concept
from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.pipelines.families import family_of

WIDTH = 96
PROMPTS = ["a cat by ann", "a dog", ""]
LAYERS = {
    "sd1": 2 * 3,  # one in the first block down, two in the last block up
    "sd2": 2 * 3,
    "sdxl": 2 * (2 + 2 * 2 + 2),  # two layers a transformer; one in the middle
    "pixart-alpha": 2 * 2,
}


def test_the_layers_are_those_whose_input_is_the_prompt_alone(
    pipeline: DiffusionPipeline, family: str
) -> None:
    network = pipelines.network_of(pipeline)
    layers = pipelines.image_independent_layers(network)
    assert layers.keys() == pipelines.text_only_layers(pipeline)
    assert {layer.in_features for layer in layers.values()} == {WIDTH}
    assert all(".attn2.to_" in name for name in layers)
    # The transformer in the middle of SD has a cross-attention of its own.
    assert len(layers) == LAYERS[family] + (2 if family in ("sd1", "sd2") else 0)
    pipelines.check_image_independence(pipeline)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_layer_that_sees_the_image_is_refused(pipeline: DiffusionPipeline, family: str) -> None:
    network = pipelines.network_of(pipeline)
    own = next(m for n, m in network.named_modules() if n.endswith("attn1"))
    own.is_cross_attention = True
    own.to_k.in_features, before = WIDTH, own.to_k.in_features
    own.to_v.in_features = WIDTH
    try:
        with pytest.raises(IncompatibleError, match="also sees the image"):
            pipelines.check_image_independence(pipeline)
    finally:
        own.is_cross_attention = False
        own.to_k.in_features = own.to_v.in_features = before


def received(pipeline: DiffusionPipeline, prompts: list[str]) -> Tensor:
    """What the first cross-attention's keys get while the pipeline itself generates."""
    layer = next(iter(pipelines.image_independent_layers(pipelines.network_of(pipeline)).values()))
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        pipelines.generate_latents(pipeline, prompts, [0] * len(prompts), steps=2, guidance=1.0)
    finally:
        handle.remove()
    return seen[0]


def test_prompts_are_encoded_as_cross_attention_receives_them(pipeline: DiffusionPipeline) -> None:
    embeds = pipelines.encode_prompts(pipeline, PROMPTS)
    expected = received(pipeline, PROMPTS)
    assert embeds.shape == (len(PROMPTS), family_of(pipeline).length, WIDTH)
    attended = family_of(pipeline).attended(embeds)
    if attended is None:
        attended = torch.ones(embeds.shape[:2], dtype=torch.bool)
    assert torch.allclose(embeds[attended], expected[attended], atol=1e-5)
    assert not embeds[~attended].any()


def test_padding_of_pixart_is_nobody_s(pipeline: DiffusionPipeline, family: str) -> None:
    embeds = pipelines.encode_prompts(pipeline, PROMPTS)
    attended = embeds.ne(0).any(dim=-1)
    if family == "pixart-alpha":
        assert attended.sum(dim=1).tolist() == [10, 5, 1]  # letters, and EOS
        positions = pipelines.last_positions(pipeline, PROMPTS)
        assert positions == [8, 3, 0]
    else:
        assert attended.all()


def test_positions_follow_the_encoder_s_direction(pipeline: DiffusionPipeline, family: str) -> None:
    pairs = Concept("ann").prompt_pairs(["cat"])[:2]
    assert [pair.prompt for pair in pairs] == ["ann", "a painting by ann"]
    starts, ends = pipelines.name_positions(pipeline, pairs), pipelines.name_ends(pipeline, pairs)
    if family == "pixart-alpha":
        assert (starts, ends) == ([0, 0], [2, 13])
    else:
        assert (starts, ends) == ([1, 12], [3, 14])


def test_a_prompt_that_is_too_long_is_refused_with_the_number_of_words_that_fit(
    pipeline: DiffusionPipeline, family: str
) -> None:
    limit = 119 if family == "pixart-alpha" else 22
    assert pipelines.token_limit(pipeline) == limit
    words = " ".join("a" * (limit + 1))
    assert pipelines.fitting(pipeline, [words[2:], words]) == [True, False]
    with pytest.raises(InvalidInputError, match=f"at most {limit} tokens here.*has {limit + 1}:"):
        pipelines.encode_prompts(pipeline, [words])


def test_sigma_differs_from_alpha_in_the_length_of_its_prompts(saved: Any) -> None:
    pipeline = pipelines.load_pipeline(saved("pixart-sigma"))
    assert pipelines.token_limit(pipeline) == 299
    embeds = pipelines.encode_prompts(pipeline, PROMPTS)
    assert embeds.shape == (3, 300, WIDTH)
    assert torch.allclose(embeds[0, :10], received(pipeline, PROMPTS)[0, :10], atol=1e-5)


class StoppedError(Exception):
    """What was looked for has been seen."""


def told(pipeline: DiffusionPipeline, prompts: Any, guidance: float) -> dict[str, Any]:
    """What the pipeline tells its network in the first step of an image."""
    seen: dict[str, Any] = {}

    def look(_module: Any, _arguments: Any, options: dict[str, Any]) -> None:
        seen.update(options)
        raise StoppedError

    network = pipelines.network_of(pipeline)
    handle = network.register_forward_pre_hook(look, with_kwargs=True)
    try:
        pipelines.generate_latents(
            pipeline, prompts, [0] * len(prompts), steps=2, guidance=guidance
        )
    except StoppedError:
        return seen
    finally:
        handle.remove()
    raise AssertionError


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.allclose(one.float(), other.float(), atol=1e-6)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one is other


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_the_network_is_told_what_the_pipeline_itself_tells_it(
    pipeline: DiffusionPipeline, guidance: float
) -> None:
    embeds = pipelines.encode_prompts(pipeline, PROMPTS)
    expected = told(pipeline, embeds, guidance)
    mine = family_of(pipeline).inputs(embeds, guided=guidance > 1)
    assert all(same(value, expected[name]) for name, value in mine.items())


def test_pixart_at_its_largest_is_told_its_size(saved: Any) -> None:
    pipeline = pipelines.load_pipeline(saved("pixart-alpha"))
    from shiftreg.pipelines.families.pixart import PixArt

    torch.manual_seed(0)
    network = type(pipeline.transformer).from_config(
        pipeline.transformer.config, sample_size=128, use_additional_conditions=None
    )
    large = PixArtAlphaPipeline(**{**pipeline.components, "transformer": network.eval()})
    large.set_progress_bar_config(disable=True)
    embeds = pipelines.encode_prompts(large, PROMPTS[:2])
    mine = PixArt(large).inputs(embeds, guided=True)
    assert same(mine["added_cond_kwargs"], told(large, embeds, 4.5)["added_cond_kwargs"])
    assert mine["added_cond_kwargs"]["resolution"].shape == (4, 2)


def test_embeddings_generate_what_their_words_generate(
    pipeline: DiffusionPipeline, family: str
) -> None:
    options: dict[str, Any] = {"steps": 2, "guidance": 3.0}
    empty = [""] if family == "sdxl" else PROMPTS  # else the pooled embedding differs
    words = pipelines.generate_latents(pipeline, empty, range(len(empty)), **options)
    embeds = pipelines.encode_prompts(pipeline, empty)
    assert torch.allclose(
        pipelines.generate_latents(pipeline, embeds, range(len(empty)), **options), words, atol=1e-5
    )
    assert pipelines.network_of(pipeline).training is False


def test_words_bring_the_pooled_embedding_of_sdxl_and_embeddings_that_of_no_words(
    saved: Any,
) -> None:
    pipeline = pipelines.load_pipeline(saved("sdxl"))
    options: dict[str, Any] = {"steps": 2, "guidance": 3.0}
    words = pipelines.generate_latents(pipeline, PROMPTS[:1], [0], **options)
    embeds = pipelines.encode_prompts(pipeline, PROMPTS[:1])
    assert not torch.allclose(pipelines.generate_latents(pipeline, embeds, [0], **options), words)
    pooled = [
        told(pipeline, one, 1.0)["added_cond_kwargs"]["text_embeds"] for one in (embeds, [""])
    ]
    assert torch.allclose(*pooled, atol=1e-6)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_continuing_from_nothing_is_generating(
    pipeline: DiffusionPipeline, guidance: float
) -> None:
    embeds = pipelines.encode_prompts(pipeline, PROMPTS[:2])
    options: dict[str, Any] = {"steps": 2, "guidance": guidance}
    start = pipelines.generate_latents(pipeline, embeds, [5, 6], **options)
    generated = pipelines.generate(pipeline, embeds, [0, 1], **options)
    size = pipelines.image_size(pipeline)
    assert generated.shape == (2, *size[::-1], 3)
    again = pipelines.continue_images(pipeline, embeds, [0, 1], start, strength=1.0, **options)
    assert np.abs(again.astype(int) - generated).max() <= 1
    half = pipelines.continue_images(pipeline, embeds, [0, 1], start, strength=0.5, **options)
    assert half.shape == generated.shape


# Predictions.


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def untouched(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test the base is what it was, caption projection included."""
    if "pipeline" not in request.fixturenames:
        yield
        return
    network = pipelines.network_of(request.getfixturevalue("pipeline"))
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    yield
    after = dict(network.named_parameters())
    assert list(before) == list(after)
    assert all(torch.equal(before[name], value) for name, value in after.items())


def test_the_predicted_noise_is_the_first_half_of_what_learned_a_variance_too(
    pipeline: DiffusionPipeline, latents: Tensor
) -> None:
    steps = torch.tensor([900, 500, 100])
    embeds = pipelines.encode_prompts(pipeline, PROMPTS)
    denoiser = pipelines.Denoiser(pipeline)
    predicted = denoiser.predict(latents, steps, embeds)
    assert predicted.shape == latents.shape
    one = denoiser.predict(latents[1:2], steps[1:2], embeds[1:2])
    assert torch.allclose(one, predicted[1:2], atol=1e-5)


def test_v_and_images_are_turned_into_noise(saved: Any, latents: Tensor) -> None:
    pipeline = pipelines.load_pipeline(saved("sd2"))
    steps = torch.tensor([900, 500, 100])
    embeds = pipelines.encode_prompts(pipeline, PROMPTS)
    alpha = pipeline.scheduler.alphas_cumprod[steps][:, None, None, None]
    for target in ("v_prediction", "sample"):
        pipeline.scheduler = DDIMScheduler.from_config(
            pipeline.scheduler.config, prediction_type=target
        )
        denoiser = pipelines.Denoiser(pipeline)
        output = denoiser.output(latents, steps, embeds)
        noise = denoiser.predict(latents, steps, embeds)
        image = (latents - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        expected = alpha.sqrt() * latents - (1 - alpha).sqrt() * output
        assert torch.allclose(
            image, expected if target == "v_prediction" else output, rtol=1e-3, atol=1e-3
        )


def test_a_schedule_of_another_kind_is_refused(saved: Any) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipeline = pipelines.load_pipeline(saved("sd1"))
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(IncompatibleError, match="schedule of a diffusion model"):
        pipelines.Denoiser(pipeline)


def test_attention_maps_give_nothing_to_padding_that_is_masked(
    pipeline: DiffusionPipeline, latents: Tensor, family: str
) -> None:
    embeds = pipelines.encode_prompts(pipeline, PROMPTS)
    maps = pipelines.Denoiser(pipeline).attention(latents, torch.tensor([500] * 3), embeds)
    assert len(maps) == len(pipelines.image_independent_layers(pipelines.network_of(pipeline))) / 2
    for one in maps:
        assert torch.allclose(one.sum(dim=-1), torch.ones(()), atol=1e-5)
        if family == "pixart-alpha":
            assert not one[1, :, :, 5:].any()


def test_no_parameter_is_left_out_but_those_of_time_and_output(
    pipeline: DiffusionPipeline, family: str
) -> None:
    denoiser = pipelines.Denoiser(pipeline)
    names = set(pipelines.parameters(pipelines.network_of(pipeline)))
    apart = names - {*denoiser.others, *denoiser.cross_attention}
    assert {name.split(".")[0] for name in apart} == (
        {"adaln_single", "caption_projection", "scale_shift_table", "proj_out"}
        if family == "pixart-alpha"
        else {"time_embedding", "conv_norm_out", "conv_out"}
        | ({"add_embedding"} if family == "sdxl" else set())
    )


# Words of an attacker's own.


def test_vectors_of_real_tokens_encode_as_their_words_do(pipeline: DiffusionPipeline) -> None:
    words = pipelines.SoftPrompts(pipeline)
    ids = words.token_ids("ann")
    assert len(ids) == 3
    assert words.vectors(ids).shape[0] == 3
    assert len(words.vocabulary_ids) >= 26
    soft = words.embed(words.vectors(ids), "a cat by {}")
    assert torch.allclose(soft, words.encode(["a cat by ann"])[0], atol=1e-5)
    vectors = words.vectors(ids).requires_grad_(True)
    words.embed(vectors, "{}").square().mean().backward()
    assert vectors.grad is not None
    assert vectors.grad.ne(0).any(dim=0).all(), "both encoders take part"


def test_a_live_pipeline_is_switched_whatever_its_network_is(pipeline: DiffusionPipeline) -> None:
    network = pipelines.network_of(pipeline)
    name, weight = next(iter(pipelines.layer_weights(network).items()))
    live = pipelines.LiveComposer(pipeline)
    with live.composed({name: weight + 1}):
        assert torch.equal(pipelines.layer_weights(network)[name], live.base([name])[name] + 1)
    assert torch.equal(pipelines.layer_weights(network)[name], weight)


def test_a_base_folder_tells_its_parts(folder: Path) -> None:
    assert pipelines.resolve_source(str(folder)) == folder.resolve()
