"""UCE: one closed-form edit of keys and values, with no constraint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import SolvedEraser
from shiftreg.erasers.problem import ErasureProblem


@dataclass(frozen=True)
class Uce(SolvedEraser):
    """Moves the last row of a name onto its anchor's; others are kept by least squares.

    Source: "Unified Concept Editing in Diffusion Models" (UCE), equation 7. With rows ``t`` of the
    names, ``a`` of their anchors and ``c`` of what is kept::

        W' = W (lambda I + eta a't + rho c'c) (lambda I + eta t't + rho c'c)^-1

    Attributes:
        identity: ``lambda``, weight of every direction staying as it was, in units of the mean
            energy of a name's row. Their 0.5 is absolute: about 1/1600 of the energy of a row of
            Stable Diffusion 1.x, and as much as that of a small text encoder.
        erasing: ``eta``.
        preservation: ``rho``.
    """

    name: ClassVar[str] = "uce"
    changes: ClassVar[str] = "attn2.to_k and to_v, by the last row of a name"
    source: ClassVar[str] = "Unified Concept Editing in Diffusion Models (Gandikota et al. 2024)"

    identity: float = 1 / 1600
    erasing: float = 1.0
    preservation: float = 1.0

    def embedding_map(self, problem: ErasureProblem) -> Tensor:
        """See ``SolvedEraser``."""
        name, anchor = problem.name_rows()  # (n, d_in)
        kept = problem.retained_rows.double()  # (k, d_in)
        common = (
            self.identity
            * name.square().sum(dim=1).mean()
            * torch.eye(name.shape[1], dtype=torch.float64)
            + self.preservation * kept.T @ kept
        )
        # W' - W = W eta (a - t)' t (...)^-1: the common part of both brackets cancels.
        change = self.erasing * (anchor - name).T @ name
        system = common + self.erasing * name.T @ name
        return torch.linalg.solve(system, change.T).T
