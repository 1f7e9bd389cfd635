"""Where a concept's name begins and ends in a prompt, in tokens of the miniature."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

from shiftreg import miniature
from shiftreg.concepts import PROMPT_TEMPLATES, Concept, PromptPair, fill
from shiftreg.errors import InvalidInputError
from shiftreg.pipelines import (
    encode_prompts,
    last_positions,
    load_pipeline,
    name_ends,
    name_positions,
)

# One token, several of them, an unknown word that falls into pieces, another alphabet's letters.
NAMES = ("Picasso", "Van Gogh", "Kelly McKernan", "Zdzisław Bek", "J. Čapek", "Ada Nox")
SUBJECTS = ("church", "chain saw", "english springer")
VOWELS = ("unicycle", "apple", "english springer")
LIMIT = 16


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return load_pipeline(miniature.BASE_FOLDER)


def count(pipeline: StableDiffusionPipeline, text: str) -> int:
    """Tokens of a text without BOS and EOS."""
    return len(pipeline.tokenizer(text)["input_ids"]) - 2


def fitting_pairs(pipeline: StableDiffusionPipeline, concept: Concept) -> list[PromptPair]:
    pairs = concept.prompt_pairs(SUBJECTS)
    return [pair for pair in pairs if count(pipeline, pair.prompt) <= LIMIT - 2]


def spelled(name: str, prompt: str) -> tuple[str, str]:
    """A prompt up to its name, without and with it."""
    before = prompt[: prompt.rindex(name)]
    return before, before + name


@pytest.mark.parametrize("name", NAMES)
def test_a_style_s_name_begins_and_ends_where_it_is_spelled_in_every_prompt(
    pipeline: StableDiffusionPipeline, name: str
) -> None:
    pairs = fitting_pairs(pipeline, Concept(name, kind="style"))
    assert len(pairs) >= 5, "hardly a prompt fits"
    texts = [spelled(name, pair.prompt) for pair in pairs]
    assert name_positions(pipeline, pairs) == [count(pipeline, text) + 1 for text, _ in texts]
    assert name_ends(pipeline, pairs) == [count(pipeline, text) for _, text in texts]


@pytest.mark.parametrize("name", ["golf ball", "parachute", "vitamin a", *VOWELS])
def test_an_object_s_name_begins_no_later_than_it_is_spelled(
    pipeline: StableDiffusionPipeline, name: str
) -> None:
    pairs = fitting_pairs(pipeline, Concept(name, kind="object"))
    assert len(pairs) == len(PROMPT_TEMPLATES["object"])
    texts = [spelled(name, pair.prompt) for pair in pairs]
    # "an" belongs to what differs from the prompt without the name.
    assert name_positions(pipeline, pairs) == [
        count(pipeline, before) + (0 if before.endswith("an ") else 1) for before, _ in texts
    ]


@pytest.mark.parametrize(
    "name",
    [
        "golf ball",
        "parachute",
        *VOWELS,
        "vitamin a",
    ],
)
def test_an_object_s_name_ends_where_it_is_spelled(
    pipeline: StableDiffusionPipeline, name: str
) -> None:
    pairs = fitting_pairs(pipeline, Concept(name, kind="object"))
    texts = [spelled(name, pair.prompt) for pair in pairs]
    assert name_ends(pipeline, pairs) == [count(pipeline, text) for _, text in texts]


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("a painting by {concept}, a church", "Van Gogh"),
        ("a {concept} church", "a church"),  # a name that begins like the word before it
        ("{concept} a church", "Picasso"),
    ],
)
def test_what_follows_the_name_is_not_part_of_it(
    pipeline: StableDiffusionPipeline, template: str, name: str
) -> None:
    prompt, stem = template.replace("{concept}", name), fill(template)
    pair = PromptPair(prompt, stem, "a painting")
    (begin,), (end,) = name_positions(pipeline, [pair]), name_ends(pipeline, [pair])
    ids = pipeline.tokenizer(prompt)["input_ids"]
    left = ids[:begin] + ids[end + 1 :]
    assert left == pipeline.tokenizer(stem)["input_ids"]
    assert 1 <= begin <= end <= len(ids) - 2


def test_rows_before_the_name_are_common_to_all_names_and_the_row_after_it_is_not(
    pipeline: StableDiffusionPipeline,
) -> None:
    pairs = [
        PromptPair(f"a painting by {name}", "a painting by", "a painting")
        for name in ("Picasso", "Cezanne")
    ]
    begin, other = name_positions(pipeline, pairs)
    assert begin == other == 4
    one, two = encode_prompts(pipeline, [pair.prompt for pair in pairs])
    assert torch.allclose(one[:begin], two[:begin], atol=1e-5)
    assert not torch.allclose(one[begin], two[begin], atol=1e-2)


def test_a_prompt_without_its_name_ends_within_itself(pipeline: StableDiffusionPipeline) -> None:
    pair = PromptPair("a painting", "a painting", "a painting")
    (end,) = name_ends(pipeline, [pair])
    assert end <= count(pipeline, "a painting")


def test_the_last_word_ends_before_eos_and_an_empty_prompt_has_nothing_but_bos(
    pipeline: StableDiffusionPipeline,
) -> None:
    prompts = ["", "Picasso", "a painting by Van Gogh", "a picture of a garbage truck"]
    positions = last_positions(pipeline, prompts)
    assert positions == [count(pipeline, prompt) for prompt in prompts]
    assert positions[0] == 0
    tokenizer = pipeline.tokenizer
    for prompt, position in zip(prompts, positions, strict=True):
        ids = tokenizer(prompt)["input_ids"]
        assert ids[position + 1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[1 : position + 1]).strip() == prompt.lower()
    assert last_positions(pipeline, []) == []
    assert name_ends(pipeline, []) == []


def test_what_is_too_long_is_refused_by_all_of_them(pipeline: StableDiffusionPipeline) -> None:
    long = "a painting of " + "a church and " * 8
    assert last_positions(pipeline, ["church " * (LIMIT - 2)]) == [LIMIT - 2]
    with pytest.raises(InvalidInputError, match="at most 14 tokens"):
        last_positions(pipeline, [long])
    for locate in (name_positions, name_ends):
        with pytest.raises(InvalidInputError, match="at most 14 tokens"):
            locate(pipeline, [PromptPair(long, "a painting", "a painting")])
