"""The edit after SPEED: values only, and within what the retained rows hardly use."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import Erasure, ErasureProblem, SpeedLike
from shiftreg.errors import InvalidInputError


def delta(erasure: Erasure) -> Tensor:
    return erasure.factors["a.to_v"].double() @ erasure.support.double()


@pytest.fixture
def problem(problem: ErasureProblem) -> ErasureProblem:
    """Retained rows that use six directions much, and four a hundredth of that."""
    generator = torch.Generator().manual_seed(21)
    basis, _ = torch.linalg.qr(torch.randn(24, 24, generator=generator))
    sizes = torch.tensor([1.0] * 6 + [0.01] * 4)
    rows, _ = torch.linalg.qr(torch.randn(30, 10, generator=generator))
    return replace(problem, retained_rows=10 * rows * sizes @ basis[:10])


def test_only_values_change(problem: ErasureProblem, weights: dict[str, Tensor]) -> None:
    erasure = SpeedLike().erase(problem, weights)
    assert set(erasure.factors) == {"a.to_v"}
    assert not erasure.dense
    assert delta(erasure).norm() > 0


def test_the_name_moves_almost_onto_its_anchor(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    weight = weights["a.to_v"].double()
    name, anchor = problem.prompt_embeds[0, 1].double(), problem.anchor_embeds[0, 1].double()
    target = weight @ (anchor - name)
    unmet = delta(SpeedLike().erase(problem, weights)) @ name - target
    assert unmet.norm() <= 1e-4 * target.norm()


def test_what_the_retained_rows_use_is_exact_and_the_rest_hardly_moves(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    rows, weight = problem.retained_rows.double(), weights["a.to_v"].double()
    moved = rows @ delta(SpeedLike().erase(problem, weights)).T
    assert 0 < moved.norm() <= 0.02 * (rows @ weight.T).norm()
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    along = right @ delta(SpeedLike().erase(problem, weights)).T  # (10, OUT)
    assert values[5] > 10 * values[6]
    assert along[:6].norm() <= 1e-5 * along[6:].norm()


def test_the_threshold_decides_what_is_exact(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    rows, weight = problem.retained_rows.double(), weights["a.to_v"].double()
    moved = [
        float((rows @ delta(SpeedLike(threshold=share).erase(problem, weights)).T).norm())
        / float((rows @ weight.T).norm())
        for share in (1e-3, 0.1, 2.0)
    ]
    assert moved[0] <= 1e-6 < moved[1] <= 0.02
    assert moved[2] > 0.05, "with nothing retained they move as they may"


@pytest.mark.parametrize("directions", [1, 2, 3])
def test_the_first_directions_of_the_empty_prompt_are_exact_and_no_further(
    problem: ErasureProblem, weights: dict[str, Tensor], directions: int
) -> None:
    erasure = SpeedLike(empty_directions=directions).erase(problem, weights)
    _, _, right = torch.linalg.svd(problem.empty_embeds.double(), full_matrices=False)
    moved = (right @ delta(erasure).T).norm(dim=1)
    assert moved[:directions].max() <= 1e-5 * moved[directions:].min()


def test_no_other_change_in_the_free_space_has_a_smaller_objective(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    eraser = SpeedLike(ridge=0.1)
    weight = weights["a.to_v"].double()
    names = replace(problem, bare_names=(0, 1))
    rows = problem.prompt_embeds[(0, 1), (1, 2)].double()
    wanted = (problem.anchor_embeds[(0, 1), (1, 2)].double() - rows) @ weight.T
    ridge = 0.1 * rows.square().sum(dim=1).mean()

    def objective(change: Tensor) -> Tensor:
        return (rows @ change.T - wanted).square().sum() + ridge * change.square().sum()

    # What may not change: six directions of the retained rows, and the empty prompt's four.
    _, _, retained = torch.linalg.svd(problem.retained_rows.double())
    fixed = torch.cat([retained[:6], problem.empty_embeds.double()])
    free = torch.linalg.svd(fixed)[2][10:]
    best = delta(eraser.erase(names, weights))
    assert (best - best @ free.T @ free).norm() <= 1e-5 * best.norm()
    generator = torch.Generator().manual_seed(5)
    for size in (1e-1, 1e-2, 1e-3):
        direction = torch.randn(len(weight), len(free), generator=generator).double() @ free
        assert objective(best) < objective(best + size * direction)
        assert objective(best) < objective(best - size * direction)


def test_rows_that_leave_nothing_free_are_refused(
    problem: ErasureProblem, weights: dict[str, Tensor]
) -> None:
    generator = torch.Generator().manual_seed(6)
    crowded = replace(problem, retained_rows=torch.randn(500, 24, generator=generator))
    with pytest.raises(InvalidInputError, match="threshold"):
        SpeedLike().erase(crowded, weights)
    almost = replace(problem, retained_rows=torch.eye(24)[:21])
    with pytest.raises(InvalidInputError, match="threshold"):
        SpeedLike(empty_directions=4).erase(almost, weights)
    assert len(SpeedLike(empty_directions=2).erase(almost, weights).support) == 1


@pytest.mark.parametrize("field", ["threshold", "empty_directions", "ridge"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_hyperparameters_that_make_no_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidInputError, match=field):
        SpeedLike(**{field: value})  # type: ignore[arg-type]
