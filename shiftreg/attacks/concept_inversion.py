"""Concept Inversion: a new word is learned for what the old one no longer says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.attacks.base import AttackResult, Surface
from shiftreg.attacks.noised_images import NoisedImages
from shiftreg.erasers.base import Checked
from shiftreg.erasers.model import PromptModel, Step
from shiftreg.errors import InvalidInputError

SLOT = "{}"
_CHECKED = 16  # noised images that the best vectors are chosen by
_CHECK_EVERY = 10
_PROMPTS = 8


@dataclass(frozen=True)
class Learned:
    """A word that was learned.

    Attributes:
        vectors: ``(tokens, d_token)``.
        templates: For each prompt of the surface, the same with a slot for the word.
        metrics: The loss before and after.
    """

    vectors: Tensor
    templates: list[str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class ConceptInversion(Checked):
    """Learns token vectors by textual inversion: the target's weights stay as they are.

    The loss is the plain one of diffusion models on images of the concept, for the prompts that
    they were generated for, with the vectors in the place of the name.

    Source: "Circumventing Concept Erasure Methods for Text-to-Image Generative Models" (Pham et
    al. 2023), with textual inversion (Gal et al. 2022) against edits of the cross-attention.

    Attributes:
        tokens: Vectors to learn (paper: 1).
        start: The word that they start from; the concept's own name if empty.
        iterations: Steps (paper: 5000).
        learning_rate: Of Adam (paper: 5e-3).
        batch_size: Noised images a step.
        pool_size: Noised images in all.
    """

    name: ClassVar[str] = "concept-inversion"
    needs: ClassVar[str] = "weights; images of the concept; the text encoder's input"
    source: ClassVar[str] = "Circumventing Concept Erasure Methods (Pham et al. 2023)"

    tokens: int = 1
    start: str = ""
    iterations: int = 150
    learning_rate: float = 5e-3
    batch_size: int = 8
    pool_size: int = 64

    def run(self, surface: Surface, seed: int) -> AttackResult:
        """Learns a word, and puts it into the prompts of the concept; see :meth:`learn`."""
        learned = self.learn(surface, seed)
        return _found(surface.words, learned.vectors, learned.templates, learned.metrics)

    def learn(self, surface: Surface, seed: int) -> Learned:
        """Learns the vectors; those that explained a fixed set of noised images best are kept.

        Raises:
            InvalidInputError: No images of the concept, or a start without a token.
        """
        generator = torch.Generator().manual_seed(seed)
        words = surface.words
        vectors = self._first_vectors(surface)
        templates = _templates(surface, vectors)
        pool = NoisedImages.draw(surface, self.pool_size, generator)
        checked = pool.sample(_CHECKED, generator)

        def loss(rows: Tensor) -> Tensor:
            images = pool.images[rows].tolist()
            used = [templates[surface.latent_prompts[image]] for image in images]
            encoded = {template: words.embed(vectors, template) for template in set(used)}
            return pool.loss(torch.stack([encoded[template] for template in used]), rows)

        def check() -> tuple[float, Tensor]:
            with torch.no_grad():
                return loss(checked).item(), vectors.detach().clone()

        first, _ = best = check()
        vectors.requires_grad_(True)
        optimizer = torch.optim.Adam([vectors], lr=self.learning_rate)
        for number in range(1, self.iterations + 1):
            value = loss(pool.sample(self.batch_size, generator))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            if number % _CHECK_EVERY == 0 or number == self.iterations:
                best = min(best, check(), key=lambda found: found[0])
            surface.observe(Step(number, self.iterations, {"loss": value.item(), "best": best[0]}))
        return Learned(best[1], templates, {"loss_before": first, "loss": best[0]})

    def _first_vectors(self, surface: Surface) -> Tensor:
        """The mean of the start's own vectors, once for each token."""
        start = self.start or surface.concept
        token_ids = surface.words.token_ids(start)
        if not token_ids:
            raise InvalidInputError(f"start must be a word, and '{start}' has no token.")
        mean = surface.words.vectors(token_ids).mean(dim=0)
        return mean.repeat(self.tokens, 1)


def _templates(surface: Surface, vectors: Tensor) -> list[str]:
    """For each prompt, the same with a slot for the name; where that does not fit, the slot."""

    def template(prompt: str) -> str:
        return prompt.replace(surface.concept, SLOT, 1) if surface.concept in prompt else SLOT

    def fits(template: str) -> bool:
        try:
            with torch.no_grad():
                surface.words.embed(vectors, template)
        except InvalidInputError:
            return template == SLOT  # if not even that fits, the error is raised where it is used
        return True

    return [t if fits(t) else SLOT for t in map(template, surface.prompts)]


def _found(
    words: PromptModel, vectors: Tensor, templates: list[str], metrics: dict[str, float]
) -> AttackResult:
    shown = list(dict.fromkeys(templates))[:_PROMPTS]
    with torch.no_grad():
        embeds = torch.stack([words.embed(vectors, template) for template in shown])
    count = "a learned token" if len(vectors) == 1 else f"{len(vectors)} learned tokens"
    quoted = ", ".join(f'"{template.replace(SLOT, "*")}"' for template in shown[:3])
    return AttackResult(embeds, text=f"{quoted}, ...: * is {count}", metrics=metrics)
