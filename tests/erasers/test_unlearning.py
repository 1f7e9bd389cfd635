"""One concept's unlearning: whitened coordinates change the path, not what is measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import ErasureProblem, SrsMe, TrainingData
from shiftreg.erasers.unlearning import ConceptUnlearning

SETTINGS = SrsMe(pool_size=12, preservation=3.0, weight_penalty=0.01, ridge=0.2)


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
