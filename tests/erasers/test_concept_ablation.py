"""Concept ablation: the concept is predicted as its anchor, and the anchor stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import ConceptAblation, ErasureProblem, Step, TrainingData
from shiftreg.errors import InvalidInputError

Unseen = tuple[Tensor, Tensor, Tensor]


def quick(**changes: float) -> ConceptAblation:
    values = {"iterations": 400, "learning_rate": 0.02, "pool_size": 512, "batch_size": 32}
    return ConceptAblation(**(values | changes))  # type: ignore[arg-type]


def away_from_the_anchor(
    model: Any,
    embeds: Tensor,
    problem: ErasureProblem,
    base: Any,
    unseen: Unseen,
) -> float:
    """Distance of a model's predictions from the base's of the anchor."""
    noisy, timesteps, prompts = unseen
    target = base.predict(noisy, timesteps, problem.anchor_embeds[prompts])
    return (model.predict(noisy, timesteps, embeds[prompts]) - target).square().mean().item()


def test_the_concept_approaches_its_anchor_and_the_anchor_stays(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    steps: list[Step],
    unseen: Unseen,
) -> None:
    base: Any = data.model
    changed = base.edited(quick().erase(problem, weights, data))
    rest = (problem, base, unseen)
    before = away_from_the_anchor(base, problem.prompt_embeds, *rest)
    assert away_from_the_anchor(changed, problem.prompt_embeds, *rest) < 0.3 * before
    assert away_from_the_anchor(changed, problem.anchor_embeds, *rest) < 0.05 * before
    assert steps[-1].values["distance"] < 0.1 * steps[0].values["distance"]


def test_with_more_preservation_the_anchor_moves_less(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData, unseen: Unseen
) -> None:
    base: Any = data.model
    moved = [
        away_from_the_anchor(
            base.edited(quick(preservation=rho, iterations=60).erase(problem, weights, data)),
            problem.anchor_embeds,
            problem,
            base,
            unseen,
        )
        for rho in (0.01, 1.0, 100.0)
    ]
    assert moved == sorted(moved, reverse=True)
    assert moved[2] < 0.5 * moved[0]


def test_the_loss_is_the_distance_and_the_weighted_drift(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData, steps: list[Step]
) -> None:
    quick(preservation=7.0, iterations=5).erase(problem, weights, data)
    assert steps[0].values["drift"] == pytest.approx(0, abs=1e-12)
    for step in steps:
        shown = step.values
        assert shown["loss"] == pytest.approx(shown["distance"] + 7.0 * shown["drift"])
    assert steps[-1].values["drift"] > 0


def test_each_step_takes_two_gradient_passes(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    model: Any = data.model
    quick(iterations=7, pool_size=32).erase(problem, weights, data)
    assert model.gradient_passes == 14
    assert model.passes - model.gradient_passes == 32 / 16  # the anchor, in batches of 16


def test_only_the_layers_that_it_is_given_change(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    values = {"a.to_v": weights["a.to_v"]}
    erasure = quick(iterations=2).erase(problem, values, data)
    assert set(erasure.dense) == {"a.to_v"}
    assert erasure.dense["a.to_v"].dtype == torch.float32


def test_a_preservation_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="preservation"):
        ConceptAblation(preservation=0.0)
