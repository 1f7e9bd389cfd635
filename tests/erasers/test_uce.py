"""UCE: the closed form of the paper, whatever way it is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import Erasure, ErasureProblem, Uce
from shiftreg.errors import InvalidInputError


@pytest.fixture
def problem(problem: ErasureProblem) -> ErasureProblem:
    """Two of the three prompts are bare names: rows 1 and 3, with anchors ending in 1 and 2."""
    return replace(problem, bare_names=(0, 2))


@pytest.fixture
def names(problem: ErasureProblem) -> list[Tensor]:
    return [problem.prompt_embeds[0, 1].double(), problem.prompt_embeds[2, 3].double()]


@pytest.fixture
def anchors(problem: ErasureProblem) -> list[Tensor]:
    return [problem.anchor_embeds[0, 1].double(), problem.anchor_embeds[2, 2].double()]


def delta(erasure: Erasure, layer: str) -> Tensor:
    return erasure.factors[layer].double() @ erasure.support.double()


@pytest.mark.parametrize(
    ("identity", "erasing", "preservation"),
    [(1 / 1600, 1.0, 1.0), (0.5, 1.0, 1.0), (0.02, 3.0, 0.1), (0.001, 0.2, 5.0)],
)
def test_it_is_equation_seven(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    names: list[Tensor],
    anchors: list[Tensor],
    identity: float,
    erasing: float,
    preservation: float,
) -> None:
    erasure = Uce(identity, erasing, preservation).erase(problem, weights)
    # The paper writes embeddings as columns, and sums over them.
    energy = sum(float(name @ name) for name in names) / len(names)
    for layer, weight in weights.items():
        w = weight.double()
        left = identity * energy * w
        right = identity * energy * torch.eye(24, dtype=torch.float64)
        for t, a in zip(names, anchors, strict=True):
            left = left + erasing * torch.outer(w @ a, t)
            right = right + erasing * torch.outer(t, t)
        for c in problem.retained_rows.double():
            left = left + preservation * torch.outer(w @ c, c)
            right = right + preservation * torch.outer(c, c)
        expected = left @ torch.linalg.inv(right)
        assert (w + delta(erasure, layer) - expected).norm() <= 1e-5 * (expected - w).norm()


def test_a_name_moves_onto_its_anchor_where_nothing_else_holds_it(
    problem: ErasureProblem, weights: dict[str, Tensor], names: list[Tensor], anchors: list[Tensor]
) -> None:
    free = replace(problem, retained_rows=torch.zeros(0, 24))
    erasure = Uce(identity=1e-9).erase(free, weights)
    for layer, weight in weights.items():
        for name, anchor in zip(names, anchors, strict=True):
            moved = (weight.double() + delta(erasure, layer)) @ name
            wanted = weight.double() @ anchor
            assert (moved - wanted).norm() <= 1e-4 * wanted.norm()


def test_its_rank_is_the_number_of_names(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    for names in ((1,), (0, 2), (0, 1, 2)):
        erasure = Uce().erase(replace(problem, bare_names=names), weights)
        assert len(erasure.support) == len(names)
        assert erasure.factors.keys() == weights.keys()
        assert not erasure.dense


def test_with_more_preservation_the_retained_rows_move_less(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    rows = problem.retained_rows.double()
    moved = [
        float((rows @ delta(Uce(preservation=rho).erase(problem, weights), "a.to_k").T).norm())
        for rho in (0.01, 1.0, 100.0)
    ]
    assert moved == sorted(moved, reverse=True)
    assert moved[2] < 0.1 * moved[0]


def test_it_looks_at_no_other_row(problem: ErasureProblem, weights: dict[str, Tensor]) -> None:
    elsewhere = problem.prompt_embeds.clone()
    elsewhere[0, (0, 2, 3)] = 7.0
    elsewhere[1] = 7.0
    other = replace(problem, prompt_embeds=elsewhere, preserved_rows=problem.preserved_rows + 1)
    one, two = (Uce().erase(p, weights) for p in (problem, other))
    assert all(torch.equal(one.factors[layer], two.factors[layer]) for layer in weights)


@pytest.mark.parametrize("field", ["identity", "erasing", "preservation"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_hyperparameters_that_make_no_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidInputError, match=field):
        Uce(**{field: value})
