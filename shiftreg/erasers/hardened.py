"""Closed-form erasure against attacks: what an attacker would learn is erased, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import Checked, Erasure
from shiftreg.erasers.closed_form import ClosedForm
from shiftreg.erasers.model import Step, TrainingData, Words
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.errors import InvalidInputError

if TYPE_CHECKING:
    from shiftreg.attacks import ConceptInversion, Surface

PROMPTS = 8
"""Prompts that each learned word is erased in."""


@dataclass(frozen=True)
class ClosedFormHardened(Checked):
    """Solves, lets an attacker learn words that bring the concept back, and solves with those, too.

    Each round attacks the erasure of the round before by concept inversion: once from the concept's
    name and then from words drawn at random. The learned words join the concept's prompts, with the
    same prompts without them as anchors. The null space stays that of the protected prompts, so
    that separability is as exact as without.

    The idea of solving again for adversarial embeddings is RECE's (Gong et al. 2024). There they
    are found in closed form; here by what reaches the model through its text encoder, since a free
    embedding can be put together from what is protected, whatever is erased.

    Attributes:
        rounds: Of attack and solution.
        inversions: Words learned a round.
        iterations: Steps of learning a word.
        learning_rate: Of Adam.
        batch_size: Noised images a step.
        preservation: As in the closed form.
        ridge: As in the closed form.
        naming: As in the closed form.
    """

    name: ClassVar[str] = "closed-form-hardened"
    trains: ClassVar[bool] = True
    separable: ClassVar[bool] = True
    recoverable: ClassVar[bool] = True
    changes: ClassVar[str] = "attn2.to_k and to_v, in the null space"
    cost: ClassVar[str] = "a solve and some attacks a round"
    source: ClassVar[str] = "shiftreg; closed form, with RECE's rounds of attack"
    # The solver checks them.
    unchecked: ClassVar[tuple[str, ...]] = ("preservation", "ridge", "naming")

    rounds: int = 3
    inversions: int = 2
    iterations: int = 150
    learning_rate: float = 5e-3
    batch_size: int = 8
    preservation: float = 200.0
    ridge: float = 0.1
    naming: float = 0.0

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        super().__post_init__()
        self.solver()

    def solver(self) -> ClosedForm:
        """The closed form that is solved in each round."""
        return ClosedForm(self.preservation, self.ridge, self.naming)

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        seed: int = 0,
    ) -> Erasure:
        """Solves, attacks through the text encoder, and solves again; see ``Eraser``."""
        if data is None or data.words is None:
            raise InvalidInputError("This method attacks through the text encoder, and got none.")
        words, solver = data.words, self.solver()
        kept = data.checkpoints.load() or {"learned": [], "losses": []}
        learned: list[Tensor] = list(kept["learned"])
        losses: list[float] = list(kept["losses"])
        total = self.rounds * self.inversions
        while len(learned) < total:
            # All words of a round attack the same erasure.
            before = learned[: len(learned) - len(learned) % self.inversions]
            erasure = solver.erase(_with_words(problem, words, before), weights)
            attack = self._attack(len(learned), words, seed)
            surface = self._surface(data, words, weights, len(learned))
            with data.model.shifted(erasure.support, erasure.factors):
                found = attack.learn(surface, seed + len(learned))
            learned.append(found.vectors)
            losses.append(found.metrics["loss"])
            data.checkpoints.save(lambda: {"learned": learned, "losses": losses})
        erasure = solver.erase(_with_words(problem, words, learned), weights)
        metrics = {"adversarial_words": float(total), "last_attack_loss": losses[-1]}
        return replace(erasure, metrics={**erasure.metrics, **metrics})

    def _attack(self, number: int, words: Words, seed: int) -> ConceptInversion:
        """The first word of a round is learned from the name, the others from chance."""
        from shiftreg.attacks import ConceptInversion  # which builds on the erasers

        start = ""
        if number % self.inversions:
            generator = torch.Generator().manual_seed(seed + number)
            ids = words.model.vocabulary_ids
            pick = int(torch.randint(len(ids), (1,), generator=generator))
            start = words.model.text([ids[pick]])
        return ConceptInversion(
            start=start,
            iterations=self.iterations,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
        )

    def _surface(
        self, data: TrainingData, words: Words, weights: Mapping[str, Tensor], done: int
    ) -> Surface:
        from shiftreg.attacks import Surface

        limit = self.rounds * self.inversions * self.iterations

        def on_step(step: Step) -> None:
            data.observe(Step(done * self.iterations + step.number, limit, step.values))

        return Surface(
            model=data.model,
            words=words.model,
            base_weights=weights,
            concept=words.concept,
            prompts=words.prompts,
            anchors=words.anchors,
            latents=data.latents,
            latent_prompts=data.pair_index,
            observe=on_step,
        )


def _with_words(problem: ErasureProblem, words: Words, learned: Sequence[Tensor]) -> ErasureProblem:
    """The problem with prompts of learned words among the concept's prompts."""
    templates = [
        (template, anchor)
        for prompt, anchor in zip(words.prompts, words.anchors, strict=True)
        if (template := prompt.replace(words.concept, "{}", 1)) != prompt
    ]
    templates = templates[:: max(1, len(templates) // PROMPTS)][:PROMPTS]
    if not learned or not templates:
        return problem
    with torch.no_grad():
        prompt_embeds = [
            words.model.embed(vectors, template) for vectors in learned for template, _ in templates
        ]
    starts = [1 + len(words.model.token_ids(template.split("{}")[0])) for template, _ in templates]
    return problem.extended(
        torch.stack(prompt_embeds),
        words.model.encode([anchor for _, anchor in templates]).repeat(len(learned), 1, 1),
        starts * len(learned),
        [start + len(vectors) - 1 for vectors in learned for start in starts],
    )
