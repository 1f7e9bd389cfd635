"""Closed form against attacks: words that bring a concept back are erased, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import (
    ClosedForm,
    ClosedFormHardened,
    Erasure,
    ErasureProblem,
    Step,
    TrainingData,
    Words,
)
from shiftreg.erasers.hardened import PROMPTS, _with_words
from shiftreg.errors import InvalidInputError

WIDTH, LENGTH = 24, 4
QUICK = ClosedFormHardened(rounds=2, inversions=2, iterations=3, batch_size=2)


@dataclass(frozen=True)
class Letters:
    """A text encoder that reads letters, each mixed with those before it."""

    vocabulary: Tensor
    vocabulary_ids: Sequence[int]

    def vectors(self, token_ids: Sequence[int]) -> Tensor:
        return self.vocabulary[list(token_ids)]

    def embed(self, vectors: Tensor, template: str = "{}") -> Tensor:
        before, after = (self.token_ids(part) for part in template.split("{}"))
        rows = [self.vectors([0]), self.vectors(before), vectors, self.vectors(after)]
        rows.append(self.vectors([0] * (LENGTH - sum(map(len, rows)))))
        return torch.cat(rows).cumsum(dim=0) / 2

    def encode(self, prompts: Sequence[str]) -> Tensor:
        nothing = self.vectors([])
        return torch.stack([self.embed(nothing, prompt + "{}") for prompt in prompts])

    def token_ids(self, text: str) -> list[int]:
        return [1 + "abxy".index(letter) for letter in text]

    def text(self, token_ids: Sequence[int]) -> str:
        return "".join("abxy"[token - 1] for token in token_ids)


@pytest.fixture
def words() -> Words:
    generator = torch.Generator().manual_seed(9)
    letters = Letters(torch.randn(5, WIDTH, generator=generator), [1, 2, 3, 4])
    return Words(letters, "x", ("x", "ax", "bx"), ("a", "a", "b"))


@pytest.fixture
def worded(data: TrainingData, words: Words) -> TrainingData:
    return replace(data, words=words)


def test_protected_prompts_are_as_exact_as_without(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    worded: TrainingData,
    protected_embeds: Tensor,
) -> None:
    erasure = QUICK.erase(problem, weights, worded)
    rows = protected_embeds.flatten(0, 1).double()
    for layer, weight in weights.items():
        moved = rows @ (erasure.factors[layer].double() @ erasure.support.double()).T
        assert moved.norm() <= 1e-5 * (rows @ weight.double().T).norm()


def test_learned_words_join_the_concepts_prompts_with_anchors_aligned(
    problem: ErasureProblem, words: Words
) -> None:
    vectors = torch.ones(1, WIDTH)
    extended = _with_words(problem, words, [vectors])
    added = len(extended.prompt_embeds) - len(problem.prompt_embeds)
    assert added == 3 <= PROMPTS
    assert extended.name_positions == (*problem.name_positions, 1, 2, 2)
    assert torch.equal(extended.prompt_embeds[-3], words.model.embed(vectors, "{}"))
    assert torch.equal(extended.anchor_embeds[-3:], words.model.encode(["a", "a", "b"]))
    assert torch.equal(extended.null_basis, problem.null_basis)
    assert _with_words(problem, words, []) is problem


def test_what_the_learned_words_bring_back_is_moved_onto_their_anchors(
    problem: ErasureProblem, weights: dict[str, Tensor], words: Words
) -> None:
    roomy = replace(problem, preserved_rows=torch.zeros(0, WIDTH))
    word = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(1))
    extended = _with_words(roomy, words, [word])
    rows, anchors = extended.only([3, 4, 5]).suffix_rows()

    def missed(erasure: Erasure) -> float:
        change = erasure.factors["a.to_v"].double() @ erasure.support.double()
        moved = rows @ (weights["a.to_v"].double() + change).T
        return float((moved - anchors @ weights["a.to_v"].double().T).norm())

    solver = ClosedForm(ridge=1e-3)
    assert missed(solver.erase(extended, weights)) < 0.5 * missed(solver.erase(roomy, weights))


def test_every_round_attacks_and_is_reported_as_one_training(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    worded: TrainingData,
    steps: list[Step],
) -> None:
    erasure = QUICK.erase(problem, weights, worded)
    assert [step.number for step in steps] == list(range(1, 13))
    assert {step.limit for step in steps} == {12}
    assert erasure.metrics["adversarial_words"] == 4
    assert not torch.equal(
        erasure.factors["a.to_k"] @ erasure.support,
        (plain := ClosedForm().erase(problem, weights)).factors["a.to_k"] @ plain.support,
    )


def test_the_same_seed_gives_the_same_bits(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    worded: TrainingData,
    same_bits: Callable[[Erasure, Erasure], None],
) -> None:
    same_bits(QUICK.erase(problem, weights, worded, 3), QUICK.erase(problem, weights, worded, 3))


def test_an_interrupted_one_goes_on_to_the_same_bits(
    problem: ErasureProblem,
    weights: dict[str, Tensor],
    worded: TrainingData,
    kept: object,
    same_bits: Callable[[Erasure, Erasure], None],
) -> None:
    def interrupt(step: Step) -> None:
        if step.number == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        QUICK.erase(
            problem,
            weights,
            replace(worded, observe=interrupt, checkpoints=kept),  # type: ignore[arg-type]
        )
    resumed = QUICK.erase(problem, weights, replace(worded, checkpoints=kept))  # type: ignore[arg-type]
    same_bits(resumed, QUICK.erase(problem, weights, worded))


def test_it_needs_the_text_encoder_and_sensible_budgets(
    problem: ErasureProblem, weights: dict[str, Tensor], data: TrainingData
) -> None:
    for without in (None, data):
        with pytest.raises(InvalidInputError, match="through the text encoder"):
            QUICK.erase(problem, weights, without)
    for name in ("rounds", "inversions", "iterations", "preservation"):
        with pytest.raises(InvalidInputError, match=name):
            ClosedFormHardened(**{name: 0})  # type: ignore[arg-type]
