"""Low-rank pairs for a tiny Stable Diffusion, as trainers of LoRAs make them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

RANK = 3
ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0"
# Linear layers, convolutions of 3 x 3 and 1 x 1 (proj_in), with and without stride.
LORA_MODULES = (
    f"{ATTENTION}.attn1.to_q",
    f"{ATTENTION}.attn2.to_k",
    f"{ATTENTION}.attn2.to_out.0",
    f"{ATTENTION}.ff.net.0.proj",
    "down_blocks.1.attentions.0.proj_in",
    "down_blocks.0.resnets.1.conv1",
    "down_blocks.2.downsamplers.0.conv",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_v",
    "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_v",
    "up_blocks.2.upsamplers.0.conv",
)


@pytest.fixture(scope="session")
def unet(stable_diffusion_base: Path) -> dict[str, Tensor]:
    """The state dict of the base's UNet, in half precision."""
    return load_file(stable_diffusion_base / "unet" / "diffusion_pytorch_model.safetensors")


@pytest.fixture
def pairs(unet: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Module -> down (r, c_in, ...) and up (c_out, r, ...), in single precision."""
    generator = torch.Generator().manual_seed(4)
    result = {}
    for module in LORA_MODULES:
        c_out, *rest = unet[f"{module}.weight"].shape
        down = torch.randn(RANK, *rest, generator=generator)
        up = torch.randn(c_out, RANK, *[1] * (len(rest) - 1), generator=generator)
        result[module] = (down, up)
    return result


@pytest.fixture
def products(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Weight -> up times down, in double precision."""
    return {
        f"{module}.weight": torch.einsum(
            "or,r...->o...", up.double().reshape(up.shape[0], RANK), down.double()
        )
        for module, (down, up) in pairs.items()
    }
