"""CLIP score: how well an image fits its prompt (Hessel et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shiftreg.errors import InvalidInputError, MissingExtraError
from shiftreg.evaluation.images import channels_first


@torch.no_grad()
def clip_scores(images: np.ndarray, prompts: Sequence[str], clip: tuple[Any, Any]) -> np.ndarray:
    """Measures how well each image fits its prompt.

    Args:
        images: uint8 array (N, H, W, 3).
        prompts: N texts. The end of one that is longer than CLIP reads does not count.
        clip: The model and its processor, as ``pipelines.load_clip`` returns them.

    Returns:
        float32 array (N,): 100 times the cosine between image and prompt, and 0 where that is
        negative. Hessel et al. take 2.5 times the cosine; papers on erasure, 100 times.

    Raises:
        MissingExtraError: The extra "metrics" is not installed.
        InvalidInputError: If the numbers differ, or the images are not uint8 RGB.
    """
    tensors = channels_first(images)
    if len(images) != len(prompts):
        raise InvalidInputError(
            f"CLIP scores need one prompt an image, got {len(prompts)} for {len(images)}. "
            "Repeat a prompt for each of its images."
        )
    try:
        from torchmetrics.functional.multimodal.clip_score import clip_score
    except ImportError as error:
        raise MissingExtraError(
            "CLIP scores need the extra 'metrics'. Run: pip install 'shiftreg[metrics]'"
        ) from error
    adapted: Any = _Adapted(*clip)
    # The library averages over what it is given: one pair at a time.
    scores = [
        float(clip_score(image, prompt, lambda: (adapted, adapted.process)))
        for image, prompt in zip(tensors, prompts, strict=True)
    ]
    return np.array(scores, dtype=np.float32)


class _Adapted:
    """CLIP as torchmetrics 1.9 takes it: features are tensors, and long prompts are cut before."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model
        self.processor = processor
        self.config = model.config

    def to(self, device: torch.device) -> _Adapted:
        self.model.to(device)
        return self

    def get_image_features(self, *inputs: Tensor) -> Tensor:
        return _tensor(self.model.get_image_features(*inputs))

    def get_text_features(self, *inputs: Tensor) -> Tensor:
        return _tensor(self.model.get_text_features(*inputs))

    def process(self, **inputs: Any) -> Any:
        if "text" in inputs:
            # torchmetrics would cut off the end token, at which CLIP reads a text's meaning.
            length = self.config.text_config.max_position_embeddings
            inputs |= {"truncation": True, "max_length": length}
        return self.processor(**inputs)


def _tensor(output: Any) -> Tensor:
    """The projected features; transformers 5 returns them inside a record."""
    return getattr(output, "pooler_output", output)
