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
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from shiftreg.pipelines.families.base import Reader
from shiftreg.pipelines.families.stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """A pipeline of this kind; see ``Family``."""

    name: ClassVar[str] = "Stable Diffusion XL"
    parts: ClassVar[tuple[str, ...]] = (
        *StableDiffusion.parts, "text_encoder_2", "tokenizer_2",
    )  # fmt: skip
    apart: ClassVar[tuple[str, ...]] = (*StableDiffusion.apart, "add_embedding.")

    @classmethod
    def load(cls, folder: Path, **options: Any) -> DiffusionPipeline:
        """See ``Family``; without diffusers' watermark, which would change every image."""
        return StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False, **options)

    @property
    def readers(self) -> tuple[Reader, ...]:
        """See ``Family``."""
        second = Reader(self._pipeline.tokenizer_2, self._pipeline.text_encoder_2)
        return (*super().readers, second)

    def encode(self, ids: Sequence[Tensor]) -> Tensor:
        """See ``Family``."""
        return torch.cat(
            [
                reader.encoder(
                    one.to(reader.encoder.device), output_hidden_states=True
                ).hidden_states[-2]
                for reader, one in zip(self.readers, ids, strict=True)
            ],
            dim=-1,
        )

    @cached_property
    @torch.no_grad()
    def _empty_pooled(self) -> Tensor:
        """The pooled embedding of the empty prompt, ``(1, d_pooled)``."""
        reader = self.readers[-1]
        ids = reader.padded([reader.special_ids()], self.length)
        return reader.encoder(ids.to(reader.encoder.device))[0]

    def inputs(self, prompt_embeds: Tensor, *, guided: bool = False) -> dict[str, Any]:
        """See ``Family``."""
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
    def painting(self, prompts: Sequence[str] | Tensor) -> Iterator[dict[str, Any]]:
        """See ``Family``."""
        with super().painting(prompts) as options:
            if isinstance(prompts, Tensor):
                options["pooled_prompt_embeds"] = self._empty_pooled.expand(len(prompts), -1)
            yield options
