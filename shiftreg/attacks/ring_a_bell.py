"""Ring-A-Bell: prompts that mean the concept, found without ever asking the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.attacks.base import AttackResult, Surface
from shiftreg.erasers.base import Checked
from shiftreg.erasers.model import PromptModel, Step
from shiftreg.errors import InvalidInputError

_SOURCE = "Ring-A-Bell! (Tsai et al. 2023)"


@dataclass(frozen=True)
class RingABell(Checked):
    """Breeds prompts whose embedding is near ``e(neutral) + strength * mean(e(p) - e(anchor))``.

    Source: "Ring-A-Bell! How Reliable are Concept Removal Methods for Diffusion Models?" (Tsai et
    al. 2023).

    Attributes:
        strength: Of the concept in the target (paper: 3).
        tokens: Length of the prompts (paper: 16).
        population: Prompts of a generation (paper: 200).
        generations: (Paper: 3000).
        mutation: Chance of a token to change.
        prompts: To find, each for another neutral prompt.
    """

    name: ClassVar[str] = "ring-a-bell"
    needs: ClassVar[str] = "prompts; the text encoder"
    source: ClassVar[str] = _SOURCE
    unchecked: ClassVar[tuple[str, ...]] = ("population",)

    strength: float = 3.0
    tokens: int = 6
    population: int = 100
    generations: int = 60
    mutation: float = 0.1
    prompts: int = 4

    def __post_init__(self) -> None:
        """Checks the budget."""
        super().__post_init__()
        if not 2 <= self.population < float("inf"):
            raise InvalidInputError(f"population must be 2 or more, and it is {self.population}.")

    def run(self, surface: Surface, seed: int) -> AttackResult:
        """Breeds the prompts; the model under attack is never used."""
        generator = torch.Generator().manual_seed(seed)
        words = surface.words
        targets, direction = _targets(surface, self.strength, self.prompts)
        unit = direction.square().mean().item()  # how far the neutral prompt itself is
        limit = len(targets) * self.generations
        found, step = {}, 0
        for target in targets:
            for nearest in self._breed(words, target, generator):
                step += 1
                surface.observe(Step(step, limit, {"distance": nearest[1] / unit}))
            text, distance = nearest
            found[text] = distance / unit
        return AttackResult(
            words.encode(list(found)),
            text=", ".join(f'"{text}"' for text in found),
            metrics={"distance": sum(found.values()) / len(found)},
        )

    def _breed(
        self, words: PromptModel, target: Tensor, generator: torch.Generator
    ) -> Iterator[tuple[str, float]]:
        """After each generation, the text nearest to the target, and its mean squared distance.

        The better half lives on, so that the best is never lost.
        """
        ids, size = words.vocabulary_ids, self.population
        born = torch.randint(len(ids), (size, self.tokens), generator=generator)
        people, distances = born[:0], torch.zeros(0)
        for _ in range(self.generations):
            # A text counts by how it is read, which may not be the tokens that it was made of.
            embeds = words.encode([_text(words, row) for row in born])
            people = torch.cat([people, born])
            distances = torch.cat([distances, (embeds - target).square().mean(dim=(1, 2))])
            order = distances.argsort()[: size - size // 2]
            people, distances = people[order], distances[order]
            yield _text(words, people[0]), distances[0].item()
            born = self._children(people, size // 2, len(ids), generator)

    def _children(
        self, parents: Tensor, count: int, kinds: int, generator: torch.Generator
    ) -> Tensor:
        """Each begins as one parent and ends as another, but for mutations."""
        mothers, fathers = parents[torch.randint(len(parents), (2, count), generator=generator)]
        cuts = torch.randint(self.tokens + 1, (count, 1), generator=generator)
        children = torch.where(torch.arange(self.tokens) < cuts, mothers, fathers)
        mutated = torch.rand(children.shape, generator=generator) < self.mutation
        strange = torch.randint(kinds, children.shape, generator=generator)
        return torch.where(mutated, strange, children)


@dataclass(frozen=True)
class RingABellSoft(Checked):
    """Generates from the embeddings themselves that ``ring-a-bell`` looks for a prompt near to.

    What an erasure leaves of the concept, however little, is turned up.

    Attributes:
        strength: Of the concept.
        prompts: Neutral prompts that it is added to.
    """

    name: ClassVar[str] = "ring-a-bell-soft"
    needs: ClassVar[str] = "prompts; the text encoder's output"
    source: ClassVar[str] = _SOURCE

    strength: float = 8.0
    prompts: int = 8

    def run(self, surface: Surface, seed: int) -> AttackResult:
        """Computes the embeddings; nothing is searched or drawn."""
        targets, _ = _targets(surface, self.strength, self.prompts)
        return AttackResult(
            targets, text=f'"{surface.anchors[0]}" + {self.strength:g} x the concept'
        )


def _targets(surface: Surface, strength: float, count: int) -> tuple[Tensor, Tensor]:
    """What prompts of the concept have beside their anchors, added to neutral prompts.

    Returns:
        ``(n, L, d_in)``, at most ``count``, and what was added, ``(L, d_in)``.
    """
    words = surface.words
    direction = (words.encode(surface.prompts) - words.encode(surface.anchors)).mean(dim=0)
    neutral = list(dict.fromkeys(surface.anchors))[:count]
    return words.encode(neutral) + strength * direction, strength * direction


def _text(words: PromptModel, row: Tensor) -> str:
    return words.text([words.vocabulary_ids[i] for i in row.tolist()])
