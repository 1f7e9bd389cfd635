"""Profiles: how much of a protected prompt is kept exactly, and how far the rest may drift.

With every row of every prompt protected, ``d_in`` is used up after a few prompts. Most of those
rows are nearly the same: a profile keeps fewer directions, and bounds what the others let through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from shiftreg.errors import InvalidInputError
from shiftreg.subspace import null_space_basis

ProfileName = Literal["exact", "content", "svd"]


@dataclass(frozen=True)
class Profile:
    """What protected prompts contribute to the space that no shift may touch.

    Attributes:
        name: "exact": all rows. "content": the rows from BOS to EOS, and the directions of the
            padding rows that carry all but a share of their energy. "svd": the directions of all
            rows whose singular value is large.
        tolerance: "content": the share of a prompt's padding energy that may stay outside. "svd":
            the largest singular value that may, relative to the largest of all. With 0 every
            profile is exact.
    """

    name: ProfileName = "exact"
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """Checks name and tolerance."""
        if self.name not in get_args(ProfileName):
            raise InvalidInputError(
                f"There is no profile '{self.name}'. Profiles: {', '.join(get_args(ProfileName))}."
            )
        if not 0 <= self.tolerance < 1:
            raise InvalidInputError(f"A tolerance lies in [0, 1), and it is {self.tolerance}.")
        if self.name == "exact" and self.tolerance != 0:
            raise InvalidInputError(
                f"The profile 'exact' has no tolerance, and got {self.tolerance}. "
                "Use 'content' or 'svd'."
            )

    def __str__(self) -> str:
        return self.name if self.name == "exact" else f"{self.name}:{self.tolerance:g}"

    @classmethod
    def parse(cls, text: str) -> Profile:
        """Reads "exact", "content:0.01" or "svd:1e-3", as ``str(profile)`` writes them.

        Raises:
            InvalidInputError: Unknown name, or a tolerance that is missing or none.
        """
        name, colon, tolerance = text.partition(":")
        if name == "exact" and not colon:
            return cls()
        try:
            number = float(tolerance)
        except ValueError as error:
            raise InvalidInputError(
                f"A profile is 'exact', or a name and a tolerance like 'svd:1e-3'; got '{text}'."
            ) from error
        return cls(name, number)  # type: ignore[arg-type]


def profile_null_basis(
    embeds: Tensor, token_counts: Sequence[int], profile: Profile, exact: Sequence[int] = ()
) -> Tensor:
    """Null space of what a profile keeps of protected prompts.

    What is kept exactly comes first; the directions of the rest are sought in its null space, so
    that nothing is paid for twice, and are shared by all prompts.

    Args:
        embeds: ``(p, L, d_in)``.
        token_counts: Tokens of each prompt, BOS and EOS included; the rows after are padding.
        profile: Of all prompts but those of ``exact``.
        exact: Positions of the prompts that are kept exactly under any profile.

    Returns:
        ``S (m, d_in)`` float64, orthonormal rows; larger for a larger tolerance.

    Raises:
        InvalidInputError: Counts do not fit the prompts.
    """
    prompts, length, width = embeds.shape
    counts = torch.as_tensor(list(token_counts), dtype=torch.long)
    if len(counts) != prompts or bool(((counts < 1) | (counts > length)).any()):
        raise InvalidInputError(
            f"Each of the {prompts} prompts needs a token count from 1 to {length}; "
            f"got {list(token_counts)}."
        )
    if profile.tolerance == 0:
        return null_space_basis(embeds.reshape(-1, width))
    kept = torch.zeros(prompts, length, dtype=torch.bool)
    kept[list(exact)] = True
    if profile.name == "content":
        kept |= torch.arange(length) < counts[:, None]
    outside = null_space_basis(embeds[kept])
    rest = embeds[~kept].double()  # (n, d_in)
    if not len(outside) or not len(rest):
        return outside
    coordinates = rest @ outside.T
    # Of very many rows, the vectors on the left would take most of the time.
    tall = len(rest) > len(outside)
    few = torch.linalg.qr(coordinates, mode="r").R if tall else coordinates
    _, values, right = torch.linalg.svd(few)
    if profile.name == "svd":
        scale = torch.linalg.eigvalsh(rest.T @ rest)[-1].sqrt()
        directions = int((values > profile.tolerance * scale).sum())
    else:
        owners = torch.arange(prompts)[:, None].expand(prompts, length)[~kept]
        energies = (coordinates @ right.T).square()  # (n, k): of each row and direction
        directions = _directions_for_shares(energies, rest, owners, prompts, profile.tolerance)
    return right[directions:] @ outside


def _directions_for_shares(
    energies: Tensor, rest: Tensor, owners: Tensor, prompts: int, tolerance: float
) -> int:
    """The fewest leading directions that leave no prompt more than its share of energy."""
    by_prompt = energies.new_zeros(prompts, energies.shape[1]).index_add(0, owners, energies)
    total = energies.new_zeros(prompts).index_add(0, owners, rest.square().sum(dim=1))
    unkept = by_prompt.flip(1).cumsum(1).flip(1)  # (p, k): outside the first 0, 1, ... directions
    return int((unkept > tolerance * total[:, None]).any(dim=0).sum())


def drift_bound(rows: Tensor, support: Tensor, factor: Tensor, weight: Tensor) -> float:
    """Bounds :func:`~shiftreg.subspace.drift` of any change ``factor @ support`` of that size.

    ``|e (A S)'|_F <= |e S'|_F |A|_2``: known before the change is, once its size is.

    Args:
        rows: ``e (L, d_in)``, one prompt.
        support: ``S (m, d_in)``: the null space, or the part of it that a shift uses.
        factor: ``A (d_out, m)``.
        weight: ``W (d_out, d_in)``.

    Returns:
        At least ``|e delta'|_F / |e W'|_F`` for ``delta = A S``.
    """
    rows = rows.double()
    if factor.numel() == 0:
        return 0.0
    reached = (rows @ support.double().T).norm() * torch.linalg.matrix_norm(factor.double(), ord=2)
    return float(reached / (rows @ weight.double().T).norm())


def weighted_rows(groups: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Stacks groups of rows so that each counts by its weight, not by its number of rows.

    ``R'R / len(R)`` of the result is the weighted sum of every group's own mean, which is what the
    erasers' soft constraint takes.

    Args:
        groups: Rows ``(n_i, d_in)`` with their weights; empty groups are left out.

    Returns:
        ``R (sum n_i, d_in)``.

    Raises:
        InvalidInputError: No rows at all, or a negative weight.
    """
    filled = [(rows, weight) for rows, weight in groups if len(rows)]
    if not filled or any(weight < 0 for _, weight in filled):
        raise InvalidInputError("Weighted rows need at least one row, and weights of 0 or more.")
    total = sum(len(rows) for rows, _ in filled)
    return torch.cat([rows * math.sqrt(weight * total / len(rows)) for rows, weight in filled])


def compressed_rows(rows: Tensor) -> Tensor:
    """At most ``d_in`` rows with the same ``R'R / len(R)``: all that a soft constraint needs.

    Args:
        rows: ``R (n, d_in)``.

    Returns:
        ``(min(n, d_in), d_in)`` float64.
    """
    count, width = rows.shape
    if count <= width:
        return rows.double()
    triangle: Tensor = torch.linalg.qr(rows.double(), mode="r").R
    return triangle * math.sqrt(width / count)
