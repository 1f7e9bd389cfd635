"""An edit of values within the approximate null space of everything that is kept, as in SPEED."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import SolvedEraser
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.errors import InvalidInputError
from shiftreg.subspace import null_space_basis


@dataclass(frozen=True)
class SpeedLike(SolvedEraser):
    """Moves the last row of a name onto its anchor's within the null space of retained rows.

    Source: "SPEED: Scalable, Precise, and Efficient Concept Erasure", null-space constrained edit
    of ``to_v``. With ``N`` a basis of what the retained rows (one a concept) hardly use, and
    ``z = t N'``::

        delta = W (a - t)' z (z'z + lambda I)^-1 N

    Its filtering and augmentation of the retained rows are left out, and one concept is solved at
    a time, so that it can be restored alone: hence "like".

    Attributes:
        threshold: Directions in which the retained rows have at most this share of their largest
            singular value count as free.
        empty_directions: Directions of the empty prompt that are kept exactly.
        ridge: ``lambda``, in units of the mean energy of a name's row.
    """

    name: ClassVar[str] = "speed-like"
    changes: ClassVar[str] = "attn2.to_v, by the last row of a name"
    source: ClassVar[str] = "after SPEED (Li et al. 2025)"
    projections: ClassVar[tuple[str, ...]] = ("to_v",)

    threshold: float = 0.1
    empty_directions: int = 4
    ridge: float = 4e-6

    def embedding_map(self, problem: ErasureProblem) -> Tensor:
        """See ``SolvedEraser``.

        Raises:
            InvalidInputError: What is kept leaves no direction free.
        """
        name, anchor = problem.name_rows()  # (n, d_in)
        free = null_space_basis(problem.retained_rows, self.threshold)  # (m, d_in)
        _, _, empty = torch.linalg.svd(problem.empty_embeds.double(), full_matrices=False)
        if len(free) > 0:
            free = null_space_basis(empty[: self.empty_directions] @ free.T) @ free
        if len(free) == 0:
            raise InvalidInputError(
                f"With threshold {self.threshold} the retained rows and the empty prompt leave no "
                "direction free to change. Raise threshold, or lower empty_directions."
            )
        z = name @ free.T  # (n, m)
        energy = name.square().sum(dim=1).mean()
        system = z.T @ z + self.ridge * energy * torch.eye(len(free), dtype=torch.float64)
        return torch.linalg.solve(system, z.T @ (anchor - name)).T @ free  # (d_in, d_in)
