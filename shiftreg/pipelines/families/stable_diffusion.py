"""Stable Diffusion 1.x and 2.x: a UNet, and one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from shiftreg.families import STABLE_DIFFUSION, Family
from shiftreg.pipelines.families.base import FamilyPipeline

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class StableDiffusion(FamilyPipeline):
    """A pipeline of this kind; see ``FamilyPipeline``."""

    family: ClassVar[Family] = STABLE_DIFFUSION

    @classmethod
    def load(cls, folder: Path, **options: Any) -> DiffusionPipeline:
        """See ``FamilyPipeline``; without the safety checker, which would black out images."""
        from diffusers import StableDiffusionPipeline

        return StableDiffusionPipeline.from_pretrained(
            folder, safety_checker=None, requires_safety_checker=False, **options
        )

    @property
    def length(self) -> int:
        """See ``FamilyPipeline``."""
        return int(self._pipeline.tokenizer.model_max_length)

    @property
    def condition_width(self) -> int:
        """See ``FamilyPipeline``."""
        return sum(encoder.model.config.hidden_size for encoder in self.text_encoders)

    def encode(self, ids: Sequence[Tensor]) -> Tensor:
        """See ``FamilyPipeline``; the encoder's last layer, which in SD 2.x is the last but one."""
        encoder = self._pipeline.text_encoder
        return encoder(ids[0].to(encoder.device))[0]

    def inputs(self, prompt_embeds: Tensor, *, guided: bool = False) -> dict[str, Any]:
        """See ``FamilyPipeline``."""
        if guided:
            embeds, empty = self._pipeline.encode_prompt(
                None, prompt_embeds.device, 1, True, prompt_embeds=prompt_embeds
            )
            prompt_embeds = torch.cat([empty, embeds])
        return {"encoder_hidden_states": prompt_embeds}

    def run(self, latents: Tensor, timesteps: Tensor, inputs: dict[str, Any]) -> Tensor:
        """See ``FamilyPipeline``."""
        return self._pipeline.unet(latents, timesteps, **inputs).sample

    @contextmanager
    def call_options(self, prompts: Sequence[str] | Tensor) -> Iterator[dict[str, Any]]:
        """See ``FamilyPipeline``."""
        is_words = not isinstance(prompts, Tensor)
        yield {"prompt": list(prompts)} if is_words else {"prompt_embeds": prompts}
