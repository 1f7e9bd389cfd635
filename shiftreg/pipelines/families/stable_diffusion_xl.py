"""Stable Diffusion XL: a UNet, two CLIP text encoders, and a pooled embedding beside them.

The cross-attentions read the last but one layer of both encoders, one beside the other. The second
encoder's pooled output goes another way: into the time embedding, with the image's size. No shift
changes what comes of it, so it carries a concept past every erasure of the cross-attentions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from shiftreg.families import STABLE_DIFFUSION_XL, Family
from shiftreg.pipelines.families.stable_diffusion import StableDiffusion

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class StableDiffusionXL(StableDiffusion):
    """A pipeline of this kind; see ``Family``."""

    family: ClassVar[Family] = STABLE_DIFFUSION_XL

    @classmethod
    def load(cls, folder: Path, **options: Any) -> DiffusionPipeline:
        """See ``FamilyPipeline``; without diffusers' watermark, which would change every image."""
        from diffusers import StableDiffusionXLPipeline

        return StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False, **options)

    def encode(self, ids: Sequence[Tensor]) -> Tensor:
        """See ``FamilyPipeline``."""
        return torch.cat(
            [
                encoder.model(
                    one.to(encoder.model.device), output_hidden_states=True
                ).hidden_states[-2]
                for encoder, one in zip(self.text_encoders, ids, strict=True)
            ],
            dim=-1,
        )

    @cached_property
    @torch.no_grad()
    def _empty_pooled(self) -> Tensor:
        """The pooled embedding of the empty prompt, ``(1, d_pooled)``."""
        encoder = self.text_encoders[-1]
        ids = encoder.padded([encoder.special_ids()], self.length)
        return encoder.model(ids.to(encoder.model.device))[0]

    def inputs(self, prompt_embeds: Tensor, *, guided: bool = False) -> dict[str, Any]:
        """See ``FamilyPipeline``."""
        pooled = self._empty_pooled.expand(len(prompt_embeds), -1)
        if guided:
            embeds, empty, pooled, empty_pooled = self._pipeline.encode_prompt(
                None,
                device=prompt_embeds.device,
                prompt_embeds=prompt_embeds,
                pooled_prompt_embeds=pooled,
            )
            prompt_embeds = torch.cat([empty, embeds])
            pooled = torch.cat([empty_pooled, pooled])
        side = float(self._pipeline.default_sample_size * self._pipeline.vae_scale_factor)
        # Original size, the corner that was cut out, and the size to generate.
        sizes = pooled.new_tensor([side, side, 0, 0, side, side]).expand(len(pooled), -1)
        return {
            "encoder_hidden_states": prompt_embeds,
            "added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes},
        }

    @contextmanager
    def call_options(self, prompts: Sequence[str] | Tensor) -> Iterator[dict[str, Any]]:
        """See ``FamilyPipeline``."""
        with super().call_options(prompts) as options:
            if isinstance(prompts, Tensor):
                options["pooled_prompt_embeds"] = self._empty_pooled.expand(len(prompts), -1)
            yield options
