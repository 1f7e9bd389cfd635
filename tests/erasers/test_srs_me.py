"""SRS-ME: it lowers the correlation, stops in time, and trains nothing but the factors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import ErasureProblem, SrsMe, Step, TrainingData
from shiftreg.errors import InvalidInputError


def quick(**changes: float) -> SrsMe:
    values = {"iterations": 400, "pool_size": 32, "learning_rate": 0.05, "preservation": 0.1}
    return SrsMe(**(values | changes))  # type: ignore[arg-type]


def test_training_brings_the_correlation_down_to_tau(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData, steps: list[Step]
) -> None:
    erasure = quick(tau=0.3, ridge=0.01).erase(problem, weights, data, seed=0)
    assert len(steps) < 400, "it did not stop by itself"
    assert erasure.metrics["last_average"] <= 0.3 * erasure.metrics["first_loss"]
    assert erasure.metrics["iterations"] == len(steps) == steps[-1].number


def test_it_does_not_stop_within_the_warm_up(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData, steps: list[Step]
) -> None:
    quick(tau=1e9, warmup=7).erase(problem, weights, data, seed=0)
    assert len(steps) == 8


def test_protected_prompts_are_exact(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    protected_embeds: Tensor,
) -> None:
    erasure = quick(iterations=20).erase(problem, weights, data, seed=0)
    rows = protected_embeds.flatten(0, 1).double()
    for layer, weight in weights.items():
        moved = rows @ (erasure.factors[layer].double() @ erasure.support.double()).T
        assert moved.norm() <= 1e-5 * (rows @ weight.double().T).norm()
        assert erasure.factors[layer].abs().max() > 0


def test_each_step_takes_one_gradient_pass_and_frozen_predictions_are_made_once(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    model,  # noqa: ANN001
) -> None:
    quick(iterations=15, tau=1e-9).erase(problem, weights, data, seed=0)
    assert model.gradient_passes == 15
    assert model.passes - model.gradient_passes == 2 * 32 / 16  # concept and anchor, batches of 16


def test_the_base_is_left_as_it_was(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    before = {layer: weight.clone() for layer, weight in weights.items()}
    quick(iterations=5).erase(problem, weights, data, seed=0)
    assert all(torch.equal(weights[layer], before[layer]) for layer in weights)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    one, same, other = (
        quick(iterations=5).erase(problem, weights, data, seed=seed) for seed in (0, 0, 1)
    )
    assert all(torch.equal(one.factors[k], same.factors[k]) for k in one.factors)
    assert any(not torch.equal(one.factors[k], other.factors[k]) for k in one.factors)


def test_progress_names_loss_momentum_average_and_tau(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData, steps: list[Step]
) -> None:
    quick(iterations=3).erase(problem, weights, data, seed=0)
    assert {"loss", "correlation", "momentum_average", "tau"} <= set(steps[0].values)
    assert [step.number for step in steps] == [1, 2, 3]


def test_without_latents_there_is_nothing_to_train_on(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    with pytest.raises(InvalidInputError, match="latents"):
        SrsMe().erase(problem, weights, None)


@pytest.mark.parametrize(
    "values", [{"learning_rate": 0.0}, {"momentum": 1.0}, {"batch_size": 0}, {"tau": -1.0}]
)
def test_hyperparameters_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        SrsMe(**values)  # type: ignore[arg-type]
