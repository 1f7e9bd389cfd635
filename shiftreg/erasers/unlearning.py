"""Concept-irrelevant unlearning of one concept: its coordinates, factors and loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from shiftreg.erasers.base import Erasure
from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.pool import NoisePool
from shiftreg.erasers.problem import ErasureProblem


class UnlearningWeights(Protocol):
    """What the loss needs to know; see ``SrsMe``."""

    @property
    def pool_size(self) -> int: ...  # noqa: D102

    @property
    def weight_penalty(self) -> float: ...  # noqa: D102

    @property
    def anchoring(self) -> float: ...  # noqa: D102

    @property
    def preservation(self) -> float: ...  # noqa: D102

    @property
    def ridge(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class ConceptUnlearning:
    """One concept that is being unlearned within the null space of what it must not touch.

    Attributes:
        problem: Prompts, anchors and constraints.
        pool: Noised latents, with the noise of concept and anchor.
        support: ``Q (q, d_in)``.
        whitening: ``(q, q)``: in these coordinates any direction is as costly as any other.
        preserved: ``(q, q)``, square root of the ordinary prompts in whitened coordinates.
        factors: Layer name -> ``(d_out, q)`` in whitened coordinates; what is trained.
        scales: Layer name -> ``|W_l|_F``.
        settings: Hyper-parameters.
    """

    problem: ErasureProblem
    pool: NoisePool
    support: Tensor
    whitening: Tensor
    preserved: Tensor
    factors: dict[str, Tensor]
    scales: dict[str, float]
    settings: UnlearningWeights

    @classmethod
    def begin(
        cls,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        generator: torch.Generator,
        settings: UnlearningWeights,
    ) -> ConceptUnlearning:
        """Draws the pool and starts with no change.

        Raises:
            InvalidInputError: No training data.
        """
        references = (problem.prompt_embeds, problem.anchor_embeds)
        pool = NoisePool.draw(data, settings.pool_size, generator, references)
        support, whitening, preserved = _coordinates(problem, settings)
        factors = {
            name: torch.zeros(len(weight), len(support), requires_grad=True)
            for name, weight in weights.items()
        }
        scales = {name: float(weight.norm()) for name, weight in weights.items()}
        return cls(problem, pool, support, whitening, preserved, factors, scales, settings)

    @property
    def directions(self) -> Tensor:
        """``(q, d_in)``: what the factors multiply."""
        return self.whitening @ self.support

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noised latents, timesteps and embeddings of some rows of the pool."""
        embeds = self.problem.prompt_embeds[self.pool.prompts[rows]]
        return self.pool.noisy[rows], self.pool.timesteps[rows], embeds

    def correlation(self, predicted: Tensor, rows: Tensor) -> Tensor:
        """``mean |r_shifted(c) * r(c)|``, relative to the anchor's prediction.

        Args:
            predicted: Noise of the shifted model ``(B, C, h, w)``.
            rows: Of the pool, ``(B,)``.
        """
        concept_noise, anchor_noise = (noise[rows] for noise in self.pool.noise)
        product = (predicted - anchor_noise) * (concept_noise - anchor_noise)
        return product.flatten(1).mean(dim=1).abs().mean()

    def distance(self, predicted: Tensor, rows: Tensor) -> Tensor:
        """Mean squared distance to the anchor's prediction."""
        return (predicted - self.pool.noise[1][rows]).square().mean()

    def penalty(self) -> Tensor:
        """What the change costs: disturbance of ordinary prompts, and its size."""
        disturbance = torch.stack(
            [
                (factor @ self.preserved).square().sum() / self.scales[name] ** 2
                for name, factor in self.factors.items()
            ]
        ).mean()
        size = torch.stack([factor.abs().mean() for factor in self.factors.values()]).mean()
        return self.settings.preservation * disturbance + self.settings.weight_penalty * size

    def erasure(self, metrics: Mapping[str, float]) -> Erasure:
        """The change as it stands."""
        factors = {
            name: (factor.detach() @ self.whitening).contiguous()
            for name, factor in self.factors.items()
        }
        return Erasure(self.support.contiguous(), factors, metrics=metrics)


def _coordinates(
    problem: ErasureProblem, settings: UnlearningWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """The support, and coordinates whitened by the closed form's metric; all float32."""
    support = problem.null_basis
    r = problem.preserved_rows.double() @ support.T
    ordinary = r.T @ r / max(1, len(r))
    metric = problem.metric(settings.preservation, settings.ridge)
    values, vectors = torch.linalg.eigh(metric)
    whitening = (vectors / values.sqrt()) @ vectors.T
    values, vectors = torch.linalg.eigh(whitening @ ordinary @ whitening)
    root = vectors * values.clamp(min=0).sqrt()
    return support.float(), whitening.float(), root.float()
