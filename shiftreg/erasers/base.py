"""What every eraser gets and gives: plain tensors in, a change of weights out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from shiftreg.errors import InvalidInputError

SUPPORT_RTOL = 1e-9


@dataclass(frozen=True)
class ErasureProblem:
    """The prompts of one erasure as embeddings.

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

        Returns:
            ``C`` and ``A``, both ``(rows, d_in)`` float64.
        """
        mask = (
            torch.arange(self.prompt_embeds.shape[1]) >= torch.tensor(self.name_positions)[:, None]
        )
        return self.prompt_embeds[mask].double(), self.anchor_embeds[mask].double()

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


@dataclass(frozen=True)
class Step:
    """Progress of a training: step number, its limit, and named values."""

    number: int
    limit: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Erasure:
    """What an eraser found: ``delta_l = A_l @ Q``, or dense deltas.

    Attributes:
        support: ``Q (q, d_in)`` float32.
        factors: Layer name -> ``A_l (d_out, q)`` float32.
        dense: Parameter -> delta of its shape, float32.
        metrics: Deterministic facts about the solution.
    """

    support: Tensor
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    dense: Mapping[str, Tensor] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_map(cls, embedding_map: Tensor, weights: Mapping[str, Tensor]) -> Erasure:
        """The change ``delta_l = W_l @ map`` in factors of the lowest rank.

        Args:
            embedding_map: ``(d_in, d_in)``, one for all layers.
            weights: Layer name -> ``W_l (d_out, d_in)``.
        """
        _, values, right = torch.linalg.svd(embedding_map.double())
        support = right[values > SUPPORT_RTOL * values[0]]  # (q, d_in)
        factor = embedding_map.double() @ support.T  # (d_in, q)
        factors = {name: (weight.double() @ factor).float() for name, weight in weights.items()}
        return cls(support.float().contiguous(), factors)


class Trainable(Protocol):
    """Parameters of the base that are being trained."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """Name -> the parameter."""
        ...

    def deltas(self) -> dict[str, Tensor]:
        """Name -> how far it has moved from the base, float32; only those that have."""
        ...


class Checkpoints(Protocol):
    """Where an interrupted training is continued from."""

    def load(self) -> Mapping[str, Any] | None:
        """The state that was last kept; None if there is none."""
        ...

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Called between any two steps; keeps the state now and then."""
        ...


class NoCheckpoints:
    """Interrupted, a training starts again."""

    def load(self) -> None:
        """There is never one."""

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Forgets it."""


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

    @property
    def cross_attention(self) -> Sequence[str]:
        """Names of all parameters of the cross-attentions."""
        ...

    @property
    def others(self) -> Sequence[str]:
        """Names of all other parameters, but those of the time embedding and the output."""
        ...

    def trainable(self, names: Iterable[str]) -> AbstractContextManager[Trainable]:
        """Context in which parameters are trained in place; the base's values return."""
        ...

    def attention(
        self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor
    ) -> Sequence[Tensor]:
        """Attention maps ``(B, heads, pixels, L)`` of all cross-attentions, differentiably."""
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
        checkpoints: Where the training is continued from.
    """

    model: NoiseModel
    latents: Tensor
    pair_index: tuple[int, ...]
    observe: Callable[[Step], None]
    checkpoints: Checkpoints = field(default_factory=NoCheckpoints)


class Eraser(Protocol):
    """One method of erasing. Its dataclass fields are its hyper-parameters.

    Attributes:
        name: What ``--method`` takes.
        trains: Whether it needs ``TrainingData``.
        separable: Whether its shifts leave the protected prompts exactly as they are.
        recoverable: Whether a concept that it erased may be restored.
        changes: What it changes, in words.
        cost: What it takes, in words.
        source: Where it comes from.
    """

    name: ClassVar[str]
    trains: ClassVar[bool]
    separable: ClassVar[bool]
    recoverable: ClassVar[bool]
    changes: ClassVar[str]
    cost: ClassVar[str]
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


class JointEraser(Eraser, Protocol):
    """A method that erases several concepts in one training."""

    def erase_jointly(
        self,
        problems: Sequence[ErasureProblem],
        weights: Mapping[str, Tensor],
        data: Sequence[TrainingData],
        seed: int,
    ) -> list[Erasure]:
        """Finds one change a problem."""
        ...


def require_positive(**values: float) -> None:
    """Refuses hyper-parameters that are not positive and finite.

    Raises:
        InvalidInputError: Naming the first that is not.
    """
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise InvalidInputError(f"{name} must be a positive number, and it is {value}.")
