"""What every eraser gets and gives: plain tensors in, a low-rank change out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from shiftreg.errors import InvalidInputError
from shiftreg.subspace import RANK_RTOL, null_space_basis


@dataclass(frozen=True)
class ErasureProblem:
    """The prompts of one erasure as embeddings.

    Attributes:
        prompt_embeds: ``(n, L, d_in)``, the concept's prompts.
        anchor_embeds: ``(n, L, d_in)``, what each should mean afterwards.
        name_positions: First token of the name in each prompt; the rows before it are common to
            all concepts and stay as they are.
        preserved_rows: ``R (k, d_in)``, rows to disturb as little as possible (soft).
        null_basis: ``S (m, d_in)`` float64, null space of the protected prompts (hard).
    """

    prompt_embeds: Tensor
    anchor_embeds: Tensor
    name_positions: tuple[int, ...]
    preserved_rows: Tensor
    null_basis: Tensor

    @classmethod
    def of(
        cls,
        prompt_embeds: Tensor,
        anchor_embeds: Tensor,
        name_positions: list[int],
        protected_embeds: Tensor,
        preserved_rows: Tensor,
        rtol: float = RANK_RTOL,
    ) -> ErasureProblem:
        """Builds the problem, with the null space of ``protected_embeds (p, L, d_in)``."""
        return cls(
            prompt_embeds,
            anchor_embeds,
            tuple(name_positions),
            preserved_rows,
            null_space_basis(protected_embeds.flatten(0, 1), rtol),
        )

    def suffix_rows(self) -> tuple[Tensor, Tensor]:
        """Rows from the name on, of the prompts and, position by position, of their anchors.

        Returns:
            ``C`` and ``A``, both ``(rows, d_in)`` float64.
        """
        mask = (
            torch.arange(self.prompt_embeds.shape[1]) >= torch.tensor(self.name_positions)[:, None]
        )
        return self.prompt_embeds[mask].double(), self.anchor_embeds[mask].double()

    def only(self, prompts: Sequence[int]) -> ErasureProblem:
        """The same problem for some of the prompts, by their position."""
        picked = torch.tensor(prompts)
        return replace(
            self,
            prompt_embeds=self.prompt_embeds[picked],
            anchor_embeds=self.anchor_embeds[picked],
            name_positions=tuple(self.name_positions[i] for i in prompts),
        )


@dataclass(frozen=True)
class Step:
    """Progress of a training: step number, its limit, and named values."""

    number: int
    limit: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Erasure:
    """What an eraser found: ``delta_l = A_l @ Q``.

    Attributes:
        support: ``Q (q, d_in)`` float32.
        factors: Layer name -> ``A_l (d_out, q)`` float32.
        metrics: Deterministic facts about the solution.
    """

    support: Tensor
    factors: dict[str, Tensor]
    metrics: dict[str, float] = field(default_factory=dict)


class NoiseModel(Protocol):
    """The frozen base as a trained eraser needs it; see ``pipelines.Denoiser``."""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Layer name -> ``W_l (d_out, d_in)``."""
        ...

    def predict(self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor) -> Tensor:
        """Noise ``(B, C, h, w)`` for ``x_t``, ``t (B,)`` and ``e(p) (B, L, d_in)``."""
        ...

    def noised(self, latents: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """``x_t`` from ``x_0`` and noise."""
        ...

    def shifted(self, support: Tensor, factors: Mapping[str, Tensor]) -> Any:
        """Context in which the layers carry ``A_l @ Q``, differentiably in ``A_l``."""
        ...


@dataclass(frozen=True)
class TrainingData:
    """What a trained eraser learns on.

    Attributes:
        model: The frozen base.
        latents: ``x_0 (n, C, h, w)``, one picture for each prompt of ``pair_index``.
        pair_index: For each latent, the prompt of the problem that it was generated for.
        observe: Called after each step.
    """

    model: NoiseModel
    latents: Tensor
    pair_index: tuple[int, ...]
    observe: Callable[[Step], None]


class Eraser(Protocol):
    """One method of erasing. Its dataclass fields are its hyper-parameters."""

    name: ClassVar[str]
    trains: ClassVar[bool]
    source: ClassVar[str]

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        seed: int,
    ) -> Erasure:
        """Finds the change; ``data`` is given to methods that train."""
        ...


def require_positive(**values: float) -> None:
    """Refuses hyper-parameters that are not positive and finite.

    Raises:
        InvalidInputError: Naming the first that is not.
    """
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise InvalidInputError(f"{name} must be a positive number, and it is {value}.")
