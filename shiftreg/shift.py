"""ConceptShift: the change of a model's weights that erases one concept, as a value."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from shiftreg.canonical import canonical_json
from shiftreg.errors import InvalidInputError


@dataclass(frozen=True)
class ConceptShift:
    """A weight shift, with all that is needed to judge it.

    Layers that see the text alone change by ``delta_l = A_l @ Q``; a method that is not low-rank,
    or reaches other layers, keeps dense deltas of exactly the parameters it changed. A parameter
    is called by its module if it is the weight ("...attn2.to_k"), by its full name otherwise
    ("conv_in.bias").

    Attributes:
        concept: Name of the erased concept.
        aliases: Its other names, erased with it.
        kind: "style" or "object".
        base_digest: Digest of the base it was made for.
        text_encoder_digest: Digest of the text encoder whose embeddings it was decoupled with.
        support: ``Q (q, d_in)`` float32, shared by all layers.
        factors: Layer name -> ``A_l (d_out, q)`` float32.
        protected: Prompts that it does not touch (hard); none if the method is not separable.
        protected_digest: Digest of their embeddings.
        dense: Parameter -> delta of its shape, float32.
        preserved: Prompts that it disturbs as little as possible (soft).
        hyperparameters: Of the eraser, JSON values.
        metrics: Measured when it was made.
    """

    concept: str
    aliases: tuple[str, ...]
    kind: str
    method: str
    base_digest: str
    text_encoder_digest: str
    support: Tensor
    factors: Mapping[str, Tensor]
    protected: tuple[str, ...]
    protected_digest: str
    dense: Mapping[str, Tensor] = field(default_factory=dict)
    preserved: tuple[str, ...] = ()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks shapes and values.

        Raises:
            InvalidInputError: Factors that do not fit the support, or numbers that are not finite.
        """
        object.__setattr__(self, "factors", MappingProxyType(dict(sorted(self.factors.items()))))
        object.__setattr__(self, "dense", MappingProxyType(dict(sorted(self.dense.items()))))
        object.__setattr__(self, "hyperparameters", MappingProxyType(dict(self.hyperparameters)))
        object.__setattr__(self, "metrics", MappingProxyType(dict(self.metrics)))
        if self.support.ndim != 2:
            raise InvalidInputError(
                f"Shift of '{self.concept}': the support must be a matrix (q, d_in); "
                f"got shape {tuple(self.support.shape)}."
            )
        if not self.layers:
            raise InvalidInputError(f"Shift of '{self.concept}' changes no layer.")
        if twice := self.factors.keys() & self.dense.keys():
            raise InvalidInputError(
                f"Shift of '{self.concept}': {min(twice)} has both a factor and a dense delta."
            )
        for layer, factor in self.factors.items():
            if factor.ndim != 2 or factor.shape[1] != self.rank:
                raise InvalidInputError(
                    f"Shift of '{self.concept}', layer {layer}: the factor must have shape "
                    f"(d_out, {self.rank}); got {tuple(factor.shape)}."
                )
        for name, tensor in self.tensors().items():
            if tensor.dtype != torch.float32:
                raise InvalidInputError(
                    f"Shift of '{self.concept}', {name}: float32 expected, got {tensor.dtype}."
                )
            if not torch.isfinite(tensor).all():
                raise InvalidInputError(
                    f"Shift of '{self.concept}', {name}: it holds NaN or infinity."
                )

    def __reduce__(self) -> tuple[type[ConceptShift], tuple[Any, ...]]:
        """How it travels between processes: read-only mappings cannot, and are rebuilt."""
        values = (getattr(self, f.name) for f in fields(self))
        return ConceptShift, tuple(
            dict(value) if isinstance(value, MappingProxyType) else value for value in values
        )

    @property
    def rank(self) -> int:
        """``q``, the rank at most of every delta that is not dense."""
        return self.support.shape[0]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the parameters it changes, sorted."""
        return tuple(sorted({*self.factors, *self.dense}))

    @property
    def separable(self) -> bool:
        """Whether it was built to leave other prompts exactly as they are."""
        return bool(self.protected)

    def delta_weight(self, layer: str) -> Tensor:
        """The layer's change in float64: ``A_l @ Q (d_out, d_in)``, or the dense delta.

        Raises:
            KeyError: The shift does not change this layer.
        """
        if layer in self.dense:
            return self.dense[layer].double()
        return self.factors[layer].double() @ self.support.double()

    def tensors(self) -> dict[str, Tensor]:
        """All tensors under the names that the file gives them."""
        return (
            {"support": self.support}
            | {f"factors.{layer}": factor for layer, factor in self.factors.items()}
            | {f"dense.{name}": delta for name, delta in self.dense.items()}
        )

    def metadata(self) -> dict[str, Any]:
        """Everything but the tensors, as JSON values."""
        return {
            "concept": self.concept,
            "aliases": list(self.aliases),
            "kind": self.kind,
            "method": self.method,
            "base_digest": self.base_digest,
            "text_encoder_digest": self.text_encoder_digest,
            "protected": list(self.protected),
            "protected_digest": self.protected_digest,
            "preserved": list(self.preserved),
            "hyperparameters": dict(self.hyperparameters),
            "metrics": dict(self.metrics),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the content: metadata and tensors, independent of any file layout."""
        hasher = hashlib.sha256(canonical_json(self.metadata()).encode())
        for name, tensor in sorted(self.tensors().items()):
            hasher.update(f"\n{name} {list(tensor.shape)}\n".encode())
            hasher.update(tensor_bytes(tensor))
        return hasher.hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """The tensor's values, row-major, as the machine stores them."""
    return tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes()


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of shape, dtype and values."""
    hasher = hashlib.sha256(f"{list(tensor.shape)} {tensor.dtype}\n".encode())
    hasher.update(tensor_bytes(tensor))
    return hasher.hexdigest()
