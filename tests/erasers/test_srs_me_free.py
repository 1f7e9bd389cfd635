"""SRS-ME without constraint: the concept loses what set it apart from the empty prompt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import ErasureProblem, SrsMeFree, Step, TrainingData
from shiftreg.errors import InvalidInputError

Unseen = tuple[Tensor, Tensor, Tensor]


def quick(**changes: float) -> SrsMeFree:
    values = {"iterations": 300, "learning_rate": 0.01, "pool_size": 512, "batch_size": 32}
    return SrsMeFree(**(values | changes))  # type: ignore[arg-type]


def predictions(model: Any, problem: ErasureProblem, unseen: Unseen) -> tuple[Tensor, Tensor]:
    """Noise for the concept's prompts and for the empty one."""
    noisy, timesteps, prompts = unseen
    concept = problem.prompt_embeds[prompts]
    empty = problem.empty_embeds.expand_as(concept)
    return model.predict(noisy, timesteps, concept), model.predict(noisy, timesteps, empty)


def test_the_concept_becomes_uncorrelated_with_what_it_was(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    steps: list[Step],
    unseen: Unseen,
) -> None:
    base: Any = data.model
    changed = base.edited(quick().erase(problem, weights, data))
    concept, empty = predictions(base, problem, unseen)
    before = concept - empty
    now_concept, now_empty = predictions(changed, problem, unseen)
    correlation = (before * (now_concept - now_empty)).mean()
    assert correlation.abs() < 0.1 * before.square().mean()
    assert (now_empty - empty).square().mean() < 0.05 * before.square().mean()
    assert steps[-1].values["correlation"] < 0.1 * steps[0].values["correlation"]


def test_with_more_retention_the_empty_prompt_moves_less(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData, unseen: Unseen
) -> None:
    base: Any = data.model
    _, empty = predictions(base, problem, unseen)
    moved = []
    for retention in (0.01, 1.0, 100.0):
        erasure = quick(retention=retention, iterations=60).erase(problem, weights, data)
        _, now_empty = predictions(base.edited(erasure), problem, unseen)
        moved.append((now_empty - empty).square().mean().item())
    assert moved == sorted(moved, reverse=True)
    assert moved[2] < 0.5 * moved[0]


def test_the_first_loss_is_the_energy_that_sets_the_concept_apart(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData, steps: list[Step]
) -> None:
    # A batch of the whole pool of one image at one timestep.
    quick(iterations=1, pool_size=1, batch_size=1).erase(problem, weights, data, seed=2)
    generator = torch.Generator().manual_seed(2)
    pick = torch.randint(6, (1,), generator=generator)
    timestep = torch.randint(1000, (1,), generator=generator)
    noise = torch.randn(1, 1, 4, 4, generator=generator)
    noisy = data.model.noised(data.latents[pick], timestep, noise)
    prompt = torch.tensor([data.pair_index[int(pick)]])
    concept, empty = predictions(data.model, problem, (noisy, timestep, prompt))
    energy = (concept - empty).square().mean().item()
    assert steps[0].values["correlation"] == pytest.approx(energy, rel=1e-4)
    assert steps[0].values["loss"] == pytest.approx(energy, rel=1e-4)


def test_each_step_takes_two_gradient_passes(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    model: Any = data.model
    quick(iterations=7, pool_size=32).erase(problem, weights, data)
    assert model.gradient_passes == 14
    assert model.passes - model.gradient_passes == 2 * 32 / 16


def test_it_says_that_there_is_no_way_back() -> None:
    assert not SrsMeFree.recoverable
    assert not SrsMeFree.separable


def test_a_retention_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="retention"):
        SrsMeFree(retention=-1.0)
