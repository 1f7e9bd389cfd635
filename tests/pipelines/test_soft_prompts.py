"""Soft prompts: vectors in the place of words, and words in the place of vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from shiftreg import miniature
from shiftreg.errors import InvalidInputError
from shiftreg.pipelines import SoftPrompts, encode_prompts, load_pipeline

TEMPLATES = ("{}", "a painting by {}", "{}'s church", "a {}, kilian style", " {} ")
NAMES = ("Picasso", "Van Gogh", "Zdzisław")


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return load_pipeline(miniature.BASE_FOLDER)


@pytest.fixture
def words(pipeline: StableDiffusionPipeline) -> Iterator[SoftPrompts]:
    """After every test the text encoder is free of hooks and gradients."""
    yield SoftPrompts(pipeline)
    assert not any(module._forward_hooks for module in pipeline.text_encoder.modules())
    assert all(p.grad is None for p in pipeline.text_encoder.parameters())


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", NAMES)
def test_vectors_of_real_tokens_give_the_very_embedding_of_the_prompt(
    pipeline: StableDiffusionPipeline, words: SoftPrompts, template: str, name: str
) -> None:
    vectors = words.vectors(words.token_ids(name))
    (expected,) = encode_prompts(pipeline, [template.replace("{}", name)])
    assert torch.equal(words.embed(vectors, template), expected)


def test_the_embedding_is_differentiable_in_the_vectors(words: SoftPrompts) -> None:
    vectors = words.vectors(words.token_ids("van gogh")).requires_grad_(True)
    embeds = words.embed(vectors, "a painting by {}")
    before, first, last = (embeds[row].sum() for row in (3, 4, -1))
    # The encoder is causal: rows before the vectors do not know them.
    (none,) = torch.autograd.grad(before, vectors, retain_graph=True)
    assert not none.any()
    (own,) = torch.autograd.grad(first, vectors, retain_graph=True)
    assert own[0].any()
    assert not own[1].any()
    (both,) = torch.autograd.grad(last, vectors)
    assert both.any(dim=1).all()


def test_other_vectors_give_another_embedding_from_their_place_on(words: SoftPrompts) -> None:
    vectors = words.vectors(words.token_ids("picasso"))
    one, other = (words.embed(v, "a painting by {}") for v in (vectors, vectors.flip(1)))
    assert torch.allclose(one[:4], other[:4], atol=1e-6)
    assert not torch.isclose(one[4:], other[4:], atol=1e-4).all(dim=1).any()


def test_no_vector_at_all_is_the_prompt_without(words: SoftPrompts) -> None:
    none = words.vectors([])
    assert none.shape == (0, 256)
    assert torch.equal(words.embed(none, "a painting by {}"), words.encode(["a painting by"])[0])


def test_as_many_vectors_fit_as_tokens_do(words: SoftPrompts) -> None:
    full = words.vocabulary[:11]
    assert words.embed(full, "a painting by {}").shape == (16, 256)
    with pytest.raises(InvalidInputError, match=r"at most 14 tokens here.*has 15"):
        words.embed(words.vocabulary[:12], "a painting by {}")
    with pytest.raises(InvalidInputError, match="at most 14 tokens"):
        words.embed(full, "church " * 15 + "{}")


@pytest.mark.parametrize("template", ["a painting", "{} by {}", ""])
def test_a_template_without_one_slot_is_refused(words: SoftPrompts, template: str) -> None:
    with pytest.raises(InvalidInputError, match=r"holds '\{\}' once"):
        words.embed(words.vocabulary[:1], template)


def test_a_hook_is_taken_off_when_the_encoder_fails(words: SoftPrompts) -> None:
    with pytest.raises(RuntimeError):
        words.embed(torch.zeros(1, 7))  # the fixture looks for hooks


def test_every_token_of_the_vocabulary_can_be_typed(
    pipeline: StableDiffusionPipeline, words: SoftPrompts
) -> None:
    ids = words.vocabulary_ids
    assert len(ids) == len(set(ids)) > 100
    for token in ids:
        text = words.text([token])
        assert words.token_ids(text) == [token]
        assert text.isprintable()
    special = pipeline.tokenizer.all_special_ids
    assert not set(ids) & set(special)
    assert {"caravaggio", "painting", "a"} <= {words.text([token]) for token in ids}
    assert torch.equal(words.vocabulary, words.vectors(ids))
    assert words.vocabulary.dtype == torch.float32


def test_text_and_tokens_lead_to_each_other(words: SoftPrompts) -> None:
    text = "a painting by jackson pollock"
    assert words.text(words.token_ids(text)) == text
    assert words.token_ids("") == []
    assert words.text([]) == ""
    with pytest.raises(InvalidInputError, match="at most 14 tokens"):
        words.token_ids("church " * 15)


def test_prompts_are_encoded_as_the_pipeline_does(
    pipeline: StableDiffusionPipeline, words: SoftPrompts
) -> None:
    prompts = ["", "Picasso", "a painting by Van Gogh"]
    assert torch.equal(words.encode(prompts), encode_prompts(pipeline, prompts))


def test_any_clip_text_encoder_will_do(stable_diffusion_base: Path) -> None:
    words = SoftPrompts(load_pipeline(stable_diffusion_base, torch.float16))
    assert [words.text([token]) for token in words.vocabulary_ids] == list(
        "abcdefghijklmnopqrstuvwxyz"
    )
    vectors = words.vectors(words.token_ids("nox"))
    assert vectors.dtype == torch.float32
    assert torch.equal(words.embed(vectors, "a {} x"), words.encode(["a nox x"])[0])
