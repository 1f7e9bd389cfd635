"""Stable Diffusion 1.x and 2.x: a UNet, and one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, ModelMixin, StableDiffusionPipeline
from torch import Tensor

from shiftreg.pipelines.families.base import Reader


class StableDiffusion:
    """A pipeline of this kind; see ``Family``."""

    name: ClassVar[str] = "Stable Diffusion"
    parts: ClassVar[tuple[str, ...]] = ("unet", "text_encoder", "tokenizer", "vae", "scheduler")
    image_components: ClassVar[tuple[str, ...]] = ("unet", "vae")
    causal: ClassVar[bool] = True
    apart: ClassVar[tuple[str, ...]] = ("time_embedding.", "conv_norm_out", "conv_out")

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._pipeline = pipeline

    @classmethod
    def load(cls, folder: Path, **options: Any) -> DiffusionPipeline:
        """See ``Family``; without a safety checker, which would black out what it dislikes."""
        return StableDiffusionPipeline.from_pretrained(
            folder, safety_checker=None, requires_safety_checker=False, **options
        )

    @property
    def network(self) -> ModelMixin:
        """See ``Family``."""
        return self._pipeline.unet

    @property
    def readers(self) -> tuple[Reader, ...]:
        """See ``Family``."""
        return (Reader(self._pipeline.tokenizer, self._pipeline.text_encoder),)

    @property
    def length(self) -> int:
        """See ``Family``."""
        return int(self._pipeline.tokenizer.model_max_length)

    @property
    def condition_width(self) -> int:
        """See ``Family``."""
        return sum(reader.encoder.config.hidden_size for reader in self.readers)

    def spelled(self, prompts: Sequence[str]) -> list[str]:
        """See ``Family``."""
        return list(prompts)

    def encode(self, ids: Sequence[Tensor]) -> Tensor:
        """See ``Family``; the encoder's last layer, which in SD 2.x is the last but one."""
        encoder = self._pipeline.text_encoder
        return encoder(ids[0].to(encoder.device))[0]

    def attended(self, prompt_embeds: Tensor) -> Tensor | None:
        """See ``Family``: padding is attended to like words."""
        return None

    def inputs(self, prompt_embeds: Tensor, *, guided: bool = False) -> dict[str, Any]:
        """See ``Family``."""
        if guided:
            embeds, empty = self._pipeline.encode_prompt(
                None, prompt_embeds.device, 1, True, prompt_embeds=prompt_embeds
            )
            prompt_embeds = torch.cat([empty, embeds])
        return {"encoder_hidden_states": prompt_embeds}

    def run(self, latents: Tensor, timesteps: Tensor, inputs: dict[str, Any]) -> Tensor:
        """See ``Family``."""
        return self._pipeline.unet(latents, timesteps, **inputs).sample

    @contextmanager
    def painting(self, prompts: Sequence[str] | Tensor) -> Iterator[dict[str, Any]]:
        """See ``Family``."""
        is_words = not isinstance(prompts, Tensor)
        yield {"prompt": list(prompts)} if is_words else {"prompt_embeds": prompts}
