"""SRS-ME: it lowers the correlation, stops in time, and trains nothing but the factors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import ErasureProblem, SrsMe, Step, TrainingData
from shiftreg.erasers.srs_me import ConceptUnlearning
from shiftreg.errors import InvalidInputError

SETTINGS = SrsMe(pool_size=12, preservation=3.0, weight_penalty=0.01, ridge=0.2)


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


@pytest.fixture
def unlearning(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> ConceptUnlearning:
    generator = torch.Generator().manual_seed(0)
    begun = ConceptUnlearning.begin(problem, weights, data, generator, SETTINGS)
    with torch.no_grad():
        for factor in begun.factors.values():
            factor.copy_(torch.randn(factor.shape, generator=generator))
    return begun


def test_it_starts_with_no_change(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    begun = ConceptUnlearning.begin(problem, weights, data, torch.Generator(), SETTINGS)
    assert begun.factors.keys() == weights.keys()
    assert not any(factor.any() for factor in begun.factors.values())
    assert begun.penalty() == 0


def test_the_erasure_is_the_change_that_the_model_carried(unlearning: ConceptUnlearning) -> None:
    erasure = unlearning.erasure({"iterations": 1.0})
    for name, factor in unlearning.factors.items():
        carried = factor.detach() @ unlearning.directions
        assert torch.allclose(erasure.factors[name] @ erasure.support, carried, atol=1e-5)
    assert erasure.metrics == {"iterations": 1.0}


def test_in_its_coordinates_every_direction_is_as_costly(unlearning: ConceptUnlearning) -> None:
    problem = unlearning.problem
    concept, _ = problem.suffix_rows()
    preserved = problem.preserved_rows.double()
    ridge = 0.2 * concept.square().mean()
    metric = concept.T @ concept / len(concept) + 3.0 * preserved.T @ preserved / len(preserved)
    directions = unlearning.directions.double()
    cost = directions @ (metric + ridge * torch.eye(24)) @ directions.T
    assert torch.allclose(cost, torch.eye(len(cost), dtype=torch.float64), atol=1e-4)


def test_the_penalty_is_the_disturbance_of_ordinary_prompts_and_the_size(
    unlearning: ConceptUnlearning, weights: dict[str, Tensor]
) -> None:
    rows = unlearning.problem.preserved_rows
    disturbance = [
        (rows @ (factor @ unlearning.directions).T).square().sum()
        / len(rows)
        / weights[name].square().sum()
        for name, factor in unlearning.factors.items()
    ]
    size = torch.stack([factor.abs().mean() for factor in unlearning.factors.values()]).mean()
    expected = 3.0 * sum(disturbance) / len(disturbance) + 0.01 * size
    assert unlearning.penalty().item() == pytest.approx(expected.item(), rel=1e-4)


def test_what_the_anchor_predicts_has_neither_correlation_nor_distance(
    unlearning: ConceptUnlearning,
) -> None:
    rows = torch.arange(4)
    concept, anchor = (noise[rows] for noise in unlearning.pool.noise)
    assert unlearning.correlation(anchor, rows) == 0
    assert unlearning.distance(anchor, rows) == 0
    assert unlearning.correlation(concept, rows) == pytest.approx(
        float((concept - anchor).square().mean())
    )
    assert unlearning.distance(concept, rows) == pytest.approx(
        float((concept - anchor).square().mean())
    )


def test_turning_into_the_opposite_is_no_reward(unlearning: ConceptUnlearning) -> None:
    rows = torch.arange(4)
    concept, anchor = (noise[rows] for noise in unlearning.pool.noise)
    opposite = unlearning.correlation(2 * anchor - concept, rows)
    assert float(opposite) == pytest.approx(float(unlearning.correlation(concept, rows)), rel=1e-4)


def test_a_batch_holds_the_prompts_of_its_rows(unlearning: ConceptUnlearning) -> None:
    rows = torch.tensor([7, 2])
    noisy, timesteps, embeds = unlearning.batch(rows)
    assert torch.equal(noisy, unlearning.pool.noisy[rows])
    assert torch.equal(timesteps, unlearning.pool.timesteps[rows])
    for embed, row in zip(embeds, rows, strict=True):
        prompt = unlearning.pool.prompts[row]
        assert torch.equal(embed, unlearning.problem.prompt_embeds[prompt])
