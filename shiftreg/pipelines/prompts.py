"""Prompts in, embeddings out, as the cross-attentions receive them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from shiftreg.concepts import PromptPair
from shiftreg.errors import InvalidInputError
from shiftreg.pipelines.families import family_of

_BATCH = 64


def token_limit(pipeline: DiffusionPipeline) -> int:
    """The most tokens that a prompt may have, special ones not counted."""
    family = family_of(pipeline)
    return family.length - len(family.text_encoders[0].special_ids())


def fitting(pipeline: DiffusionPipeline, prompts: Sequence[str]) -> list[bool]:
    """Whether all text encoders read each prompt to its end."""
    limit = family_of(pipeline).length
    by_encoder = _tokens(pipeline, prompts)
    return [all(len(ids) <= limit for ids in lists) for lists in zip(*by_encoder, strict=True)]


def token_ids(pipeline: DiffusionPipeline, prompts: Sequence[str]) -> list[list[int]]:
    """Tokenises prompts, with their special tokens, without padding.

    Raises:
        InvalidInputError: A prompt has more tokens than a text encoder takes.
    """
    return _fitting_ids(pipeline, prompts)[0]


@torch.no_grad()
def encode_prompts(pipeline: DiffusionPipeline, prompts: Sequence[str]) -> Tensor:
    """Encodes prompts to what cross-attention receives.

    Of SDXL, these are the hidden states of both encoders, one beside the other; of PixArt, those
    that went through its caption projection, and zeros where there is padding, which nothing
    attends to. What else a pipeline takes from a prompt does not belong to it: SDXL's pooled
    embedding goes past the cross-attentions.

    Args:
        prompts: At most as long as the text encoder takes.

    Returns:
        ``e(p) (n, L, d_in)`` float32.

    Raises:
        InvalidInputError: A prompt is too long.
    """
    family = family_of(pipeline)
    by_encoder = _fitting_ids(pipeline, prompts)
    padded = [
        encoder.padded(lists, family.length).split(_BATCH)
        for encoder, lists in zip(family.text_encoders, by_encoder, strict=True)
    ]
    embeds = [family.encode(chunk).float().cpu() for chunk in zip(*padded, strict=True)]
    return torch.cat(embeds)  # (n, L, d_in)


class EncodedPrompts:
    """Encodes each prompt once, however often it is asked for, and keeps what it was encoded to."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._pipeline = pipeline
        self._known: dict[str, Tensor] = {}

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """As :func:`encode_prompts`, up to the last bits, which depend on what is encoded at once.

        Args:
            prompts: At least one.

        Returns:
            ``e(p) (n, L, d_in)`` float32.

        Raises:
            InvalidInputError: A prompt is too long.
        """
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]:
            self._known.update(zip(new, encode_prompts(self._pipeline, new), strict=True))
        return torch.stack([self._known[prompt] for prompt in prompts])


def _tokens(pipeline: DiffusionPipeline, prompts: Sequence[str]) -> list[list[list[int]]]:
    """The tokens of each prompt, by text encoder."""
    family = family_of(pipeline)
    if not prompts:
        return [[] for _ in family.text_encoders]
    texts = family.normalised(prompts)
    return [
        encoder.tokenizer(texts, verbose=False)["input_ids"] for encoder in family.text_encoders
    ]


def _fitting_ids(pipeline: DiffusionPipeline, prompts: Sequence[str]) -> list[list[list[int]]]:
    by_encoder = _tokens(pipeline, prompts)
    limit, words = family_of(pipeline).length, token_limit(pipeline)
    for lists in by_encoder:
        for prompt, ids in zip(prompts, lists, strict=True):
            if len(ids) > limit:
                raise InvalidInputError(
                    f"A prompt has at most {words} tokens here, and '{prompt[:60]}' has "
                    f"{len(ids) - limit + words}: the text encoder would not read its end. "
                    "Shorten it."
                )
    return by_encoder


def last_positions(pipeline: DiffusionPipeline, prompts: Sequence[str]) -> list[int]:
    """Where the last word of each prompt ends, in tokens; the first one for an empty prompt."""
    return [max(0, len(ids) - 2) for ids in token_ids(pipeline, prompts)]


def name_ends(pipeline: DiffusionPipeline, pairs: Sequence[PromptPair]) -> list[int]:
    """Where the concept's name ends in each prompt, in tokens."""
    prompts, stems = _prompts_and_stems(pipeline, pairs)
    # What follows the name is the same with and without it; the article before it may differ.
    return [
        min(max(start, len(p) - 1 - min(_common_end(p, s), len(s) - start)), len(p) - 2)
        for p, s in zip(prompts, stems, strict=True)
        for start in (_first_difference(p, s),)
    ]


def name_positions(pipeline: DiffusionPipeline, pairs: Sequence[PromptPair]) -> list[int]:
    """From where on the rows of each prompt tell of the concept, in tokens.

    A causal encoder's rows before the name are the same for every concept in that template; of one
    that reads in both directions, every row knows the name.
    """
    prompts, stems = _prompts_and_stems(pipeline, pairs)
    if not family_of(pipeline).family.causal:
        return [0] * len(prompts)
    return [_first_difference(p, s) for p, s in zip(prompts, stems, strict=True)]


def _prompts_and_stems(
    pipeline: DiffusionPipeline, pairs: Sequence[PromptPair]
) -> tuple[list[list[int]], list[list[int]]]:
    prompts = token_ids(pipeline, [pair.prompt for pair in pairs])
    return prompts, token_ids(pipeline, [pair.stem for pair in pairs])


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), len(other) - 1)


def _common_end(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
