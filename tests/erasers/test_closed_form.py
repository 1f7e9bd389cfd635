"""The closed form: the least-squares optimum, exact on what is protected."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import ClosedForm, ErasureProblem, predict_capacity
from shiftreg.errors import InvalidInputError


def delta(erasure, layer: str) -> Tensor:  # noqa: ANN001
    return erasure.factors[layer].double() @ erasure.support.double()


def test_protected_prompts_are_exact(
    problem: ErasureProblem, weights: dict[str, Tensor], protected_embeds: Tensor
) -> None:
    erasure = ClosedForm().erase(problem, weights)
    for layer, weight in weights.items():
        rows = protected_embeds.flatten(0, 1).double()
        assert (rows @ delta(erasure, layer).T).norm() <= 1e-5 * (rows @ weight.double().T).norm()


def test_the_concept_moves_onto_its_anchor_when_there_is_room(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    roomy = replace(problem, preserved_rows=torch.zeros(0, problem.preserved_rows.shape[1]))
    erasure = ClosedForm(ridge=1e-9).erase(roomy, weights)
    concept, anchor = roomy.suffix_rows()
    for layer, weight in weights.items():
        moved = concept @ (weight.double() + delta(erasure, layer)).T
        wanted = anchor @ weight.double().T
        assert (moved - wanted).norm() <= 1e-4 * wanted.norm()


def test_no_other_change_in_the_null_space_has_a_smaller_objective(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    eraser = ClosedForm(preservation=2.0, ridge=0.5)
    weight = weights["a.to_k"].double()
    concept, anchor = problem.suffix_rows()
    ordinary = problem.preserved_rows.double()
    ridge = 0.5 * concept.square().sum(1).mean() / concept.shape[1]

    def objective(change: Tensor) -> Tensor:
        target = (anchor - concept) @ weight.T
        return (
            (concept @ change.T - target).square().sum() / len(concept)
            + 2.0 * (ordinary @ change.T).square().sum() / len(ordinary)
            + ridge * change.square().sum()
        )

    best = delta(eraser.erase(problem, weights), "a.to_k")
    generator = torch.Generator().manual_seed(5)
    for size in (1e-1, 1e-2, 1e-3):
        direction = torch.randn(best.shape[0], len(problem.null_basis), generator=generator)
        other = best + size * direction.double() @ problem.null_basis
        assert objective(best) < objective(other)


def test_naming_leaves_less_of_the_bare_name_at_the_cost_of_the_prompts(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    wanting = [
        [
            float((concept @ delta(erasure, "a.to_k").T - target).norm())
            for concept, target in (
                (rows, (anchors - rows) @ weights["a.to_k"].double().T)
                for rows, anchors in (
                    problem.only([0]).suffix_rows(),
                    problem.only([1, 2]).suffix_rows(),
                )
            )
        ]
        for erasure in (
            ClosedForm(preservation=5.0, naming=naming).erase(problem, weights)
            for naming in (0.0, 1.0, 30.0)
        )
    ]
    names, prompts = zip(*wanting, strict=True)
    assert list(names) == sorted(names, reverse=True)
    assert list(prompts) == sorted(prompts)


def test_more_preservation_disturbs_ordinary_prompts_less(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    rows = problem.preserved_rows.double()
    disturbances = [
        float(
            (rows @ delta(ClosedForm(preservation=mu).erase(problem, weights), "a.to_v").T).norm()
        )
        for mu in (0.01, 1.0, 100.0)
    ]
    assert disturbances == sorted(disturbances, reverse=True)


def test_the_support_is_orthonormal_and_no_wider_than_the_null_space(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    support = ClosedForm().erase(problem, weights).support
    assert len(support) <= len(problem.null_basis)
    assert torch.allclose(support @ support.T, torch.eye(len(support)), atol=1e-5)


def test_the_same_problem_gives_the_same_bits(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    one, other = (ClosedForm().erase(problem, weights) for _ in range(2))
    assert torch.equal(one.support, other.support)
    assert all(torch.equal(one.factors[k], other.factors[k]) for k in one.factors)


def test_capacity_is_predicted_as_it_comes_out(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    capacity = predict_capacity(problem, weights, names=[0])
    assert capacity.free == 24 - 8
    assert capacity.rank == 8
    assert capacity.support == 3  # the rows of the first prompt, from the name on
    assert capacity.predicted_residual < 1e-9
    erasure = ClosedForm().erase(problem, weights)
    ratios = [delta(erasure, name).norm() / w.double().norm() for name, w in weights.items()]
    assert capacity.predicted_ratio == pytest.approx(float(max(ratios)), rel=1e-5)


@pytest.mark.parametrize("free", [0, 1, 2, 3])
def test_the_predicted_residual_is_what_an_unrestrained_solve_leaves(
    problem: ErasureProblem, weights: dict[str, Tensor], free: int
) -> None:
    cramped = replace(problem, null_basis=problem.null_basis[:free])
    capacity = predict_capacity(cramped, weights, names=[0])
    assert capacity.support == free
    concept, anchor = cramped.only([0]).suffix_rows()
    coordinates = concept @ cramped.null_basis.T
    residuals = []
    for weight in weights.values():
        target = (anchor - concept) @ weight.double().T
        solution = torch.linalg.pinv(coordinates) @ target
        residuals.append(float((coordinates @ solution - target).norm() / target.norm()))
    assert capacity.predicted_residual == pytest.approx(max(residuals), abs=1e-9)
    assert (capacity.predicted_residual > 0.99) == (free == 0)


@pytest.mark.parametrize(
    "values", [{"ridge": 0.0}, {"preservation": -1.0}, {"ridge": float("nan")}, {"naming": -1.0}]
)
def test_hyperparameters_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        ClosedForm(**values)


def test_rows_that_nothing_attends_to_take_no_part(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    prompts, anchors = problem.prompt_embeds.clone(), problem.anchor_embeds.clone()
    prompts[:, 3] = 0
    anchors[0, 2:] = 0
    masked = replace(problem, prompt_embeds=prompts, anchor_embeds=anchors)
    concept, anchor = masked.suffix_rows()
    # Of the three prompts, the rows from the name on and before the padding.
    assert torch.equal(
        concept, torch.cat([prompts[0, 1:3], prompts[1, 2:3], prompts[2, 2:3]]).double()
    )
    # An anchor that is over goes on with its last row.
    expected = torch.stack([anchors[0, 1], anchors[0, 1], anchors[1, 2], anchors[2, 2]])
    assert torch.equal(anchor, expected.double())
    longer = replace(
        masked,
        prompt_embeds=torch.cat([prompts, torch.zeros(3, 5, prompts.shape[2])], dim=1),
        anchor_embeds=torch.cat([anchors, torch.zeros(3, 5, prompts.shape[2])], dim=1),
    )
    short, long = (ClosedForm().erase(one, weights) for one in (masked, longer))
    for name, factor in short.factors.items():
        assert torch.allclose(factor @ short.support, long.factors[name] @ long.support, atol=1e-6)
