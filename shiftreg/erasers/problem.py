"""One erasure as embeddings: what loses the concept, what it becomes, what must not notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ErasureProblem:
    """The prompts of one erasure as embeddings.

    A row of zeros is a position that nothing attends to: the padding of encoders that mask it.

    Attributes:
        prompt_embeds: ``(n, L, d_in)``, the concept's prompts.
        anchor_embeds: ``(n, L, d_in)``, what each should mean afterwards.
        name_positions: First token of the name in each prompt; the rows before it are common to
            all concepts and stay as they are.
        name_ends: Last token of the name in each prompt.
        anchor_ends: Last word of each anchor.
        bare_names: Positions of the prompts that are a name and nothing else.
        empty_embeds: ``(L, d_in)``, the empty prompt.
        retained_rows: ``(k, d_in)``, the last token of every other concept's name and plain prompt:
            what methods keep that look at one row a concept.
        preserved_rows: ``R (k, d_in)``, rows to disturb as little as possible (soft).
        null_basis: ``S (m, d_in)`` float64, null space of the protected prompts (hard).
    """

    prompt_embeds: Tensor
    anchor_embeds: Tensor
    name_positions: tuple[int, ...]
    name_ends: tuple[int, ...]
    anchor_ends: tuple[int, ...]
    bare_names: tuple[int, ...]
    empty_embeds: Tensor
    retained_rows: Tensor
    preserved_rows: Tensor
    null_basis: Tensor

    def suffix_rows(self) -> tuple[Tensor, Tensor]:
        """Rows from the name on, of the prompts and, position by position, of their anchors.

        Where an anchor is over and its prompt is not, the anchor's last row goes on: the rest of
        the prompt becomes more of its end, and not nothing, which no model ever saw.

        Returns:
            ``C`` and ``A``, both ``(rows, d_in)`` float64.
        """
        mask = (
            torch.arange(self.prompt_embeds.shape[1]) >= torch.tensor(self.name_positions)[:, None]
        ) & _attended(self.prompt_embeds)
        return self.prompt_embeds[mask].double(), _continued(self.anchor_embeds)[mask].double()

    def metric(self, preservation: float, ridge: float) -> Tensor:
        """What a change costs in coordinates of the null space: ``c'c + mu r'r + rho I``.

        Args:
            preservation: ``mu``, weight of the ordinary rows.
            ridge: ``rho``, in units of the mean energy of a concept's row in one dimension.

        Returns:
            ``(m, m)`` float64; the products are means over rows.
        """
        concept, _ = self.suffix_rows()
        c = concept @ self.null_basis.T  # (n, m)
        r = self.preserved_rows.double() @ self.null_basis.T  # (k, m)
        energy = concept.square().sum(dim=1).mean() / concept.shape[1]
        return (
            c.T @ c / len(c)
            + preservation * (r.T @ r) / max(1, len(r))
            + ridge * energy * torch.eye(len(self.null_basis), dtype=torch.float64)
        )

    def name_rows(self) -> tuple[Tensor, Tensor]:
        """Last row of each bare name, and that of its anchor: the one row that closed forms edit.

        Returns:
            ``t`` and ``a``, both ``(names, d_in)`` float64.
        """
        names = list(self.bare_names)
        ends, anchor_ends = ([at[i] for i in names] for at in (self.name_ends, self.anchor_ends))
        return (
            self.prompt_embeds[names, ends].double(),
            self.anchor_embeds[names, anchor_ends].double(),
        )

    def only(self, prompts: Sequence[int]) -> ErasureProblem:
        """The same problem for some of the prompts, by their position."""
        picked = torch.tensor(prompts)
        return replace(
            self,
            prompt_embeds=self.prompt_embeds[picked],
            anchor_embeds=self.anchor_embeds[picked],
            name_positions=tuple(self.name_positions[i] for i in prompts),
            name_ends=tuple(self.name_ends[i] for i in prompts),
            anchor_ends=tuple(self.anchor_ends[i] for i in prompts),
            bare_names=tuple(i for i, p in enumerate(prompts) if p in self.bare_names),
        )

    def extended(
        self,
        prompt_embeds: Tensor,
        anchor_embeds: Tensor,
        name_positions: Sequence[int],
        name_ends: Sequence[int],
    ) -> ErasureProblem:
        """The same problem with further prompts of the concept.

        Args:
            prompt_embeds: ``(k, L, d_in)``.
            anchor_embeds: ``(k, L, d_in)``.
            name_positions: First token of what stands for the name, one a prompt.
            name_ends: Last token of it.
        """
        return replace(
            self,
            prompt_embeds=torch.cat([self.prompt_embeds, prompt_embeds]),
            anchor_embeds=torch.cat([self.anchor_embeds, anchor_embeds]),
            name_positions=(*self.name_positions, *name_positions),
            name_ends=(*self.name_ends, *name_ends),
            anchor_ends=(*self.anchor_ends, *name_ends),
        )


def _attended(embeds: Tensor) -> Tensor:
    """Which rows are there, ``(n, L)`` bool."""
    return embeds.ne(0).any(dim=-1)


def _continued(embeds: Tensor) -> Tensor:
    """Puts the last row that is there in place of all that are not, ``(n, L, d_in)``."""
    attended = _attended(embeds)
    last = (attended * torch.arange(embeds.shape[1])).amax(dim=1)
    ends = embeds[range(len(embeds)), last]  # (n, d_in)
    return torch.where(attended[:, :, None], embeds, ends[:, None])
