"""Prompts in which some tokens are vectors of our own, encoded differentiably."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from shiftreg.errors import InvalidInputError
from shiftreg.pipelines.prompts import encode_prompts, token_ids

SLOT = "{}"


class SoftPrompts:
    """The text encoder of a base as an attacker uses it: from vectors of tokens, and from words."""

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        self._pipeline = pipeline
        self._tokens = pipeline.text_encoder.get_input_embeddings()

    @cached_property
    def vocabulary_ids(self) -> list[int]:
        """The tokens that somebody can type: each is what its own text is read as.

        That leaves out the special ones, fragments that other letters must follow, and halves of
        characters.
        """
        tokenizer = self._pipeline.tokenizer
        ids = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
        texts = [self.text([i]) for i in ids]
        read = tokenizer(texts, verbose=False)["input_ids"]
        return [
            i
            for i, text, back in zip(ids, texts, read, strict=True)
            if text.isprintable() and back[1:-1] == [i]
        ]

    @cached_property
    def vocabulary(self) -> Tensor:
        """``(V, d_token)`` float32, the vector of each of ``vocabulary_ids``."""
        return self.vectors(self.vocabulary_ids)

    def vectors(self, token_ids: Sequence[int]) -> Tensor:
        """The vectors of tokens, ``(k, d_token)`` float32."""
        return self._tokens.weight.detach()[list(token_ids)].float().cpu()

    def embed(self, vectors: Tensor, template: str = SLOT) -> Tensor:
        """Encodes a prompt with some token vectors of its own, differentiably.

        Args:
            vectors: ``(k, d_token)``.
            template: ``{}`` is where they stand, as words of their own.

        Returns:
            ``e(p) (L, d_in)`` float32, equal to that of real tokens if the vectors are theirs.

        Raises:
            InvalidInputError: The template has no single ``{}``, or the prompt is too long.
        """
        if template.count(SLOT) != 1:
            raise InvalidInputError(
                f"A template holds '{SLOT}' once, and '{template[:60]}' does not. "
                "Put it where the tokens stand."
            )
        before, after = (self.token_ids(part) for part in template.split(SLOT))
        tokenizer = self._pipeline.tokenizer
        length, count = tokenizer.model_max_length, len(vectors)
        # Any token stands in: the hook puts the vectors in its place.
        ids = [tokenizer.bos_token_id, *before, *[tokenizer.eos_token_id] * count, *after]
        if len(ids) >= length:
            raise InvalidInputError(
                f"A prompt has at most {length - 2} tokens here, and '{template[:60]}' with "
                f"{count} in its place has {len(ids) - 1}. Use fewer."
            )
        ids = [*ids, tokenizer.eos_token_id]
        ids += [tokenizer.pad_token_id] * (length - len(ids))
        start = 1 + len(before)

        def put(_module: Any, _inputs: Any, rows: Tensor) -> Tensor:
            own = vectors[None].to(rows)
            return torch.cat([rows[:, :start], own, rows[:, start + count :]], dim=1)

        encoder = self._pipeline.text_encoder
        hook = self._tokens.register_forward_hook(put)
        try:
            embeds: Tensor = encoder(torch.tensor([ids], device=encoder.device))[0][0]
        finally:
            hook.remove()
        return embeds.float().cpu()

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Encodes prompts, ``(n, L, d_in)`` float32.

        Raises:
            InvalidInputError: A prompt is too long.
        """
        return encode_prompts(self._pipeline, prompts)

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a text, without beginning and end.

        Raises:
            InvalidInputError: There are more than the text encoder takes.
        """
        return token_ids(self._pipeline, [text])[0][1:-1]

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of some tokens."""
        text: str = self._pipeline.tokenizer.decode(list(token_ids))
        return text.strip()
