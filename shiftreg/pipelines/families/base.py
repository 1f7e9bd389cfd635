"""What the rest of this room needs to know of a kind of pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from diffusers import DiffusionPipeline, ModelMixin
from torch import Tensor, nn


@dataclass(frozen=True)
class Reader:
    """A tokenizer, and the text encoder that reads its tokens.

    Attributes:
        tokenizer: Of transformers.
        encoder: Likewise.
    """

    tokenizer: Any
    encoder: Any

    def special_ids(self) -> list[int]:
        """The tokens of an empty prompt: BOS and EOS, or EOS alone."""
        return list(self.tokenizer("")["input_ids"])

    def token_table(self) -> nn.Embedding:
        """The layer that turns tokens into vectors; T5 has two that share a weight, and runs one.

        It is the innermost: the outer one belongs to decoders, too.
        """
        weight = self.encoder.get_input_embeddings().weight
        tables = {
            name: module
            for name, module in self.encoder.named_modules()
            if isinstance(module, nn.Embedding) and module.weight is weight
        }
        return tables[max(tables, key=lambda name: name.count("."))]

    def padded(self, ids: Sequence[Sequence[int]], length: int) -> Tensor:
        """Prompts of that many tokens, ``(n, length)`` int64."""
        pad = self.tokenizer.pad_token_id
        rows = [[*row, *[pad] * (length - len(row))] for row in ids]
        return torch.tensor(rows, dtype=torch.long).reshape(-1, length)


class Family(Protocol):
    """A pipeline of one kind.

    Attributes:
        name: In words.
        parts: Folders that the pipeline consists of.
        image_components: Those of them that take no part in reading a prompt.
        causal: Whether the encoder reads from left to right, so that the rows before a name are the
            same whatever the name is.
        apart: Beginnings of the names of parameters that treat time, sizes and output: methods that
            train "all the others" leave them alone.
    """

    name: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    image_components: ClassVar[tuple[str, ...]]
    causal: ClassVar[bool]
    apart: ClassVar[tuple[str, ...]]

    def __init__(self, pipeline: DiffusionPipeline) -> None: ...

    @classmethod
    def load(cls, folder: Path, **options: Any) -> DiffusionPipeline:
        """Loads the pipeline from its folder; options are diffusers'."""
        ...

    @property
    def network(self) -> ModelMixin:
        """What denoises, and what shifts change; None if it was not loaded."""
        ...

    @property
    def readers(self) -> tuple[Reader, ...]:
        """Who reads a prompt; the first one's tokens are the positions of the embedding."""
        ...

    @property
    def length(self) -> int:
        """``L``: tokens of a prompt, special ones included."""
        ...

    @property
    def condition_width(self) -> int:
        """``d_in`` of what :meth:`encode` gives.

        Raises:
            IncompatibleError: The encoder and what reads it are of different widths.
        """
        ...

    def spelled(self, prompts: Sequence[str]) -> list[str]:
        """The prompts as the tokenizer gets them."""
        ...

    def encode(self, ids: Sequence[Tensor]) -> Tensor:
        """Encodes tokens as cross-attention receives them, differentiably.

        Args:
            ids: One ``(n, L)`` a reader, padded.

        Returns:
            ``e(p) (n, L, d_in)``; rows that nothing attends to are zero.
        """
        ...

    def attended(self, prompt_embeds: Tensor) -> Tensor | None:
        """Which rows are attended to, ``(n, L)`` bool; None if all are."""
        ...

    def inputs(self, prompt_embeds: Tensor, *, guided: bool = False) -> dict[str, Any]:
        """The network's conditions for embeddings ``(n, L, d_in)``.

        What goes past the cross-attentions (SDXL's pooled embedding) is that of the empty prompt.

        Args:
            prompt_embeds: One an image.
            guided: Put those that guidance leads away from before them: ``2 n`` in all.
        """
        ...

    def run(self, latents: Tensor, timesteps: Tensor, inputs: dict[str, Any]) -> Tensor:
        """What the network predicts, ``(B, C, h, w)``.

        Args:
            latents: ``(B, C, h, w)``.
            timesteps: ``(B,)``, or one for all.
            inputs: As :meth:`inputs` gives them.
        """
        ...

    def painting(self, prompts: Sequence[str] | Tensor) -> AbstractContextManager[dict[str, Any]]:
        """Context in which the pipeline generates prompts if called with what this yields.

        Args:
            prompts: As words, or as embeddings ``(n, L, d_in)``; then all else that the pipeline
                takes from a prompt is that of the empty one.
        """
        ...
