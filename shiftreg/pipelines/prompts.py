"""Prompts in, tokens and embeddings out, as the cross-attentions receive them.

A source is what reads prompts: a loaded pipeline, or a ``PromptEncoder``, which remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shiftreg.concepts import PromptPair
from shiftreg.errors import InvalidInputError
from shiftreg.pipelines.families import family_of
from shiftreg.pipelines.prompt_encoder import PromptEncoder

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def token_limit(source: DiffusionPipeline | PromptEncoder) -> int:
    """The most tokens that a prompt may have, special ones not counted."""
    if isinstance(source, PromptEncoder):
        return source.length - source.special_count
    family = family_of(source)
    return family.length - len(family.text_encoders[0].special_ids())


def fitting(source: DiffusionPipeline | PromptEncoder, prompts: Sequence[str]) -> list[bool]:
    """Whether all text encoders read each prompt to its end."""
    length = _length(source)
    return [all(len(ids) <= length for ids in tokens) for tokens in _tokens(source, prompts)]


def token_ids(source: DiffusionPipeline | PromptEncoder, prompts: Sequence[str]) -> list[list[int]]:
    """Tokenises prompts for the first text encoder, with special tokens, without padding.

    Raises:
        InvalidInputError: A prompt has more tokens than a text encoder takes.
    """
    length = _length(source)
    tokens = _tokens(source, prompts)
    for prompt, by_encoder in zip(prompts, tokens, strict=True):
        if (longest := max(map(len, by_encoder))) > length:
            words = token_limit(source)
            raise InvalidInputError(
                f"A prompt has at most {words} tokens here, and '{prompt[:60]}' has "
                f"{longest - length + words}: the text encoder would not read its end. Shorten it."
            )
    return [by_encoder[0] for by_encoder in tokens]


def encode_prompts(source: DiffusionPipeline | PromptEncoder, prompts: Sequence[str]) -> Tensor:
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
    encoder = _encoder(source)
    embeds = [encoded.embeds for encoded in encoder.read(prompts)]
    whole = [one for one in embeds if one is not None]
    if len(whole) < len(embeds):
        token_ids(source, prompts)  # says which is too long
    return torch.stack(whole) if whole else encoder.empty[None][:0]


def _encoder(source: DiffusionPipeline | PromptEncoder) -> PromptEncoder:
    if isinstance(source, PromptEncoder):
        return source
    family = family_of(source)
    return PromptEncoder(family.family, lambda: family)


def _length(source: DiffusionPipeline | PromptEncoder) -> int:
    return source.length if isinstance(source, PromptEncoder) else family_of(source).length


def _tokens(
    source: DiffusionPipeline | PromptEncoder, prompts: Sequence[str]
) -> list[list[list[int]]]:
    """The tokens of each prompt, by text encoder; of a pipeline, without encoding them."""
    if isinstance(source, PromptEncoder):
        return [encoded.tokens for encoded in source.read(prompts)]
    return family_of(source).tokens(prompts)


def last_positions(source: DiffusionPipeline | PromptEncoder, prompts: Sequence[str]) -> list[int]:
    """Where the last word of each prompt ends, in tokens; the first one for an empty prompt."""
    return [max(0, len(ids) - 2) for ids in token_ids(source, prompts)]


def name_ends(source: DiffusionPipeline | PromptEncoder, pairs: Sequence[PromptPair]) -> list[int]:
    """Where the concept's name ends in each prompt, in tokens."""
    prompts, stems = _prompts_and_stems(source, pairs)
    # What follows the name is the same with and without it; the article before it may differ.
    return [
        min(max(start, len(p) - 1 - min(_common_end(p, s), len(s) - start)), len(p) - 2)
        for p, s in zip(prompts, stems, strict=True)
        for start in (_first_difference(p, s),)
    ]


def name_positions(
    source: DiffusionPipeline | PromptEncoder, pairs: Sequence[PromptPair]
) -> list[int]:
    """From where on the rows of each prompt tell of the concept, in tokens.

    A causal encoder's rows before the name are the same for every concept in that template; of one
    that reads in both directions, every row knows the name.
    """
    prompts, stems = _prompts_and_stems(source, pairs)
    if not _encoder(source).family.causal:
        return [0] * len(prompts)
    return [_first_difference(p, s) for p, s in zip(prompts, stems, strict=True)]


def _prompts_and_stems(
    source: DiffusionPipeline | PromptEncoder, pairs: Sequence[PromptPair]
) -> tuple[list[list[int]], list[list[int]]]:
    prompts = token_ids(source, [pair.prompt for pair in pairs])
    return prompts, token_ids(source, [pair.stem for pair in pairs])


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), len(other) - 1)


def _common_end(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
