"""Compositions: which shifts are applied to a base, and the weights that result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from shiftreg.canonical import canonical_json
from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.shift import ConceptShift


@dataclass(frozen=True)
class Composition:
    """Shifts on one base, in the one canonical order: by digest.

    Built by :meth:`of`, so that the same set gives the same value and the same bytes.
    """

    base_digest: str
    shifts: tuple[ConceptShift, ...]

    @classmethod
    def of(cls, base_digest: str, shifts: Iterable[ConceptShift]) -> Composition:
        """Puts shifts together.

        Args:
            base_digest: The base that they are applied to.
            shifts: In any order.

        Raises:
            IncompatibleError: A shift belongs to another base, or two to different text encoders.
            InvalidInputError: Two shifts erase the same concept.
        """
        ordered = tuple(sorted(shifts, key=lambda shift: shift.digest))
        for shift in ordered:
            if shift.base_digest != base_digest:
                raise IncompatibleError(
                    f"The shift of '{shift.concept}' was made for base {shift.base_digest[:12]}, "
                    f"and this base is {base_digest[:12]}. Erase the concept on this base."
                )
        encoders = {shift.text_encoder_digest for shift in ordered}
        if len(encoders) > 1:
            raise IncompatibleError(
                "Shifts decoupled with different text encoders cannot be composed: "
                + ", ".join(f"'{s.concept}' {s.text_encoder_digest[:12]}" for s in ordered)
            )
        concepts = [shift.concept for shift in ordered]
        if twice := {name for name in concepts if concepts.count(name) > 1}:
            raise InvalidInputError(
                f"A composition holds one shift a concept, and two erase {sorted(twice)}."
            )
        return cls(base_digest, ordered)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the base's and the shifts' digests; it goes along to other processes."""
        text = canonical_json([self.base_digest, [shift.digest for shift in self.shifts]])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that any shift changes, sorted."""
        return tuple(sorted({layer for shift in self.shifts for layer in shift.layers}))


def merged_weight(
    weight: Tensor, shifts: Iterable[ConceptShift], layer: str, dtype: torch.dtype | None = None
) -> Tensor:
    """``W_l`` plus every shift's delta, summed in float64 and cast once.

    Args:
        weight: ``W_l (d_out, d_in)``, or a parameter of any shape, the base's.
        shifts: In canonical order (``Composition.shifts``).
        layer: Its name; see ``ConceptShift`` for those of other parameters than weights.
        dtype: Of the result; the base's by default.

    Returns:
        As the weight; the base's weight itself where no shift changes the layer.

    Raises:
        IncompatibleError: A delta has another shape than the weight.
    """
    touching = [shift for shift in shifts if layer in shift.factors or layer in shift.dense]
    if not touching:
        return weight if dtype is None else weight.to(dtype)
    total = weight.double()
    for shift in touching:
        delta = shift.delta_weight(layer)
        if delta.shape != weight.shape:
            raise IncompatibleError(
                f"The shift of '{shift.concept}' changes {layer} with shape "
                f"{tuple(delta.shape)}, and the base has {tuple(weight.shape)} there."
            )
        total = total + delta
    return total.to(dtype or weight.dtype)


def merged_weights(
    weights: Mapping[str, Tensor], composition: Composition, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The weights of all layers that the composition changes.

    Args:
        weights: Layer name -> ``W_l (d_out, d_in)`` of the base.
        composition: What to apply.
        dtype: Of the result; the base's by default.

    Raises:
        IncompatibleError: The base lacks a layer, or shapes differ.
    """
    if missing := [layer for layer in composition.layers if layer not in weights]:
        raise IncompatibleError(
            f"The base has no layer {missing[0]}, which a shift of the composition changes."
        )
    return {
        layer: merged_weight(weights[layer], composition.shifts, layer, dtype)
        for layer in composition.layers
    }


class LazyWeights(Mapping[str, Tensor]):
    """The same as :func:`merged_weights`, each computed when it is looked up, and not kept."""

    def __init__(
        self,
        read: Callable[[str], Tensor],
        composition: Composition,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Computes nothing yet.

        Args:
            read: Layer name -> ``W_l`` of the base, such as from a file.
            composition: What to apply.
            dtype: Of the result; the base's by default.
        """
        self._read, self._composition, self._dtype = read, composition, dtype
        self._layers = dict.fromkeys(composition.layers)

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self._layers:
            raise KeyError(layer)
        return merged_weight(self._read(layer), self._composition.shifts, layer, self._dtype)

    def __contains__(self, layer: object) -> bool:
        return layer in self._layers  # the inherited one would compute the weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
