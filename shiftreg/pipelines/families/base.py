"""What the rest of this room needs to know of a pipeline, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from shiftreg.errors import IncompatibleError
from shiftreg.families import SUPPORTED, Family

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder, and the tokenizer whose tokens it reads; both of transformers."""

    tokenizer: Any
    model: Any

    def special_ids(self) -> list[int]:
        """The tokens of an empty prompt: BOS and EOS, or EOS alone."""
        return list(self.tokenizer("")["input_ids"])

    def token_table(self) -> nn.Embedding:
        """The layer that turns tokens into vectors; T5 has two that share a weight, and runs one.

        It is the innermost: the outer one belongs to decoders, too.
        """
        weight = self.model.get_input_embeddings().weight
        tables = {
            name: module
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Embedding) and module.weight is weight
        }
        return tables[max(tables, key=lambda name: name.count("."))]

    def padded(self, ids: Sequence[Sequence[int]], length: int) -> Tensor:
        """Prompts of that many tokens, ``(n, length)`` int64."""
        pad = self.tokenizer.pad_token_id
        rows = [[*row, *[pad] * (length - len(row))] for row in ids]
        return torch.tensor(rows, dtype=torch.long).reshape(-1, length)


class FamilyPipeline(ABC):
    """A pipeline as one of its family.

    Attributes:
        family: What is known of all of them.
    """

    family: ClassVar[Family]

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._pipeline = pipeline

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, **options: Any) -> DiffusionPipeline:
        """Loads the pipeline from its folder; options are diffusers'."""

    @property
    def network(self) -> ModelMixin:
        """What denoises, and what shifts change; None if it was not loaded."""
        return getattr(self._pipeline, self.family.network)

    @property
    def text_encoders(self) -> tuple[TextEncoder, ...]:
        """All of them; the first one's tokens are the positions of the embedding."""
        return tuple(
            TextEncoder(getattr(self._pipeline, e.tokenizer), getattr(self._pipeline, e.component))
            for e in self.family.encoders
        )

    @property
    @abstractmethod
    def length(self) -> int:
        """``L``: tokens of a prompt, special ones included."""

    @property
    @abstractmethod
    def condition_width(self) -> int:
        """``d_in`` of what :meth:`encode` gives.

        Raises:
            IncompatibleError: The encoder and what reads it are of different widths.
        """

    def normalised(self, prompts: Sequence[str]) -> list[str]:
        """The prompts as the tokenizer gets them."""
        return list(prompts)

    def tokens(self, prompts: Sequence[str]) -> list[list[list[int]]]:
        """The tokens of each prompt, by text encoder: with special ones, without padding."""
        if not prompts:
            return []
        texts = self.normalised(prompts)
        lists = [one.tokenizer(texts, verbose=False)["input_ids"] for one in self.text_encoders]
        return [list(by_encoder) for by_encoder in zip(*lists, strict=True)]

    @abstractmethod
    def encode(self, ids: Sequence[Tensor]) -> Tensor:
        """Encodes tokens as cross-attention receives them, differentiably.

        Args:
            ids: One ``(n, L)`` a text encoder, padded.

        Returns:
            ``e(p) (n, L, d_in)``; rows that nothing attends to are zero.
        """

    def attended(self, prompt_embeds: Tensor) -> Tensor | None:
        """Which rows are attended to, ``(n, L)`` bool; None if all are, padding like words."""
        return None

    @abstractmethod
    def inputs(self, prompt_embeds: Tensor, *, guided: bool = False) -> dict[str, Any]:
        """The network's conditions for embeddings ``(n, L, d_in)``.

        What goes past the cross-attentions (SDXL's pooled embedding) is that of the empty prompt.

        Args:
            guided: Put those that guidance leads away from before them: ``2 n`` in all.
        """

    @abstractmethod
    def run(self, latents: Tensor, timesteps: Tensor, inputs: dict[str, Any]) -> Tensor:
        """What the network predicts, ``(B, C, h, w)``.

        Args:
            latents: ``(B, C, h, w)``.
            timesteps: ``(B,)``, or one for all.
            inputs: As :meth:`inputs` gives them.
        """

    @abstractmethod
    def call_options(
        self, prompts: Sequence[str] | Tensor
    ) -> AbstractContextManager[dict[str, Any]]:
        """Context in which the pipeline generates prompts if called with what this yields.

        Args:
            prompts: As words, or as embeddings ``(n, L, d_in)``; then all else that the pipeline
                takes from a prompt is that of the empty one.
        """


def joint_attention_error(network: str) -> IncompatibleError:
    """Why models of one stream for text and image are refused (SD 3, FLUX and their like)."""
    return IncompatibleError(
        f"{network} lets text and image attend to each other (joint attention): from the second "
        "block on, the keys and values of a prompt depend on the image and the time, so no "
        "change of them leaves a prompt exactly as it was. Use a base with cross-attention "
        f"({SUPPORTED}); docs/families.md says what would be possible here."
    )
