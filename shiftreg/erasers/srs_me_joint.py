"""SRS-ME over several concepts at once, their losses balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import Erasure
from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.erasers.srs_me import ConceptUnlearning, SrsMe
from shiftreg.erasers.training import MomentumStop, train


@dataclass(frozen=True)
class SrsMeJoint(SrsMe):
    """Trains the shifts of a batch of concepts together, all of them applied at once.

    Source: "Forget All That Should Be Forgotten" (SRS-ME), joint variant: the loss of concept
    ``i`` counts with ``eta_i = max_k |L_k| / |L_i|``, detached, so that none runs ahead of the
    others. It ends when every concept's moving average has fallen to ``tau`` of its first value.

    Attributes:
        tau: As for one concept, but less strict: the shifts move each other's prompts while they
            are trained, so that the last of six concepts stays near a quarter of its first value.
    """

    name: ClassVar[str] = "srs-me-joint"
    cost: ClassVar[str] = "1 gradient pass a step over a batch a concept; memory of all of them"
    source: ClassVar[str] = "SRS-ME, Forget All That Should Be Forgotten (joint variant)"

    tau: float = 0.3

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        seed: int = 0,
    ) -> Erasure:
        """Erases one concept: a batch of one."""
        return self.erase_jointly([problem], weights, [data], seed)[0]

    def erase_jointly(
        self,
        problems: Sequence[ErasureProblem],
        weights: Mapping[str, Tensor],
        data: Sequence[TrainingData | None],
        seed: int = 0,
    ) -> list[Erasure]:
        """Trains the factors of all concepts; everything else is frozen.

        Args:
            problems: Prompts, anchors and constraints of each concept.
            weights: Layer name -> ``W_l (d_out, d_in)``.
            data: Latents of each concept, on one base; the first is notified of the progress.
            seed: Of the noise, the timesteps and the batches.

        Returns:
            One change a concept, in the same order.

        Raises:
            InvalidInputError: No training data.
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
            losses, values = [], {}
            for i, (concept, part, own) in enumerate(zip(concepts, parts, rows, strict=True)):
                correlation = concept.correlation(part, own)
                stops[i].update(correlation.item())
                losses.append(correlation + self.anchoring * concept.distance(part, own))
                values[f"correlation.{i}"] = correlation.item()
            stacked = torch.stack(losses)
            balance = (stacked.max() / stacked).detach()
            value = (balance * stacked).mean() + torch.stack([c.penalty() for c in concepts]).mean()
            furthest = max(stops, key=lambda stop: stop.average / max(stop.first, 1e-30))
            return value, {
                "loss": value.item(),
                "momentum_average": furthest.average,
                "tau": self.tau * furthest.first,
                **values,
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
