"""ESD: the concept's prediction becomes what negative guidance would have made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from shiftreg.erasers import ErasureProblem, Esd, Step, TrainingData
from shiftreg.errors import InvalidInputError

Unseen = tuple[Tensor, Tensor, Tensor]


def quick(**changes: Any) -> Esd:
    values = {"iterations": 400, "batch_size": 32, "learning_rate": 0.02, "pool_size": 512}
    return Esd(**(values | changes))


@pytest.fixture
def distance(
    problem: ErasureProblem, data: TrainingData, unseen: Unseen
) -> Callable[[Any, float], float]:
    """How far a model's predictions of the concept are from negative guidance by the base."""
    noisy, timesteps, prompts = unseen

    def measure(model: Any, eta: float) -> float:
        concept = problem.prompt_embeds[prompts]
        empty = problem.empty_embeds.expand_as(concept)
        base_concept, base_empty = (
            data.model.predict(noisy, timesteps, e) for e in (concept, empty)
        )
        target = base_empty - eta * (base_concept - base_empty)
        return (model.predict(noisy, timesteps, concept) - target).square().mean().item()

    return measure


@pytest.mark.parametrize("eta", [1.0, 2.5])
def test_the_concept_approaches_its_negative_guidance(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    steps: list[Step],
    distance: Callable[[Any, float], float],
    eta: float,
) -> None:
    model: Any = data.model
    changed = model.edited(quick(negative_guidance=eta).erase(problem, weights, data))
    assert distance(changed, eta) < 0.2 * distance(model, eta)
    assert distance(changed, eta) < 0.3 * distance(changed, 0.0), "that is the empty prompt"
    assert steps[-1].values["loss"] < 0.1 * steps[0].values["loss"]


def test_everything_but_the_cross_attentions_approaches_it_too(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    distance: Callable[[Any, float], float],
) -> None:
    model: Any = data.model
    erasure = quick(layers="u").erase(problem, weights, data)
    assert set(erasure.dense) == {"skip", "skip.bias"}
    assert distance(model.edited(erasure), 1.0) < 0.7 * distance(model, 1.0)


def test_each_step_takes_one_gradient_pass_and_frozen_predictions_are_made_once(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    model: Any = data.model
    quick(iterations=7, pool_size=32).erase(problem, weights, data)
    assert model.gradient_passes == 7
    assert model.passes - model.gradient_passes == 2 * 32 / 16  # concept and empty prompt


@pytest.mark.parametrize(
    "values", [{"layers": "xu"}, {"layers": ""}, {"negative_guidance": 0.0}, {"pool_size": -1}]
)
def test_hyperparameters_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(values))):
        Esd(**values)
