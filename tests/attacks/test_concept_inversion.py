"""Concept Inversion: vectors are learned, the model is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftreg.attacks import ConceptInversion, Surface
from shiftreg.erasers import Step
from shiftreg.errors import InvalidInputError

QUICK = ConceptInversion(iterations=12, batch_size=2, pool_size=16, learning_rate=0.05)


def test_the_loss_falls_below_that_of_the_name_and_the_best_is_kept(
    surface: Surface, steps: list[Step]
) -> None:
    found = QUICK.run(surface, 0)
    assert found.metrics["loss"] < found.metrics["loss_before"]
    bests = [step.values["best"] for step in steps]
    assert bests == sorted(bests, reverse=True)
    assert found.metrics["loss"] == bests[-1]
    assert [(step.number, step.limit) for step in steps] == [(i, 12) for i in range(1, 13)]


def test_a_rate_that_destroys_everything_leaves_what_it_started_from(surface: Surface) -> None:
    wild = replace(QUICK, iterations=2, learning_rate=1e4)
    found = wild.run(surface, 0)
    assert found.metrics["loss"] <= found.metrics["loss_before"]


def test_the_target_is_used_and_left_as_it_was(surface: Surface, model: Any) -> None:
    before = {name: weight.clone() for name, weight in model.weights.items()}
    found = replace(QUICK, iterations=2).run(surface, 0)
    assert all(torch.equal(weight, before[name]) for name, weight in model.weights.items())
    assert found.deltas == {}
    assert found.start is None
    assert not found.prompt_embeds.requires_grad


def test_the_vectors_stand_in_each_prompt_in_the_place_of_the_name(surface: Surface) -> None:
    words, heard = surface.words, []

    class Listening:
        def __getattr__(self, name: str) -> Any:
            return getattr(words, name)

        def embed(self, vectors: Tensor, template: str = "{}") -> Tensor:
            heard.append((vectors.detach().clone(), template))
            return words.embed(vectors, template)

    listening: Any = Listening()
    found = replace(QUICK, iterations=2).run(replace(surface, words=listening), 0)
    shown = [template for _, template in heard[-3:]]
    assert shown == ["{}", "a {}", "art by {}"]  # "adas art" does not hold the name
    vectors = heard[-1][0]
    expected = torch.stack([words.embed(vectors, template) for template in shown])
    assert torch.equal(found.prompt_embeds, expected)
    assert {template for _, template in heard} == set(shown)
    first = words.vectors(words.token_ids("nox")).mean(dim=0)
    assert torch.equal(heard[0][0], first[None])


def test_it_may_start_from_another_word_and_learn_several_vectors(surface: Surface) -> None:
    several = replace(QUICK, start="art", tokens=3, iterations=2)
    found = several.run(surface, 0)
    assert "3 learned tokens" in found.text
    own = replace(QUICK, iterations=1).run(surface, 0)
    assert found.metrics["loss_before"] != own.metrics["loss_before"]


def test_a_prompt_without_room_for_the_vectors_is_passed_over(surface: Surface) -> None:
    found = replace(QUICK, tokens=60, iterations=1).run(surface, 0)  # 62 tokens fit
    assert len(found.prompt_embeds) == 2
    with pytest.raises(InvalidInputError, match="at most 62 tokens"):
        replace(QUICK, tokens=63).run(surface, 0)


@pytest.mark.parametrize(("iterations", "checks"), [(1, 2), (10, 2), (12, 3)])
def test_the_budget_bounds_the_predictions(
    surface: Surface, model: Any, iterations: int, checks: int
) -> None:
    replace(QUICK, iterations=iterations).run(surface, 0)
    assert model.asked == 16 + 2 * iterations + 16 * checks


def test_the_seed_decides(repeats: Callable[..., tuple[bool, bool]]) -> None:
    assert repeats(replace(QUICK, iterations=3)) == (True, False)


def test_a_start_without_a_token_is_refused(surface: Surface) -> None:
    with pytest.raises(InvalidInputError, match="start must be a word"):
        replace(QUICK, start=" ").run(surface, 0)


@pytest.mark.parametrize(
    "field", ["tokens", "iterations", "learning_rate", "batch_size", "pool_size"]
)
def test_a_budget_that_is_none_is_refused(field: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{field} must be a positive number"):
        replace(QUICK, **{field: 0})
