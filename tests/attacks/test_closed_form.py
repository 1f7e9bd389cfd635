"""The closed-form embedding: exact where the change of the weights can be undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftreg.attacks import AttackResult, ClosedFormEmbedding, Surface
from shiftreg.errors import InvalidInputError

EXACT = ClosedFormEmbedding(ridge=1e-12)


def changed(surface: Surface, embedding_map: Tensor) -> Surface:
    """The target's layers are the base's after a map of embeddings ``(d_in, d_in)``."""
    weights = {n: w.double() @ embedding_map for n, w in surface.base_weights.items()}
    model: Any = SimpleNamespace(weights=weights)
    return replace(surface, model=model)


def projection(width: int) -> Tensor:
    """Takes one direction away."""
    direction = torch.randn(width, generator=torch.Generator().manual_seed(5)).double()
    direction /= direction.norm()
    return torch.eye(width).double() - torch.outer(direction, direction)


def keys(weights: Any, embeds: Tensor) -> Tensor:
    """What all layers make of prompts."""
    return torch.cat([embeds.double() @ w.double().T for w in weights.values()], dim=-1)


@pytest.fixture
def width(surface: Surface) -> int:
    return surface.words.encode([""]).shape[-1]


def test_without_an_erasure_it_finds_the_concept_s_own_embeddings(surface: Surface) -> None:
    found = ClosedFormEmbedding(ridge=0.5).run(surface, 0)
    own = surface.words.encode(surface.prompts)
    assert torch.allclose(found.prompt_embeds, own, atol=1e-5)
    assert found.metrics == {"residual": 0.0, "norm": pytest.approx(1)}


def test_what_an_invertible_change_did_is_undone(surface: Surface, width: int) -> None:
    change = torch.eye(width).double() - 0.9 * (torch.eye(width).double() - projection(width))
    target = changed(surface, change)
    found = EXACT.run(target, 0)
    own = surface.words.encode(surface.prompts)
    reached = keys(target.model.weights, found.prompt_embeds)
    wanted = keys(surface.base_weights, own)
    suffix = (found.prompt_embeds - own).norm(dim=2) > 1e-4
    assert suffix.any()
    assert torch.allclose(reached[suffix], wanted[suffix], atol=1e-4)
    assert found.metrics["residual"] < 1e-4


def test_what_a_projection_took_away_cannot_be_brought_back(surface: Surface, width: int) -> None:
    found = ClosedFormEmbedding(ridge=1e-6).run(changed(surface, projection(width)), 0)
    assert found.metrics["residual"] > 0.9  # other directions make up for a little of it
    assert found.prompt_embeds.isfinite().all()


def test_a_larger_ridge_keeps_the_embeddings_nearer_to_the_concept_s(
    surface: Surface, width: int
) -> None:
    own = surface.words.encode(surface.prompts)
    change = torch.eye(width).double() - 0.99 * (torch.eye(width).double() - projection(width))
    target = changed(surface, change)

    def run(ridge: float) -> tuple[AttackResult, float]:
        found = ClosedFormEmbedding(ridge=ridge).run(target, 0)
        return found, float((found.prompt_embeds - own).norm())

    (weak, near), (strong, far) = run(1.0), run(1e-6)
    assert near < far
    assert weak.metrics["residual"] > strong.metrics["residual"]


def test_rows_before_the_name_stay_as_they_are(surface: Surface, width: int) -> None:
    prompts, anchors = ("art by nox", "art by nox"), ("art", "art by nox")
    target = replace(changed(surface, 0.5 * projection(width)), prompts=prompts, anchors=anchors)
    found = EXACT.run(target, 0).prompt_embeds
    own = surface.words.encode(prompts)
    common = 1 + len(surface.words.token_ids("art"))
    assert torch.equal(found[0, :common], own[0, :common])
    assert not torch.isclose(found[0, common:], own[0, common:], atol=1e-3).all(dim=1).any()
    assert torch.equal(found[1], own[1])  # nothing distinguishes it from its anchor


def test_it_asks_for_no_prediction_and_solves_as_many_prompts_as_it_is_told(
    surface: Surface, model: Any
) -> None:
    found = ClosedFormEmbedding(prompts=2).run(surface, 0)
    assert len(found.prompt_embeds) == 2
    assert model.asked == 0


def test_it_draws_nothing(surface: Surface, repeats: Callable[..., tuple[bool, bool]]) -> None:
    assert repeats(ClosedFormEmbedding()) == (True, True)


@pytest.mark.parametrize("budget", [{"ridge": 0}, {"prompts": 0}, {"ridge": float("nan")}])
def test_a_budget_that_is_none_is_refused(budget: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="positive"):
        ClosedFormEmbedding(**budget)
