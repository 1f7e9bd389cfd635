"""Ring-A-Bell: prompts are bred by the text encoder alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from shiftreg.attacks import RingABell, RingABellSoft, Surface
from shiftreg.erasers import Step
from shiftreg.errors import InvalidInputError

QUICK = RingABell(tokens=4, population=12, generations=20, prompts=2)


@pytest.fixture
def model_free(surface: Surface) -> Surface:
    """Nothing of the model may be touched."""
    nothing: Any = None
    return replace(surface, model=nothing, base_weights={}, latents=torch.zeros(0))


def test_what_is_found_is_text_and_its_embeddings_without_asking_the_model(
    model_free: Surface,
) -> None:
    found = QUICK.run(model_free, 0)
    texts = found.text.strip('"').split('", "')
    assert len(texts) == 2
    assert torch.equal(found.prompt_embeds, model_free.words.encode(texts))
    assert all(len(model_free.words.token_ids(text)) == 4 for text in texts)


def test_each_generation_is_at_least_as_near_as_the_one_before(
    model_free: Surface, steps: list[Step]
) -> None:
    found = QUICK.run(model_free, 0)
    distances = [step.values["distance"] for step in steps]
    assert [(step.number, step.limit) for step in steps] == [(i, 40) for i in range(1, 41)]
    for one in (distances[:20], distances[20:]):
        assert one == sorted(one, reverse=True)
        assert one[-1] < one[0]
    assert found.metrics["distance"] == pytest.approx((distances[19] + distances[39]) / 2)


def test_with_patience_it_finds_the_prompt_that_is_meant(model_free: Surface) -> None:
    # Neutral prompt + 1 x (concept - anchor) is the concept's own prompt.
    meant = replace(model_free, prompts=("n o x",), anchors=("a b",))
    attack = RingABell(
        strength=1, tokens=3, population=200, generations=40, mutation=0.2, prompts=1
    )
    found = attack.run(meant, 0)
    assert found.text == '"n o x"'
    assert found.metrics["distance"] == pytest.approx(0, abs=1e-6)


def test_no_more_prompts_are_sought_than_there_are_neutral_ones(model_free: Surface) -> None:
    found = replace(QUICK, prompts=9, generations=1).run(model_free, 0)
    assert len(found.prompt_embeds) <= 3  # two of the four anchors are the same


def test_the_budget_bounds_the_prompts_that_are_encoded(model_free: Surface) -> None:
    real, encoded = model_free.words, []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def encode(self, prompts: Any) -> Any:
            encoded.extend(prompts)
            return real.encode(prompts)

    counting: Any = Counting()
    QUICK.run(replace(model_free, words=counting), 0)
    assert len(encoded) <= 8 + 2 + 2 * (12 + 19 * 6) + 2


@pytest.mark.parametrize("population", [2, 3])
@pytest.mark.parametrize("tokens", [1, 2])
def test_the_smallest_searches_run(model_free: Surface, population: int, tokens: int) -> None:
    small = replace(QUICK, population=population, tokens=tokens, generations=2)
    assert len(small.run(model_free, 0).prompt_embeds) == 2


def test_the_seed_decides(repeats: Callable[..., tuple[bool, bool]]) -> None:
    assert repeats(replace(QUICK, generations=3)) == (True, False)


def test_prompts_that_are_too_long_are_refused(model_free: Surface) -> None:
    with pytest.raises(InvalidInputError, match="at most 62 tokens"):
        replace(QUICK, tokens=63).run(model_free, 0)


@pytest.mark.parametrize("field", ["strength", "tokens", "generations", "mutation", "prompts"])
def test_a_budget_that_is_none_is_refused(field: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{field} must be a positive number"):
        replace(QUICK, **{field: 0})
    with pytest.raises(InvalidInputError, match="population must be 2 or more"):
        replace(QUICK, population=1)


def test_the_soft_one_adds_the_concept_to_neutral_prompts(
    model_free: Surface, repeats: Callable[..., tuple[bool, bool]]
) -> None:
    words = model_free.words
    found = RingABellSoft(strength=2, prompts=2).run(model_free, 0).prompt_embeds
    direction = (words.encode(model_free.prompts) - words.encode(model_free.anchors)).mean(dim=0)
    neutral = words.encode(["a painting", "a picture"])
    assert torch.allclose(found, neutral + 2 * direction)
    assert repeats(RingABellSoft()) == (True, True)
    with pytest.raises(InvalidInputError, match="strength must be a positive number"):
        RingABellSoft(strength=0)
