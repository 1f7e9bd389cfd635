"""Closed-form erasure: one linear solve in the null space, shared by all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import Erasure, SolvedEraser
from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.errors import InvalidInputError
from shiftreg.subspace import Capacity, relative_change, row_space_basis, tight_support


@dataclass(frozen=True)
class ClosedForm(SolvedEraser):
    """Moves the concept's keys and values onto its anchor's, without training.

    In coordinates of the null space ``S`` (``c = C S'``, ``r = R S'``), with means over rows and
    ``T = (A - C) W'``, it minimises ``|c w' - T|^2 + mu |r w'|^2 + rho |w|^2`` exactly::

        w = T' c (c' c + mu r' r + rho I)^-1,    delta = w S

    With ``naming``, the rows of the bare names count once more, by that weight: one prompt among
    all prompts, they are otherwise the first that many preserved prompts keep from being erased.

    ``T`` is linear in ``W``, so that one solve gives one map of embeddings for all layers.

    Attributes:
        preservation: ``mu``, weight of the ordinary prompts.
        ridge: ``rho``, in units of the mean energy of a row in one dimension.
        naming: Weight of the bare names, beside that of all prompts together, which is 1.
    """

    name: ClassVar[str] = "closed-form"
    separable: ClassVar[bool] = True
    changes: ClassVar[str] = "attn2.to_k and to_v, in the null space"
    source: ClassVar[str] = "shiftreg; least squares as in UCE, constrained as in SRS-ME"
    unchecked: ClassVar[tuple[str, ...]] = ("naming",)

    preservation: float = 200.0
    ridge: float = 0.1
    naming: float = 0.0

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        super().__post_init__()
        if not 0 <= self.naming < float("inf"):
            raise InvalidInputError(f"naming must be 0 or more, and it is {self.naming}.")

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None = None,
        seed: int = 0,
    ) -> Erasure:
        """Solves the erasure, its support narrowed to the directions used; see ``Eraser``."""
        return Erasure.of_map(self._coordinates(problem), weights, problem.null_basis)

    def embedding_map(self, problem: ErasureProblem) -> Tensor:
        """``(A - C)' c M^-1 S``; see ``SolvedEraser``."""
        return self._coordinates(problem) @ problem.null_basis

    def _coordinates(self, problem: ErasureProblem) -> Tensor:
        """``(A - C)' c M^-1``, ``(d_in, m)``: the map in coordinates of the null space."""
        concept, anchor = problem.suffix_rows()
        basis = problem.null_basis
        c = concept @ basis.T  # (n, m)
        system = problem.metric(self.preservation, self.ridge)
        target = (anchor - concept).T @ c / len(c)  # (d_in, m)
        if self.naming > 0 and problem.bare_names:
            name, name_anchor = problem.only(problem.bare_names).suffix_rows()
            n = name @ basis.T
            system += self.naming * (n.T @ n) / len(n)
            target += self.naming * (name_anchor - name).T @ n / len(n)
        return torch.linalg.solve(system, target.T).T


def imitate(problem: ErasureProblem, deltas: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Does within the null space what other changes do to the concept's own prompts.

    The closed form with ``T = C delta'`` as its target: right-projection takes from a change what
    reaches protected prompts; this makes up for it in the directions that are free.

    Args:
        deltas: Layer name -> ``(d_out, d_in)``.

    Returns:
        Layer name -> ``w S (d_out, d_in)`` float64.
    """
    eraser = ClosedForm()
    concept, _ = problem.suffix_rows()
    c = concept @ problem.null_basis.T  # (n, m)
    solved = torch.linalg.solve(problem.metric(eraser.preservation, eraser.ridge), c.T / len(c))
    back = solved @ concept  # (m, d_in): w = delta' of it
    return {n: delta.double() @ back.T @ problem.null_basis for n, delta in deltas.items()}


def predict_capacity(
    problem: ErasureProblem,
    weights: Mapping[str, Tensor],
    names: Sequence[int],
    eraser: ClosedForm | None = None,
) -> Capacity:
    """Predicts, before anything is trained, what a shift within the null space can reach.

    Args:
        weights: Layer name -> ``W_l (d_out, d_in)``.
        names: Positions of the prompts that are the bare names; they must be erasable.
        eraser: Whose weights of preservation and ridge hold for the predicted change.

    Returns:
        Dimensions, the share of the names' target that no shift can meet, and the largest
        relative change of a layer.
    """
    basis = problem.null_basis
    free, width = basis.shape
    concept, anchor = problem.only(names).suffix_rows()
    target = anchor - concept
    support = tight_support(concept, basis)
    reach = row_space_basis((concept @ support.T).T)  # rows of the target that can be met
    unmet = target - reach.T @ (reach @ target)
    residuals = [
        float((unmet @ weight.double().T).norm() / (target @ weight.double().T).norm())
        for weight in weights.values()
    ]
    embedding_map = (eraser or ClosedForm()).embedding_map(problem)
    return Capacity(
        width=width,
        rank=width - free,
        free=free,
        support=len(support),
        predicted_residual=max(residuals),
        predicted_ratio=max(
            relative_change(weight.double() @ embedding_map, weight) for weight in weights.values()
        ),
    )
