"""UnlearnDiffAtk: what it finds is text that anybody can type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from shiftreg.attacks import Surface, UnlearnDiffAtk
from shiftreg.attacks.unlearn_diff_atk import project_to_simplex
from shiftreg.erasers import Step
from shiftreg.errors import InvalidInputError

QUICK = UnlearnDiffAtk(tokens=2, iterations=10, batch_size=2)


def test_the_prompt_that_is_found_gives_the_embedding_when_it_is_typed(surface: Surface) -> None:
    found = QUICK.run(surface, 0)
    text = found.text.strip('"')
    assert torch.equal(found.prompt_embeds, surface.words.encode([text]))
    prefix, _, name = text.rpartition(" ")
    assert name == "nox"
    assert len(surface.words.token_ids(prefix)) == 2


def test_the_best_of_all_that_was_tried_is_kept(surface: Surface, steps: list[Step]) -> None:
    found = QUICK.run(surface, 0)
    losses = [step.values["loss"] for step in steps]
    assert found.metrics["loss"] == min(losses)
    assert min(losses) < losses[0]
    bests = [step.values["best"] for step in steps]
    assert bests == [min(losses[: i + 1]) for i in range(10)]
    assert [(step.number, step.limit) for step in steps] == [(i, 10) for i in range(1, 11)]


def test_the_search_turns_to_tokens_that_lower_the_loss(
    surface: Surface, steps: list[Step]
) -> None:
    UnlearnDiffAtk(tokens=1, iterations=60, batch_size=2, learning_rate=0.1).run(surface, 0)
    losses = torch.tensor([step.values["loss"] for step in steps])
    assert losses[-20:].mean() < losses[:20].mean()


def test_tokens_that_are_read_otherwise_side_by_side_are_passed_over(surface: Surface) -> None:
    real = surface.words

    class Merging:
        """Reads no text that begins with the best token as it was written."""

        forbidden: str = ""

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def token_ids(self, text: str) -> list[int]:
            ids = real.token_ids(text)
            return ids[1:] if text.startswith(self.forbidden) and text != "nox" else ids

    merging: Any = Merging()
    merging.forbidden = QUICK.run(surface, 0).text.strip('"')[0]
    second = QUICK.run(replace(surface, words=merging), 0)
    assert not second.text.strip('"').startswith(merging.forbidden)
    merging.forbidden = ""
    none = QUICK.run(replace(surface, words=merging), 0)
    assert "no text is read as" in none.text
    assert none.metrics["loss"] < second.metrics["loss"]
    assert none.prompt_embeds.shape == second.prompt_embeds.shape
    assert not none.prompt_embeds.requires_grad


def test_the_budget_bounds_the_predictions(surface: Surface, model: Any) -> None:
    QUICK.run(surface, 0)
    assert model.asked == 2 + 10 * 2


def test_the_seed_decides(repeats: Callable[..., tuple[bool, bool]]) -> None:
    assert repeats(replace(QUICK, iterations=5)) == (True, False)


def test_a_prompt_that_is_too_long_is_refused(surface: Surface) -> None:
    with pytest.raises(InvalidInputError, match="at most 62 tokens"):
        replace(QUICK, tokens=60).run(surface, 0)


@pytest.mark.parametrize("field", ["tokens", "iterations", "learning_rate", "batch_size"])
def test_a_budget_that_is_none_is_refused(field: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{field} must be a positive number"):
        replace(QUICK, **{field: 0})


def test_the_target_is_left_as_it_was(
    surface: Surface, tiny_pipeline: StableDiffusionPipeline
) -> None:
    unet = tiny_pipeline.unet
    before = {name: p.detach().clone() for name, p in unet.named_parameters()}
    replace(QUICK, iterations=2).run(surface, 0)
    assert all(torch.equal(p, before[name]) for name, p in unet.named_parameters())


# The projection.


def test_a_distribution_is_its_own_projection() -> None:
    rows = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    assert torch.allclose(project_to_simplex(rows), rows)


def test_the_projection_is_a_distribution_and_none_is_nearer() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 7, generator=generator)
    projected = project_to_simplex(rows)
    assert (projected >= 0).all()
    assert torch.allclose(projected.sum(dim=1), torch.ones(5))
    others = torch.rand(2000, 1, 7, generator=generator).pow(4)
    others /= others.sum(dim=2, keepdim=True)
    distance = (projected - rows).norm(dim=1)
    assert ((others - rows).norm(dim=2) >= distance - 1e-6).all()


def test_a_vertex_attracts_what_lies_beyond_it() -> None:
    assert torch.equal(project_to_simplex(torch.tensor([[5.0, 1.0]])), torch.tensor([[1.0, 0.0]]))
