"""Prompts in which some tokens are vectors of our own, encoded differentiably."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from shiftreg.errors import InvalidInputError
from shiftreg.pipelines.families import family_of
from shiftreg.pipelines.prompts import encode_prompts, token_ids

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SLOT = "{}"


class SoftPrompts:
    """The text encoder of a base as an attacker uses it: from vectors of tokens, and from words.

    Where two encoders read a prompt (SDXL), a token's vector is that of the one beside that of the
    other.
    """

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._pipeline = pipeline
        self._family = family_of(pipeline)
        encoders = self._family.text_encoders
        self._tokenizer = encoders[0].tokenizer
        self._tables = [encoder.token_table() for encoder in encoders]
        special = encoders[0].special_ids()
        self._beginning, self._end = special[:-1], special[-1:]

    @cached_property
    def vocabulary_ids(self) -> list[int]:
        """The tokens that somebody can type: each is what its own text is read as.

        That leaves out the special ones, fragments that other letters must follow, and halves of
        characters.
        """
        tokenizer = self._tokenizer
        ids = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
        texts = [self.text([i]) for i in ids]
        read = tokenizer(texts, verbose=False)["input_ids"]
        return [
            i
            for i, text, back in zip(ids, texts, read, strict=True)
            if text.isprintable() and self._words(back) == [i]
        ]

    @cached_property
    def vocabulary(self) -> Tensor:
        """``(V, d_token)`` float32, the vector of each of ``vocabulary_ids``."""
        return self.vectors(self.vocabulary_ids)

    def vectors(self, token_ids: Sequence[int]) -> Tensor:
        """The vectors of tokens, ``(k, d_token)`` float32."""
        ids = list(token_ids)
        tables = [table.weight.detach()[ids].float().cpu() for table in self._tables]
        return torch.cat(tables, dim=1)

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
        length, count = self._family.length, len(vectors)
        # Any token stands in: the hook puts the vectors in its place.
        words = [*before, *self._end * count, *after]
        ids = [*self._beginning, *words, *self._end]
        if len(ids) > length:
            raise InvalidInputError(
                f"A prompt has at most {length - len(ids) + len(words)} tokens here, and "
                f"'{template[:60]}' with {count} in its place has {len(words)}. Use fewer."
            )
        start = len(self._beginning) + len(before)

        def put(own: Tensor, _module: nn.Module, _inputs: Any, rows: Tensor) -> Tensor:
            middle = own[None].to(rows)
            return torch.cat([rows[:, :start], middle, rows[:, start + count :]], dim=1)

        parts = vectors.split([table.weight.shape[1] for table in self._tables], dim=1)
        with ExitStack() as hooks:
            for table, part in zip(self._tables, parts, strict=True):
                hooks.enter_context(table.register_forward_hook(partial(put, part)))
            padded = [one.padded([ids], length) for one in self._family.text_encoders]
            return self._family.encode(padded)[0].float().cpu()

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
        return self._words(token_ids(self._pipeline, [text])[0])

    def _words(self, ids: Sequence[int]) -> list[int]:
        """Tokens without those that every prompt has."""
        return list(ids[len(self._beginning) : -len(self._end)])

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of some tokens."""
        text: str = self._tokenizer.decode(list(token_ids))
        return text.strip()
