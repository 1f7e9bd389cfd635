"""PixArt: a transformer with cross-attentions, and a T5 text encoder.

The cross-attentions read ``caption_projection(encoder(p))``: two layers between encoder and
attention, that see neither image nor time. So that is the space of embeddings here.

Padding is masked: nothing attends to it, whatever its rows hold. They are zero here, so that they
take no part in any span, mean or target, and the mask can be told from the embedding.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, PixArtAlphaPipeline, PixArtSigmaPipeline
from torch import Tensor

from shiftreg.errors import IncompatibleError
from shiftreg.families import PIXART, Family, read_structure
from shiftreg.pipelines.families.base import FamilyPipeline

# They differ in how long a prompt may be, and in the sizes that the transformer gets.
PIPELINES = {kind.__name__: kind for kind in (PixArtAlphaPipeline, PixArtSigmaPipeline)}
# Captions are lower case, and nothing else is done to them: diffusers' cleaning depends on which
# packages are installed. Images have the size that the transformer was trained for.
_PLAIN = {"clean_caption": False, "use_resolution_binning": False}


class PixArt(FamilyPipeline):
    """A pipeline of this kind; see ``FamilyPipeline``."""

    family: ClassVar[Family] = PIXART

    @classmethod
    def load(cls, folder: Path, **options: Any) -> DiffusionPipeline:
        """See ``FamilyPipeline``."""
        name = read_structure(folder).pipeline
        if (kind := PIPELINES.get(name)) is None:
            raise IncompatibleError(
                f"A pipeline with a PixArt transformer is loaded as one of {', '.join(PIPELINES)}, "
                f"and '{folder}' says {name} in its model_index.json."
            )
        return kind.from_pretrained(folder, **options)

    @property
    def length(self) -> int:
        """See ``FamilyPipeline``."""
        parameters = inspect.signature(type(self._pipeline).__call__).parameters
        return int(parameters["max_sequence_length"].default)

    @property
    def condition_width(self) -> int:
        """See ``FamilyPipeline``."""
        read = self.network.config.caption_channels
        written = self._pipeline.text_encoder.config.d_model
        if read != written:
            raise IncompatibleError(
                f"The transformer reads embeddings of width {read}, and the text encoder writes "
                f"{written}. Use the text encoder that belongs to the base."
            )
        return int(self.network.inner_dim)

    def normalised(self, prompts: Sequence[str]) -> list[str]:
        """See ``FamilyPipeline``."""
        return [prompt.lower().strip() for prompt in prompts]

    def encode(self, ids: Sequence[Tensor]) -> Tensor:
        """See ``FamilyPipeline``."""
        (encoder,) = self.text_encoders
        own = ids[0].to(encoder.model.device)
        mask = own != encoder.tokenizer.pad_token_id
        encoded = encoder.model(own, attention_mask=mask.long())[0]
        embeds = self.network.caption_projection(encoded.to(self.network.dtype))
        return torch.where(mask[:, :, None], embeds, 0)

    def attended(self, prompt_embeds: Tensor) -> Tensor:
        """See ``FamilyPipeline``."""
        return prompt_embeds.ne(0).any(dim=-1)

    @torch.no_grad()
    def _empty(self, like: Tensor) -> Tensor:
        """The empty prompt, as often as there are others."""
        (encoder,) = self.text_encoders
        ids = encoder.padded([encoder.special_ids()], like.shape[1])
        return self.encode([ids]).to(like).expand(len(like), -1, -1)

    def inputs(self, prompt_embeds: Tensor, *, guided: bool = False) -> dict[str, Any]:
        """See ``FamilyPipeline``."""
        if guided:
            prompt_embeds = torch.cat([self._empty(prompt_embeds), prompt_embeds])
        sizes: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.network.use_additional_conditions:
            side = float(self.network.config.sample_size * self._pipeline.vae_scale_factor)
            count = len(prompt_embeds)
            sizes = {
                "resolution": prompt_embeds.new_full((count, 2), side),
                "aspect_ratio": prompt_embeds.new_ones((count, 1)),
            }
        return {
            "encoder_hidden_states": prompt_embeds,
            "encoder_attention_mask": self.attended(prompt_embeds).to(prompt_embeds),
            "added_cond_kwargs": sizes,
        }

    def run(self, latents: Tensor, timesteps: Tensor, inputs: dict[str, Any]) -> Tensor:
        """See ``FamilyPipeline``; without the variance, which some transformers learned, too."""
        with self._projected():
            predicted = self.network(
                latents, timestep=timesteps.expand(len(latents)), **inputs, return_dict=False
            )[0]
        return predicted[:, : latents.shape[1]]

    @contextmanager
    def call_options(self, prompts: Sequence[str] | Tensor) -> Iterator[dict[str, Any]]:
        """See ``FamilyPipeline``."""
        if not isinstance(prompts, Tensor):
            yield {"prompt": list(prompts), **_PLAIN}
            return
        empty = self._empty(prompts)
        with self._projected():
            yield {
                "prompt_embeds": prompts,
                "prompt_attention_mask": self.attended(prompts).to(prompts),
                "negative_prompt": None,
                "negative_prompt_embeds": empty,
                "negative_prompt_attention_mask": self.attended(empty).to(prompts),
                **_PLAIN,
            }

    @contextmanager
    def _projected(self) -> Iterator[None]:
        """Lets the transformer take embeddings that went through its projection before."""
        projection = self.network.caption_projection
        self.network.caption_projection = None
        try:
            yield
        finally:
            self.network.caption_projection = projection
