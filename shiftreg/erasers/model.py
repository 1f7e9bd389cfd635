"""The frozen base as a trained eraser sees it, and what it learns on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Step:
    """Progress of a training: step number, its limit, and named values."""

    number: int
    limit: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Trained:
    """Parameters that are being trained in place.

    Attributes:
        parameters: Name -> the parameter.
        base: Name -> the base's value.
    """

    parameters: Mapping[str, Tensor]
    base: Mapping[str, Tensor]

    def deltas(self) -> dict[str, Tensor]:
        """How far each parameter has moved, float32; only those that have."""
        moved = {
            name: (parameter.detach().double() - self.base[name].double()).float()
            for name, parameter in self.parameters.items()
        }
        return {name: delta for name, delta in moved.items() if delta.any()}


class Checkpoints(Protocol):
    """Where an interrupted training is continued from."""

    def load(self) -> Mapping[str, Any] | None:
        """The state that was last kept; None if there is none."""

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Called between any two steps; keeps the state now and then."""


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

    def predict(self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor) -> Tensor:
        """Noise ``(B, C, h, w)`` for ``x_t``, ``t (B,)`` and ``e(p) (B, L, d_in)``."""

    def noised(self, latents: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """``x_t`` from ``x_0`` and noise."""

    @property
    def cross_attention(self) -> Sequence[str]:
        """Names of all parameters of the cross-attentions."""

    @property
    def others(self) -> Sequence[str]:
        """Names of all other parameters, but those of the time embedding and the output."""

    def trainable(self, names: Iterable[str]) -> AbstractContextManager[Trained]:
        """Context in which parameters are trained in place; the base's values return."""

    def attention(
        self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor
    ) -> Sequence[Tensor]:
        """Attention maps ``(B, heads, pixels, L)`` of all cross-attentions, differentiably."""

    def shifted(self, support: Tensor, factors: Mapping[str, Tensor]) -> Any:
        """Context in which the layers carry ``A_l @ Q``, differentiably in ``A_l``."""


class PromptModel(Protocol):
    """The text encoder as attacks need it; see ``pipelines.SoftPrompts``."""

    @property
    def vocabulary(self) -> Tensor:
        """``(V, d_token)``, the vector of each token that a prompt may hold."""

    @property
    def vocabulary_ids(self) -> Sequence[int]:
        """Which token each of ``vocabulary`` is."""

    def vectors(self, token_ids: Sequence[int]) -> Tensor:
        """The vectors of some tokens, ``(k, d_token)``."""

    def embed(self, vectors: Tensor, template: str = "{}") -> Tensor:
        """Encodes a prompt with vectors ``(k, d_token)`` in its ``{}``, ``(L, d_in)``."""

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Encodes prompts, ``(n, L, d_in)``."""

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text, without beginning and end."""

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of some tokens."""


@dataclass(frozen=True)
class Words:
    """A concept in words, and who reads them; for methods that look for further words.

    Attributes:
        model: The text encoder.
        concept: The name.
        prompts: Those of the problem, as text.
        anchors: Likewise.
    """

    model: PromptModel
    concept: str
    prompts: tuple[str, ...]
    anchors: tuple[str, ...]


@dataclass(frozen=True)
class TrainingData:
    """What a trained eraser learns on.

    Attributes:
        model: The frozen base.
        latents: ``x_0 (n, C, h, w)``, one image for each prompt of ``pair_index``.
        pair_index: For each latent, the prompt of the problem that it was generated for.
        observe: Called after each step.
        checkpoints: Where the training is continued from.
        words: The concept in words, for methods that look for further ones.
    """

    model: NoiseModel
    latents: Tensor
    pair_index: tuple[int, ...]
    observe: Callable[[Step], None]
    checkpoints: Checkpoints = field(default_factory=NoCheckpoints)
    words: Words | None = None
