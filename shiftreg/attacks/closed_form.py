"""A closed-form adversarial embedding: what the changed layers take for the concept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.attacks.base import AttackResult, Surface
from shiftreg.erasers.base import Checked


@dataclass(frozen=True)
class ClosedFormEmbedding(Checked):
    """Solves for rows ``c'`` that give the target the keys and values that ``c`` gave the base.

    For each row ``c`` of a prompt that names the concept, from where it differs from its anchor::

        c' = argmin sum_l |W_l' c' - W_l c|^2 + rho |c' - c|^2

    Without an erasure that is ``c`` itself.

    Source: "Reliable and Efficient Concept Erasure of Text-to-Image Diffusion Models" (RECE, Gong
    et al. 2024), which erases again what it finds; there the norm of ``c'`` itself is kept small.

    Attributes:
        ridge: ``rho``, in units of the mean energy of the target's layers in one dimension.
        prompts: Of the concept, to be solved for.
    """

    name: ClassVar[str] = "closed-form-embedding"
    needs: ClassVar[str] = "weights of target and base; the text encoder's output"
    source: ClassVar[str] = "RECE (Gong et al. 2024)"

    ridge: float = 1e-3
    prompts: int = 8

    def run(self, surface: Surface, seed: int) -> AttackResult:
        """Solves; nothing is drawn.

        Returns:
            The embeddings. Of what the erasure took from the keys and values of these rows, the
            metric ``residual`` says what share could not be brought back; ``norm`` is the mean
            ``|c'| / |c|``.
        """
        before = _stacked(surface.base_weights, surface.base_weights)
        after = _stacked(surface.model.weights, surface.base_weights)
        gram = after.T @ after
        ridge = self.ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        recovery = torch.linalg.solve(gram + ridge, after.T @ before + ridge)  # (d_in, d_in)

        words, some = surface.words, slice(self.prompts)
        concept = words.encode(surface.prompts[some]).double()
        anchor = words.encode(surface.anchors[some]).double()
        # The encoder is causal: up to the name, the rows of both are equal but for rounding.
        differs = (concept - anchor).norm(dim=2) > 1e-4 * concept.norm(dim=2)
        suffix = differs.cumsum(dim=1) > 0
        solved = torch.where(suffix[..., None], concept @ recovery.T, concept)

        c, found = concept[suffix], solved[suffix]
        lost, missing = ((rows @ after.T - c @ before.T).norm() for rows in (c, found))
        return AttackResult(
            solved.float(),
            text=f'embeddings in the place of "{surface.prompts[0]}" and its other prompts',
            metrics={
                "residual": (missing / lost).item() if lost > 0 else 0.0,
                "norm": (found.norm(dim=1) / c.norm(dim=1)).mean().item() if len(c) else 1.0,
            },
        )


def _stacked(weights: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    """All layers' rows ``(sum of d_out, d_in)`` float64, in the order of ``names``."""
    return torch.cat([weights[name].double() for name in names])
