"""The text side of a base: prompts in, tokens and embeddings out, each encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from shiftreg.families import Family
from shiftreg.pipelines.embedding_cache import EmbeddingCache, EncodedPrompt
from shiftreg.pipelines.families.base import FamilyPipeline

# Always as many, if need be with empty ones: the last bits of an embedding depend on how many are
# encoded at once, and a prompt has one embedding.
BATCH = 4


class PromptEncoder:
    """Encodes prompts; the text encoders are loaded for the first that no cache knows.

    Args:
        family: Of the base.
        load: Loads the text side.
        cache: What was encoded before, and the digest of all that embeddings depend on there.
    """

    def __init__(
        self,
        family: Family,
        load: Callable[[], FamilyPipeline],
        cache: tuple[EmbeddingCache, str] | None = None,
    ) -> None:
        self.family = family
        self._load = load
        self._cache = cache

    @cached_property
    def _pipeline(self) -> FamilyPipeline:
        return self._load()

    @property
    def empty(self) -> Tensor:
        """The empty prompt, ``(L, d_in)`` float32."""
        assert self._empty.embeds is not None
        return self._empty.embeds

    @property
    def length(self) -> int:
        """``L``: tokens of a prompt, special ones included."""
        return len(self.empty)

    @property
    def special_count(self) -> int:
        """How many tokens every prompt has."""
        return len(self._empty.tokens[0])

    @cached_property
    def _empty(self) -> EncodedPrompt:
        return self.read([""])[0]

    def read(self, prompts: Sequence[str]) -> list[EncodedPrompt]:
        """The tokens and embeddings of prompts; those that are too long have no embedding."""
        known = self._cache[0].read(self._cache[1], prompts) if self._cache else {}
        new = {
            prompt: encoded
            for prompts_of_batch in _batches([p for p in dict.fromkeys(prompts) if p not in known])
            for prompt, encoded in zip(
                prompts_of_batch, _encode(self._pipeline, prompts_of_batch), strict=True
            )
        }
        if new and self._cache:
            self._cache[0].write(self._cache[1], new)
        known |= new
        return [known[prompt] for prompt in prompts]


def _batches(prompts: Sequence[str]) -> list[Sequence[str]]:
    return [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]


@torch.no_grad()
def _encode(family: FamilyPipeline, prompts: Sequence[str]) -> list[EncodedPrompt]:
    """Encodes at most ``BATCH`` prompts."""
    tokens = family.tokens([*prompts, *[""] * (BATCH - len(prompts))])
    fits = [all(len(ids) <= family.length for ids in by_encoder) for by_encoder in tokens]
    padded = [
        encoder.padded(
            [ids[i] if fit else [] for ids, fit in zip(tokens, fits, strict=True)], family.length
        )
        for i, encoder in enumerate(family.text_encoders)
    ]
    embeds = family.encode(padded).float().cpu()
    return [
        EncodedPrompt(tokens[i], embeds[i].clone() if fits[i] else None)
        for i in range(len(prompts))
    ]
