"""SRS-ME: concept-irrelevant unlearning within the null space, one concept at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import Erasure, require_positive
from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.erasers.training import MomentumStop, train
from shiftreg.erasers.unlearning import ConceptUnlearning
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
    separable: ClassVar[bool] = True
    recoverable: ClassVar[bool] = True
    changes: ClassVar[str] = "attn2.to_k and to_v, in the null space"
    cost: ClassVar[str] = "1 gradient pass a step, stops by itself"
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
        generator = torch.Generator().manual_seed(seed)
        unlearning = ConceptUnlearning.begin(problem, weights, data, generator, self)
        assert data is not None  # the pool refuses it
        model, stop = data.model, MomentumStop(self.momentum, self.tau, self.warmup)

        def loss() -> tuple[Tensor, dict[str, float]]:
            rows = unlearning.pool.sample(self.batch_size, generator)
            with model.shifted(unlearning.directions, unlearning.factors):
                predicted = model.predict(*unlearning.batch(rows))
            correlation = unlearning.correlation(predicted, rows)
            value = (
                correlation
                + self.anchoring * unlearning.distance(predicted, rows)
                + unlearning.penalty()
            )
            stop.update(correlation.item())
            return value, {
                "loss": value.item(),
                "correlation": correlation.item(),
                "momentum_average": stop.average,
                "tau": self.tau * stop.first,
            }

        steps = train(
            list(unlearning.factors.values()),
            loss,
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            generator=generator,
            data=data,
            stops=[stop],
        )
        return unlearning.erasure(
            {"iterations": float(steps), "first_loss": stop.first, "last_average": stop.average}
        )
