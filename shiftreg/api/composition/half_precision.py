"""Compositions in half precision: rounded so that protected prompts see the base they know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shiftreg import checkpoints, pipelines
from shiftreg.api.values import Observer, Progress, RoundingResult, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition
from shiftreg.errors import IntegrityError
from shiftreg.rounding import DAMPING, FINE_ENTRIES, REACH, ErrorCompensation, grid_step

HALF_DTYPES = (torch.float16, torch.bfloat16)
METHODS = ("compensated", "plain")
_MOST_FINE_ENTRIES, _LEAST_DAMPING = 512, 1e-6  # what others ask for must be possible
_SLACK = 1.1  # another machine's last bits may lead to other roundings, and to as small a residual


@dataclass(frozen=True)
class CompensatedRounding:
    """How the layers that read the text alone were rounded; what a recipe says of it.

    Attributes:
        prompts: What they were held to, in this order.
        fine_entries: See ``rounding.ErrorCompensation``.
        damping: See ``rounding.ErrorCompensation``.
    """

    prompts: tuple[str, ...]
    fine_entries: int = FINE_ENTRIES
    damping: float = DAMPING

    def as_recipe(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "method": "compensated",
            "prompts": list(self.prompts),
            "fine_entries": self.fine_entries,
            "damping": self.damping,
        }

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any]) -> CompensatedRounding | None:
        """Reads a recipe.

        Returns:
            None if it was rounded plainly, as every older one.

        Raises:
            IntegrityError: It says something else.
        """
        match recipe.get("rounding"):
            case None:
                return None
            case {
                "method": "compensated",
                "prompts": list(prompts),
                "fine_entries": int(fine_entries),
                "damping": float(damping),
            } if (
                all(isinstance(prompt, str) for prompt in prompts)
                and 0 <= fine_entries <= _MOST_FINE_ENTRIES
                and _LEAST_DAMPING <= damping <= 1
            ):
                return cls(tuple(prompts), fine_entries, damping)
        raise IntegrityError(
            f"The recipe says how weights were rounded in a way that is not known here: "
            f"{str(recipe['rounding'])[:80]}. A newer version of shiftreg may have written it."
        )


def is_rounded(workspace: Workspace, composition: Composition, dtype: torch.dtype | None) -> bool:
    """Whether there is anything to round with error compensation, in a dtype or the base's."""
    precision = dtype or checkpoints.unet_dtype(workspace.folder)
    return precision in HALF_DTYPES and not set(workspace.base.layers).isdisjoint(
        composition.layers
    )


def protected_prompts(
    workspace: Workspace, states: Mapping[str, str], composition: Composition
) -> tuple[str, ...]:
    """What must look as on the base: nothing, triggers, what generates, what all shifts protect.

    Args:
        states: Known concepts -> "erased" or "generates".
        composition: At least one shift.
    """
    generating = (name for name, state in states.items() if state == "generates")
    first, *others = (shift.protected for shift in composition.shifts)
    common = (prompt for prompt in first if all(prompt in other for other in others))
    return tuple(dict.fromkeys(("", *workspace.base.triggers, *generating, *common)))


class RoundedWeights(Mapping[str, Tensor]):
    """A composition's weights; layers that read the text alone are rounded with error compensation.

    Each is computed when it is looked up; the others stay in float64, and are cast when written.

    They are held to what everybody has who uses the base in that precision: its weights, plainly
    cast, plus the shifts.
    """

    def __init__(
        self,
        workspace: Workspace,
        exact: Mapping[str, Tensor],
        dtype: torch.dtype | None,
        rounding: CompensatedRounding,
        *,
        keep: bool = False,
        observe: Observer = ignore_progress,
    ) -> None:
        """Encodes the prompts, and rounds nothing yet.

        Args:
            exact: All weights of the composition, in float64.
            dtype: To round to; the base's by default.
            keep: Keeps what was rounded, rather than round it again when it is asked for again.

        Raises:
            InvalidInputError: A prompt is too long.
        """
        self._exact, self._keep, self._observe = exact, keep, observe
        self._base = checkpoints.parameter_reader(workspace.folder)
        self._dtype = dtype or checkpoints.unet_dtype(workspace.folder)
        self._layers = dict.fromkeys(name for name in workspace.base.layers if name in exact)
        embeds = pipelines.encode_prompts(workspace.prompt_encoder, rounding.prompts)
        self._compensation = ErrorCompensation.of(
            embeds.flatten(0, 1), fine_entries=rounding.fine_entries, damping=rounding.damping
        )
        self._residuals: dict[str, tuple[float, float]] = {}
        self._kept: dict[str, Tensor] = {}

    def __getitem__(self, layer: str) -> Tensor:
        if layer in self._kept:
            return self._kept[layer]
        if layer not in self._layers:
            return self._exact[layer]
        done, total = len(self._residuals), len(self._layers)
        self._observe(Progress(f"rounding to {self._name}", done, total))
        exact, reference = self._exact[layer], self._reference(layer)
        same = torch.equal(exact, reference)
        rounded = self._compensation.rounded(
            exact, self._dtype, reference=None if same else reference
        )
        self._residuals[layer] = rounded.plain, rounded.residual
        if self._keep:
            self._kept[layer] = rounded.value
        return rounded.value

    def __contains__(self, layer: object) -> bool:
        return layer in self._exact  # the inherited one would compute the weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._exact)

    def __len__(self) -> int:
        return len(self._exact)

    def accepts(self, layer: str, value: Tensor) -> bool:
        """Whether a file's layer is one that another machine may have rounded it to."""
        if layer not in self._layers:
            return False
        mine, exact = self[layer], self._exact[layer]
        if value.dtype != mine.dtype or value.shape != mine.shape:
            return False
        moved = (value.double() - exact.to(self._dtype).double()).abs()
        # As far as the compensation goes from its target, and the target from the exact value.
        steps = REACH + 2
        near = (moved <= steps * grid_step(exact, self._dtype).amax(dim=1, keepdim=True)).all()
        residual = self._compensation.residual(value, self._reference(layer))
        return bool(near) and residual <= _SLACK * self._residuals[layer][1]

    def effect(self) -> RoundingResult:
        """What both ways do to the prompts, in the layers where they do most; of those rounded."""
        plain, compensated = zip(*self._residuals.values(), strict=True)
        return RoundingResult(self._name, "compensated", max(plain), max(compensated))

    def effect_if_cast(self) -> RoundingResult:
        """What plain rounding does to the prompts, in the layer where it does most."""
        residuals = (
            self._compensation.residual(self._exact[layer].to(self._dtype), self._reference(layer))
            for layer in self._layers
        )
        return RoundingResult(self._name, "plain", max(residuals), None)

    @property
    def _name(self) -> str:
        return str(self._dtype).removeprefix("torch.")

    def _reference(self, layer: str) -> Tensor:
        base = self._base(layer).double()
        return self._exact[layer] + (base.to(self._dtype).double() - base)
