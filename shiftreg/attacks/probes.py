"""Probes: what does a model make of an image of the concept that it is given in part?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.attacks.base import AttackResult, Start, Surface
from shiftreg.errors import InvalidInputError


@dataclass(frozen=True)
class NoiseProbe:
    """Lets the model generate noised images of the concept to their end, under its name.

    What is left of the images in the noise helps any model: compare with one that is not given
    the name.

    Source: "diffusion completion" in Lu et al., "When Are Concepts Erased From Diffusion Models?"
    (2025), begun as in SDEdit (Meng et al. 2022). Their "noise-based probing" is another one.

    Attributes:
        strength: Share of the noise schedule that is generated again: 1 begins from pure noise.
    """

    name: ClassVar[str] = "noise-probe"
    needs: ClassVar[str] = "images of the concept; sampling from a latent"
    source: ClassVar[str] = "When Are Concepts Erased From Diffusion Models? (Lu et al. 2025)"

    strength: float = 0.8

    def __post_init__(self) -> None:
        """Checks the strength."""
        if not 0 < self.strength <= 1:
            raise InvalidInputError(
                f"strength lies above 0 and is at most 1, and it is {self.strength}."
            )

    def run(self, surface: Surface, seed: int) -> AttackResult:
        """Hands the images over; there is nothing to search for."""
        return AttackResult(
            surface.words.encode([surface.concept]),
            text=f'"{surface.concept}", from its images under {self.strength:.0%} noise',
            start=Start(_images(surface), self.strength),
        )


@dataclass(frozen=True)
class CompletionProbe:
    """Keeps a part of an image of the concept; the model generates the rest, under its name.

    The kept part is in the result and is classified with it: compare with a model that is not given
    the name. Of half an image, the miniature's classifier needs no more than the kept part; of a
    quarter, it says something about the rest.

    Source: the inpainting probe in Lu et al., "When Are Concepts Erased From Diffusion Models?"
    (2025), generated as in RePaint (Lugmayr et al. 2022).

    Attributes:
        kept: Share of the image that is kept, from its left edge.
    """

    name: ClassVar[str] = "completion-probe"
    needs: ClassVar[str] = "images of the concept; access to every sampling step"
    source: ClassVar[str] = "When Are Concepts Erased From Diffusion Models? (Lu et al. 2025)"

    kept: float = 0.25

    def __post_init__(self) -> None:
        """Checks the share."""
        if not 0 < self.kept < 1:
            raise InvalidInputError(
                f"kept is a share of the image, between 0 and 1, and it is {self.kept}."
            )

    def run(self, surface: Surface, seed: int) -> AttackResult:
        """Hands the images over; there is nothing to search for."""
        latents = _images(surface)
        height, width = latents.shape[-2:]
        keep = torch.arange(width).expand(height, width) < round(self.kept * width)
        return AttackResult(
            surface.words.encode([surface.concept]),
            text=f'"{surface.concept}", beside {self.kept:.0%} of its images, seen as a whole',
            start=Start(latents, 1.0, keep),
        )


def _images(surface: Surface) -> Tensor:
    """The latents ``(n, C, h, w)``; those generated for the bare name, if there are any."""
    bare = [i for i, prompt in enumerate(surface.latent_prompts) if prompt == 0]
    latents = surface.latents[bare] if bare else surface.latents
    if len(latents) == 0:
        raise InvalidInputError(
            "A probe starts from images of the concept, and got none. Generate some first."
        )
    return latents
