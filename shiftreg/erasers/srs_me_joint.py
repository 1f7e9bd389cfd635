"""SRS-ME over several concepts at once, their losses balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from shiftreg.erasers.base import Erasure
from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.erasers.srs_me import SrsMe


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
    shown: ClassVar[str] = "correlation.{}"

    tau: float = 0.3

    def erase_jointly(
        self,
        problems: Sequence[ErasureProblem],
        weights: Mapping[str, Tensor],
        data: Sequence[TrainingData | None],
        seed: int = 0,
    ) -> list[Erasure]:
        """Trains the factors of all concepts; everything else is frozen.

        Args:
            problems: One a concept.
            weights: As for ``Eraser``.
            data: Latents of each concept, on one base; the first is notified of the progress.
            seed: As for ``Eraser``.

        Returns:
            One change a concept, in the same order.
        """
        return self._unlearn(problems, weights, data, seed)
