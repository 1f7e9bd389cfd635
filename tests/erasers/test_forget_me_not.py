"""Forget-Me-Not: nothing in an image attends to the concept's name any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import ErasureProblem, ForgetMeNot, Step, TrainingData
from shiftreg.erasers.training import NoisePool

Unseen = tuple[Tensor, Tensor, Tensor]
NAMES = ((1, 1), (2, 2), (2, 3))  # first and last token of the name in each prompt


def attention_to_names(model: Any, problem: ErasureProblem, unseen: Unseen) -> float:
    """Mean share of attention that the tokens of the names receive."""
    noisy, timesteps, prompts = unseen
    (maps,) = model.attention(noisy, timesteps, problem.prompt_embeds[prompts])
    shares = [
        maps[row, ..., NAMES[prompt][0] : NAMES[prompt][1] + 1].sum()
        for row, prompt in enumerate(prompts.tolist())
    ]
    return torch.stack(shares).mean().item()


def test_attention_to_the_name_vanishes(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    steps: list[Step],
    unseen: Unseen,
) -> None:
    model: Any = data.model
    eraser = ForgetMeNot(iterations=150, learning_rate=0.02, batch_size=32, pool_size=512)
    changed = model.edited(eraser.erase(problem, weights, data))
    before, after = (attention_to_names(m, problem, unseen) for m in (model, changed))
    assert after < 0.2 * before
    assert steps[-1].values["loss"] < 0.1 * steps[0].values["loss"]


@pytest.mark.parametrize("names", [NAMES, ((0, 3), (3, 3), (1, 2))])
def test_the_loss_is_the_squared_attention_from_the_name_s_first_to_its_last_token(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    data: TrainingData,
    steps: list[Step],
    names: tuple[tuple[int, int], ...],
) -> None:
    starts, ends = zip(*names, strict=True)
    named = replace(problem, name_positions=starts, name_ends=ends)
    # A batch of the whole pool, so that its order does not matter.
    ForgetMeNot(iterations=1, batch_size=20, pool_size=20).erase(named, weights, data, seed=3)
    pool = NoisePool.draw(data, 20, torch.Generator().manual_seed(3))
    embeds = problem.prompt_embeds[pool.prompts]
    (maps,) = data.model.attention(pool.noisy, pool.timesteps, embeds)
    expected = 0.0
    for row, prompt in enumerate(pool.prompts.tolist()):
        first, last = names[prompt]
        expected += sum(maps[row, 0, 0, token].item() ** 2 for token in range(first, last + 1)) / 20
    assert steps[0].values["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_step_takes_one_gradient_pass_and_the_base_predicts_nothing(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    model: Any = data.model
    ForgetMeNot(iterations=7).erase(problem, weights, data)
    assert (model.gradient_passes, model.passes) == (7, 7)
