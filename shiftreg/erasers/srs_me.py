"""SRS-ME: concept-irrelevant unlearning within the null space, one concept at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import (
    Erasure,
    ErasureProblem,
    Step,
    TrainingData,
    require_positive,
)
from shiftreg.errors import InvalidInputError


@dataclass(frozen=True)
class SrsMe:
    """Makes the concept's noise predictions uncorrelated with what they were.

    Source: "Forget All That Should Be Forgotten" (SRS-ME), concept correlation loss with momentum
    stopping. The paper's representation of a concept is taken relative to the empty prompt; here
    it is relative to the anchor, the same prompt without the concept::

        r(c) = eps(x_t, c) - eps(x_t, anchor),    L_cor = mean |r_shifted(c) * r(c)|

    so that orthogonality leaves the subject where it was. The absolute value of each sample's
    mean ends the paper's reward below zero, which would turn the concept into its opposite.

    Attributes:
        learning_rate: Of Adam, on whitened coordinates of the null space.
        iterations: Limit of steps (paper: 1000).
        batch_size: Noised latents a step.
        pool_size: Noised latents whose frozen predictions are computed once.
        warmup: Steps before the stopping condition is read (reference code: 10).
        momentum: ``alpha`` of the stopping average (paper: 0.9).
        tau: Stop when the average falls to this share of the first loss. The paper's 1e-4 is
            absolute, and depends on the base.
        weight_penalty: ``lambda``, on the mean absolute weight change (paper: 1e-6).
        anchoring: Weight of the squared distance to the anchor's prediction; 0 is the paper's loss.
        preservation: ``mu``, weight of the ordinary prompts.
        ridge: ``rho``, as in the closed form.
    """

    name: ClassVar[str] = "srs-me"
    trains: ClassVar[bool] = True
    source: ClassVar[str] = "SRS-ME, Forget All That Should Be Forgotten"

    learning_rate: float = 0.02
    iterations: int = 1000
    batch_size: int = 8
    pool_size: int = 128
    warmup: int = 10
    momentum: float = 0.9
    tau: float = 0.1
    weight_penalty: float = 1e-6
    anchoring: float = 1.0
    preservation: float = 10.0
    ridge: float = 0.1

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        require_positive(
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            batch_size=self.batch_size,
            pool_size=self.pool_size,
            tau=self.tau,
            preservation=self.preservation,
            ridge=self.ridge,
        )
        if not 0 <= self.momentum < 1:
            raise InvalidInputError(f"momentum lies in [0, 1), and it is {self.momentum}.")

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        seed: int = 0,
    ) -> Erasure:
        """Trains the factors ``A_l``; everything else is frozen.

        Args:
            problem: Prompts, anchors and constraints.
            weights: Layer name -> ``W_l (d_out, d_in)``.
            data: The base and latents of the concept.
            seed: Of the noise, the timesteps and the batches.

        Raises:
            InvalidInputError: No training data.
        """
        if data is None or len(data.latents) == 0:
            raise InvalidInputError("srs-me trains on latents of the concept, and got none.")
        generator = torch.Generator().manual_seed(seed)
        pool = _Pool.draw(problem, data, self.pool_size, generator)
        support, whitening, preserved = self._coordinates(problem)
        factors = {
            name: torch.zeros(len(weight), len(support), requires_grad=True)
            for name, weight in weights.items()
        }
        scales = {name: float(weight.norm()) for name, weight in weights.items()}
        optimizer = torch.optim.Adam(list(factors.values()), lr=self.learning_rate)
        average = first = 0.0
        step = 0
        for step in range(1, self.iterations + 1):
            rows = torch.randperm(len(pool.noisy), generator=generator)[: self.batch_size]
            with data.model.shifted(whitening @ support, factors):
                predicted = data.model.predict(
                    pool.noisy[rows], pool.timesteps[rows], pool.concept_embeds[rows]
                )
            before = pool.concept_noise[rows] - pool.anchor_noise[rows]
            after = predicted - pool.anchor_noise[rows]
            correlation = (after * before).flatten(1).mean(dim=1).abs().mean()
            distance = after.square().mean()
            disturbance = sum(
                (factor @ preserved).square().sum() / scales[name] ** 2
                for name, factor in factors.items()
            ) / len(factors)
            size = sum(factor.abs().mean() for factor in factors.values()) / len(factors)
            loss = (
                correlation
                + self.anchoring * distance
                + self.preservation * disturbance
                + self.weight_penalty * size
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            value = correlation.item()
            first = first or value
            average = value if step == 1 else self.momentum * average + (1 - self.momentum) * value
            values = {
                "loss": loss.item(),
                "correlation": value,
                "momentum_average": average,
                "tau": self.tau * first,
            }
            data.observe(Step(step, self.iterations, values))
            if step > self.warmup and average <= self.tau * first:
                break
        return Erasure(
            support.contiguous(),
            {name: (factor.detach() @ whitening).contiguous() for name, factor in factors.items()},
            {"iterations": float(step), "first_loss": first, "last_average": average},
        )

    def _coordinates(self, problem: ErasureProblem) -> tuple[Tensor, Tensor, Tensor]:
        """The support, and coordinates in which every direction is as costly as any other.

        Returns:
            ``Q (q, d_in)``, the whitening ``(q, q)`` by the closed form's metric, and the
            preserved rows in whitened coordinates ``(q, q)`` as a square root; all float32.
        """
        concept, _ = problem.suffix_rows()
        support = problem.null_basis
        c = concept @ support.T
        r = problem.preserved_rows.double() @ support.T
        energy = concept.square().sum(dim=1).mean() / concept.shape[1]
        ordinary = r.T @ r / max(1, len(r))
        metric = (
            c.T @ c / len(c)
            + self.preservation * ordinary
            + self.ridge * energy * torch.eye(len(support), dtype=torch.float64)
        )
        values, vectors = torch.linalg.eigh(metric)
        whitening = (vectors / values.sqrt()) @ vectors.T
        values, vectors = torch.linalg.eigh(whitening @ ordinary @ whitening)
        root = vectors * values.clamp(min=0).sqrt()
        return support.float(), whitening.float(), root.float()


@dataclass(frozen=True)
class _Pool:
    """Noised latents with the frozen base's predictions, computed once."""

    noisy: Tensor  # (n, C, h, w)
    timesteps: Tensor  # (n,)
    concept_embeds: Tensor  # (n, L, d_in)
    concept_noise: Tensor  # (n, C, h, w)
    anchor_noise: Tensor  # (n, C, h, w)

    @classmethod
    @torch.no_grad()
    def draw(
        cls,
        problem: ErasureProblem,
        data: TrainingData,
        size: int,
        generator: torch.Generator,
    ) -> _Pool:
        picks = torch.randint(len(data.latents), (size,), generator=generator)
        latents = data.latents[picks]
        timesteps = torch.randint(1000, (size,), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = data.model.noised(latents, timesteps, noise)
        pairs = torch.tensor(data.pair_index)[picks]
        concept, anchor = problem.prompt_embeds[pairs], problem.anchor_embeds[pairs]

        def predict(embeds: Tensor) -> Tensor:
            chunks = zip(noisy.split(16), timesteps.split(16), embeds.split(16), strict=True)
            return torch.cat([data.model.predict(*chunk) for chunk in chunks])

        return cls(noisy, timesteps, concept, predict(concept), predict(anchor))
