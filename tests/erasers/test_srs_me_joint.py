"""Joint SRS-ME: several concepts in one training, none at another's cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import Erasure, ErasureProblem, SrsMe, SrsMeJoint, Step, TrainingData
from shiftreg.erasers.srs_me import ConceptUnlearning
from shiftreg.errors import InvalidInputError
from shiftreg.subspace import null_space_basis


@pytest.fixture
def other_protected() -> Tensor:
    return torch.randn(2, 4, 24, generator=torch.Generator().manual_seed(11))


@pytest.fixture
def problems(problem: ErasureProblem, other_protected: Tensor) -> list[ErasureProblem]:
    """Two concepts, which protect different prompts."""
    generator = torch.Generator().manual_seed(12)
    prompts = torch.randn(3, 4, 24, generator=generator)
    # Less apart from its anchors than the first concept, so that their losses differ.
    anchors = prompts + 0.3 * torch.randn(3, 4, 24, generator=generator)
    basis = null_space_basis(other_protected.flatten(0, 1))
    other = replace(problem, prompt_embeds=prompts, anchor_embeds=anchors, null_basis=basis)
    return [problem, other]


@pytest.fixture
def both(data: TrainingData) -> list[TrainingData]:
    return [data, replace(data, latents=data.latents.flip(0) * 0.5, observe=refuse)]


def refuse(step: Step) -> None:
    raise AssertionError("only the first concept's observer is told")


def quick(**changes: float) -> SrsMeJoint:
    values = {"iterations": 400, "pool_size": 32, "learning_rate": 0.02, "preservation": 0.1}
    return SrsMeJoint(**(values | {"ridge": 0.01} | changes))  # type: ignore[arg-type]


def drift(rows: Tensor, erasure: Erasure, weights: dict[str, Tensor]) -> float:
    rows = rows.flatten(0, 1).double()
    return max(
        float((rows @ (erasure.factors[name].double() @ erasure.support.double()).T).norm())
        / float((rows @ weight.double().T).norm())
        for name, weight in weights.items()
    )


def test_each_concept_s_own_protected_prompts_are_exact(
    problems: list[ErasureProblem],
    weights: dict[str, Tensor],
    both: list[TrainingData],
    protected_embeds: Tensor,
    other_protected: Tensor,
) -> None:
    first, second = quick(iterations=30).erase_jointly(problems, weights, both)
    assert drift(protected_embeds, first, weights) <= 1e-5 < drift(other_protected, first, weights)
    assert (
        drift(other_protected, second, weights) <= 1e-5 < drift(protected_embeds, second, weights)
    )


def test_every_correlation_falls_to_tau_and_then_it_ends(
    problems: list[ErasureProblem],
    weights: dict[str, Tensor],
    both: list[TrainingData],
    steps: list[Step],
) -> None:
    erasures = quick(tau=0.4).erase_jointly(problems, weights, both)
    assert 11 < len(steps) < 400, "it did not stop by itself"
    for erasure in erasures:
        assert erasure.metrics["last_average"] <= 0.4 * erasure.metrics["first_loss"]
        assert erasure.metrics["iterations"] == len(steps)
    assert steps[-1].values["momentum_average"] <= steps[-1].values["tau"]
    assert steps[-2].values["momentum_average"] > steps[-2].values["tau"], "it could have stopped"


def test_with_both_applied_both_concepts_are_erased(
    problems: list[ErasureProblem],
    weights: dict[str, Tensor],
    both: list[TrainingData],
    unseen: tuple[Tensor, Tensor, Tensor],
) -> None:
    base: Any = both[0].model
    first, second = quick(tau=0.2).erase_jointly(problems, weights, both)
    changed = base.edited(first)
    changed.values |= {n: v for n, v in changed.edited(second).values.items() if n in weights}
    noisy, timesteps, prompts = unseen
    for problem in problems:
        concept, anchor = problem.prompt_embeds[prompts], problem.anchor_embeds[prompts]
        before = base.predict(noisy, timesteps, concept) - base.predict(noisy, timesteps, anchor)
        after = changed.predict(noisy, timesteps, concept) - base.predict(noisy, timesteps, anchor)
        assert (after * before).mean().abs() < 0.4 * before.square().mean()


def test_every_concept_s_loss_counts_as_much_as_the_largest(
    problems: list[ErasureProblem],
    weights: dict[str, Tensor],
    both: list[TrainingData],
    steps: list[Step],
) -> None:
    # Nothing but the correlations counts: the balanced mean is then the largest of them.
    eraser = quick(anchoring=0.0, weight_penalty=0.0, preservation=1e-12, iterations=5)
    eraser.erase_jointly(problems, weights, both)
    for step in steps:
        correlations = step.values["correlation.0"], step.values["correlation.1"]
        assert step.values["loss"] == pytest.approx(max(correlations), rel=1e-4)
        assert min(correlations) < 0.7 * max(correlations)


def test_the_balance_scales_each_gradient_and_has_none_itself(
    problems: list[ErasureProblem],
    weights: dict[str, Tensor],
    both: list[TrainingData],
    kept: Any,
) -> None:
    # A batch of the whole pool, so that its order does not matter.
    eraser = quick(pool_size=10, batch_size=10, iterations=1)
    both[0] = replace(both[0], checkpoints=kept)
    eraser.erase_jointly(problems, weights, both, seed=5)
    # After one step, Adam's first moment is a tenth of the gradient.
    moments = [state["exp_avg"] for state in kept.load()["optimizer"]["state"].values()]

    generator = torch.Generator().manual_seed(5)
    concepts = [
        ConceptUnlearning.begin(problem, weights, own, generator, eraser)
        for problem, own in zip(problems, both, strict=True)
    ]
    factors = [factor for concept in concepts for factor in concept.factors.values()]
    losses, gradients = [], []
    for concept in concepts:
        rows = torch.arange(10)
        model: Any = both[0].model
        shifts = [(c.directions, c.factors) for c in concepts]
        with model.shifted(shifts[0][0], shifts[0][1]):
            added = model._added
            with model.shifted(shifts[1][0], shifts[1][1]):
                model._added = {name: model._added[name] + added[name] for name in added}
                predicted = model.predict(*concept.batch(rows))
        loss = concept.correlation(predicted, rows) + concept.distance(predicted, rows)
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, factors))
    for moment, one, other in zip(moments, *gradients, strict=True):
        expected = (one * max(losses) / losses[0] + other * max(losses) / losses[1]) / 2
        assert torch.allclose(moment, 0.1 * expected, rtol=1e-3, atol=1e-6 * expected.abs().max())
    assert min(losses) < 0.7 * max(losses), "the balance had nothing to do"


def test_a_batch_of_one_is_srs_me(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    protected_embeds: Tensor,
    same_bits: Callable[..., None],
) -> None:
    values: dict[str, Any] = {"iterations": 15, "pool_size": 32}
    alone = SrsMeJoint(**values).erase(problem, weights, data, seed=1)
    same_bits(alone, SrsMe(**values).erase(problem, weights, data, seed=1))
    assert drift(protected_embeds, alone, weights) <= 1e-5


def test_interrupted_and_continued_it_gives_the_same_bits(
    problems: list[ErasureProblem],
    weights: dict[str, Tensor],
    both: list[TrainingData],
    steps: list[Step],
    resumed: Any,
    same_bits: Callable[..., None],
) -> None:
    eraser = quick(tau=0.5)
    whole = eraser.erase_jointly(problems, weights, both)
    number = len(steps)
    assert 12 < number < 400
    continued = resumed(
        lambda first: eraser.erase_jointly(problems, weights, [first, both[1]]), number - 3
    )
    assert [step.number for step in steps] == [number - 2, number - 1, number]
    for mine, theirs in zip(continued, whole, strict=True):
        same_bits(mine, theirs)
        assert mine.metrics == theirs.metrics


def test_one_concept_without_images_is_refused(
    problems: list[ErasureProblem], weights: dict[str, Tensor], data: TrainingData
) -> None:
    for given in ([None, data], [data, None]):
        with pytest.raises(InvalidInputError, match="latents"):
            quick().erase_jointly(problems, weights, given)
