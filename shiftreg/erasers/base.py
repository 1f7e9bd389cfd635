"""What every eraser gets and gives: plain tensors in, a change of weights out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.errors import InvalidInputError

SUPPORT_RTOL = 1e-9


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
    def of_map(
        cls, embedding_map: Tensor, weights: Mapping[str, Tensor], basis: Tensor | None = None
    ) -> Erasure:
        """The change ``delta_l = W_l @ map`` in factors of the lowest rank.

        Args:
            embedding_map: ``(d_in, d_in)``, one for all layers; with a basis, ``(d_in, m)``.
            weights: Layer name -> ``W_l (d_out, d_in)``.
            basis: ``S (m, d_in)``, orthonormal: what the columns of the map stand for.
        """
        _, values, right = torch.linalg.svd(embedding_map.double(), full_matrices=False)
        used = right[values > SUPPORT_RTOL * values[:1]]  # (q, m)
        support = used if basis is None else used @ basis  # (q, d_in)
        factor = embedding_map.double() @ used.T  # (d_in, q)
        factors = {name: (weight.double() @ factor).float() for name, weight in weights.items()}
        return cls(support.float().contiguous(), factors)


class Eraser(Protocol):
    """One method of erasing. Its dataclass fields are its hyper-parameters.

    Attributes:
        name: What ``--method`` takes.
        trains: Whether it needs ``TrainingData``.
        separable: Whether its shifts leave the protected prompts exactly as they are.
        recoverable: Whether a concept that it erased may be restored.
        changes: The weights that it changes.
        cost: What it takes.
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
        """Finds the change.

        Args:
            problem: Prompts, anchors and constraints.
            weights: Layer name -> ``W_l (d_out, d_in)``: the layers that shifts change.
            data: The base and latents of the concept, for methods that train.
            seed: Of all that is drawn.

        Raises:
            InvalidInputError: No data for a method that trains, or no direction to change.
        """


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


@dataclass(frozen=True)
class Checked:
    """Hyper-parameters of which each number is positive and finite."""

    unchecked: ClassVar[tuple[str, ...]] = ()
    """Those that may be something else."""

    def __post_init__(self) -> None:
        """Checks them.

        Raises:
            InvalidInputError: Naming the first that is not.
        """
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, str) or one.name in self.unchecked:
                continue
            if not 0 < value < float("inf"):
                raise InvalidInputError(f"{one.name} must be a positive number, and it is {value}.")


@dataclass(frozen=True)
class SolvedEraser(Checked):
    """A method that solves for one map of embeddings for all layers, and trains nothing."""

    trains: ClassVar[bool] = False
    separable: ClassVar[bool] = False
    recoverable: ClassVar[bool] = True
    cost: ClassVar[str] = "one solve"
    projections: ClassVar[tuple[str, ...]] = ("to_k", "to_v")

    def embedding_map(self, problem: ErasureProblem) -> Tensor:
        """``(d_in, d_in)`` float64: ``delta_l`` is ``W_l`` times it."""
        raise NotImplementedError

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None = None,
        seed: int = 0,
    ) -> Erasure:
        """Solves the edit; see ``Eraser``."""
        changed = {name: w for name, w in weights.items() if name.endswith(self.projections)}
        return Erasure.of_map(self.embedding_map(problem), changed)
