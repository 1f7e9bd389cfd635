"""SRS-ME: concept-irrelevant unlearning within the null space, one concept at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import Checked, Erasure
from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.erasers.training import MomentumStop, NoisePool, train
from shiftreg.errors import InvalidInputError


@dataclass(frozen=True)
class SrsMe(Checked):
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
    separable: ClassVar[bool] = True
    recoverable: ClassVar[bool] = True
    changes: ClassVar[str] = "attn2.to_k and to_v, in the null space"
    cost: ClassVar[str] = "1 gradient pass a step, stops by itself"
    source: ClassVar[str] = "SRS-ME, Forget All That Should Be Forgotten"
    shown: ClassVar[str] = "correlation"
    """What the correlation of each concept is called in the progress."""
    unchecked: ClassVar[tuple[str, ...]] = ("warmup", "momentum", "weight_penalty", "anchoring")

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
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise InvalidInputError(f"momentum lies in [0, 1), and it is {self.momentum}.")

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        seed: int = 0,
    ) -> Erasure:
        """Trains the factors ``A_l``; everything else is frozen. See ``Eraser``."""
        return self._unlearn([problem], weights, [data], seed)[0]

    def _unlearn(
        self,
        problems: Sequence[ErasureProblem],
        weights: Mapping[str, Tensor],
        data: Sequence[TrainingData | None],
        seed: int,
    ) -> list[Erasure]:
        """Trains the factors of some concepts together, with all of their shifts applied.

        The loss of each counts as much as the largest, so that none runs ahead of the others.
        """
        generator = torch.Generator().manual_seed(seed)
        concepts = [
            ConceptUnlearning.begin(problem, weights, own, generator, self)
            for problem, own in zip(problems, data, strict=True)
        ]
        shared = data[0]
        assert shared is not None  # the pool refuses it
        stops = [MomentumStop(self.momentum, self.tau, self.warmup) for _ in concepts]
        directions = torch.cat([concept.directions for concept in concepts])

        def loss() -> tuple[Tensor, dict[str, float]]:
            rows = [concept.pool.sample(self.batch_size, generator) for concept in concepts]
            batches = [c.batch(own) for c, own in zip(concepts, rows, strict=True)]
            noisy, timesteps, embeds = map(torch.cat, zip(*batches, strict=True))
            # Side by side, the factors of all concepts are those of one shift of their joint rank.
            factors = {
                name: torch.cat([concept.factors[name] for concept in concepts], dim=1)
                for name in weights
            }
            with shared.model.shifted(directions, factors):
                predicted = shared.model.predict(noisy, timesteps, embeds)
            parts = predicted.split([len(own) for own in rows])
            losses, correlations = [], {}
            for i, (concept, part, own) in enumerate(zip(concepts, parts, rows, strict=True)):
                correlation = concept.correlation(part, own)
                stops[i].update(correlation.item())
                losses.append(correlation + self.anchoring * concept.distance(part, own))
                correlations[self.shown.format(i)] = correlation.item()
            stacked = torch.stack(losses)
            balance = (stacked.max() / stacked).detach()
            value = (balance * stacked).mean() + torch.stack([c.penalty() for c in concepts]).mean()
            furthest = max(stops, key=lambda stop: stop.average / max(stop.first, 1e-30))
            return value, {
                "loss": value.item(),
                **correlations,
                "momentum_average": furthest.average,
                "tau": self.tau * furthest.first,
            }

        steps = train(
            [factor for concept in concepts for factor in concept.factors.values()],
            loss,
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            generator=generator,
            data=shared,
            stops=stops,
        )
        return [
            concept.erasure(
                {"iterations": float(steps), "first_loss": s.first, "last_average": s.average}
            )
            for concept, s in zip(concepts, stops, strict=True)
        ]


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
    settings: SrsMe

    @classmethod
    def begin(
        cls,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        generator: torch.Generator,
        settings: SrsMe,
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


def _coordinates(problem: ErasureProblem, settings: SrsMe) -> tuple[Tensor, Tensor, Tensor]:
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
