"""UnlearnDiffAtk: words before the concept's name that make an erased model listen again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.attacks.base import AttackResult, Surface
from shiftreg.attacks.noised_images import NoisedImages
from shiftreg.erasers.base import Checked
from shiftreg.erasers.model import Step


@dataclass(frozen=True)
class UnlearnDiffAtk(Checked):
    """Searches real tokens to put before the concept's name.

    The target is its own classifier: a prompt is good if it explains images of the concept, that
    is, by the target's noise loss. Each place has a distribution over the vocabulary. A step draws
    tokens from it, takes the loss's gradient at them for that of the distribution, and projects it
    back onto the simplex.

    Source: "To Generate or Not? Safety-Driven Unlearned Diffusion Models Are Still Easy To Generate
    Unsafe Images ... For Now" (Zhang et al. 2023).

    Attributes:
        tokens: Words to find (paper: 3 for styles).
        iterations: Steps (paper: 40).
        learning_rate: Of Adam, on probabilities (paper: 0.01).
        batch_size: Noised images, the same in every step.
    """

    name: ClassVar[str] = "unlearn-diff-atk"
    needs: ClassVar[str] = "weights; images of the concept"
    source: ClassVar[str] = "To Generate or Not? (Zhang et al. 2023)"

    tokens: int = 3
    iterations: int = 100
    learning_rate: float = 0.03
    batch_size: int = 12

    def run(self, surface: Surface, seed: int) -> AttackResult:
        """Searches; of all prompts that were tried, the best that can be typed is kept."""
        generator = torch.Generator().manual_seed(seed)
        words, vocabulary = surface.words, surface.words.vocabulary
        pool = NoisedImages.draw(surface, self.batch_size, generator, prompt=0)
        rows = torch.arange(self.batch_size)
        template = f"{{}} {surface.prompts[0]}"
        chances = torch.full((self.tokens, len(vocabulary)), 1 / len(vocabulary))
        optimizer = torch.optim.Adam([chances], lr=self.learning_rate)
        tried: dict[tuple[int, ...], float] = {}
        for number in range(1, self.iterations + 1):
            drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
            vectors = vocabulary[drawn].requires_grad_(True)
            loss = pool.loss(words.embed(vectors, template), rows)
            (gradient,) = torch.autograd.grad(loss, vectors)
            tried[tuple(words.vocabulary_ids[i] for i in drawn.tolist())] = loss.item()
            chances.grad = gradient @ vocabulary.T
            optimizer.step()
            chances.copy_(project_to_simplex(chances))
            values = {"loss": loss.item(), "best": min(tried.values())}
            surface.observe(Step(number, self.iterations, values))
        return _found(surface, tried)


def project_to_simplex(rows: Tensor) -> Tensor:
    """The nearest distribution to each row: ``(k, V)``, at least 0, each row of sum 1.

    Source: "Efficient Projections onto the l1-Ball" (Duchi et al. 2008).
    """
    ordered = rows.sort(dim=1, descending=True).values
    excess = (ordered.cumsum(dim=1) - 1) / torch.arange(1, rows.shape[1] + 1)
    last = (ordered > excess).sum(dim=1, keepdim=True) - 1
    return (rows - excess.gather(1, last)).clamp(min=0)


def _found(surface: Surface, tried: Mapping[tuple[int, ...], float]) -> AttackResult:
    words, prompt = surface.words, surface.prompts[0]
    best_first = sorted(tried, key=lambda tokens: tried[tokens])
    for tokens in best_first:
        text = f"{words.text(tokens)} {prompt}"
        # Side by side, tokens may be read as others: what counts is what can be typed.
        if words.token_ids(text) == [*tokens, *words.token_ids(prompt)]:
            return AttackResult(
                words.encode([text]), text=f'"{text}"', metrics={"loss": tried[tokens]}
            )
    tokens = best_first[0]
    with torch.no_grad():
        embeds = words.embed(words.vectors(tokens), f"{{}} {prompt}")[None]
    text = f'tokens {", ".join(map(str, tokens))} before "{prompt}", which no text is read as'
    return AttackResult(embeds, text=text, metrics={"loss": tried[tokens]})
