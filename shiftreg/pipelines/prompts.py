"""Prompts in, embeddings out, as the cross-attentions receive them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from shiftreg.concepts import PromptPair
from shiftreg.errors import InvalidInputError

_BATCH = 64


def fitting(pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> list[bool]:
    """Whether the text encoder reads each prompt to its end."""
    limit = pipeline.tokenizer.model_max_length
    lists = pipeline.tokenizer(list(prompts), verbose=False)["input_ids"] if prompts else []
    return [len(ids) <= limit for ids in lists]


def token_ids(pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> list[list[int]]:
    """Tokenises prompts, from BOS to EOS, without padding.

    Raises:
        InvalidInputError: A prompt has more tokens than the text encoder takes.
    """
    tokenizer = pipeline.tokenizer
    limit = tokenizer.model_max_length
    lists = tokenizer(list(prompts), verbose=False)["input_ids"] if prompts else []
    for prompt, ids in zip(prompts, lists, strict=True):
        if len(ids) > limit:
            raise InvalidInputError(
                f"A prompt has at most {limit - 2} tokens here, and '{prompt[:60]}' has "
                f"{len(ids) - 2}: the text encoder would not read its end. Shorten it."
            )
    return lists


@torch.no_grad()
def encode_prompts(pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> Tensor:
    """Encodes prompts to what cross-attention receives.

    Args:
        pipeline: The loaded base.
        prompts: At most as long as the text encoder takes.

    Returns:
        ``e(p) (n, L, d_in)`` float32.

    Raises:
        InvalidInputError: A prompt is too long.
    """
    lists = token_ids(pipeline, prompts)
    length = pipeline.tokenizer.model_max_length
    pad = pipeline.tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (length - len(row)) for row in lists])
    ids = ids.reshape(-1, length)
    encoder = pipeline.text_encoder
    embeds = [encoder(chunk.to(encoder.device))[0].float().cpu() for chunk in ids.split(_BATCH)]
    return torch.cat(embeds)  # (n, L, d_in)


def last_positions(pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> list[int]:
    """Where the last word of each prompt ends, in tokens; BOS for an empty prompt."""
    return [len(ids) - 2 for ids in token_ids(pipeline, prompts)]


def name_ends(pipeline: StableDiffusionPipeline, pairs: Sequence[PromptPair]) -> list[int]:
    """Where the concept's name ends in each prompt, in tokens."""
    starts = name_positions(pipeline, pairs)
    prompts = token_ids(pipeline, [pair.prompt for pair in pairs])
    stems = token_ids(pipeline, [pair.stem for pair in pairs])
    # What follows the name is the same with and without it; the article before it may differ.
    return [
        min(max(start, len(p) - 1 - min(_common_end(p, s), len(s) - start)), len(p) - 2)
        for start, p, s in zip(starts, prompts, stems, strict=True)
    ]


def _common_end(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def name_positions(pipeline: StableDiffusionPipeline, pairs: Sequence[PromptPair]) -> list[int]:
    """Where the concept's name begins in each prompt, in tokens.

    The rows before it are the same for every concept in that wording, since the encoder is causal.
    """
    prompts = token_ids(pipeline, [pair.prompt for pair in pairs])
    stems = token_ids(pipeline, [pair.stem for pair in pairs])
    return [
        next((i for i, (a, b) in enumerate(zip(p, s, strict=False)) if a != b), len(s) - 1)
        for p, s in zip(prompts, stems, strict=True)
    ]
