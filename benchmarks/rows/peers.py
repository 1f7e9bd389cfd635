"""What others would write: adapters in PEFT's keys, and a checkpoint that they are fused into."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from rows.measure import Setting
from rows.world import shifts
from shiftreg.shift import ConceptShift


def peft_state(shift: ConceptShift, dtype: torch.dtype, prefix: str = "unet") -> dict[str, Tensor]:
    """A shift as a LoRA."""
    state = {}
    for layer, factor in shift.factors.items():
        state[f"{prefix}.{layer}.lora_A.weight"] = shift.support.to(dtype)
        state[f"{prefix}.{layer}.lora_B.weight"] = factor.to(dtype)
    return state


def peft_fused(setting: Setting, dtype: str, count: int, target: Path) -> None:
    """Loads base and adapters, fuses, and saves: diffusers with peft."""
    kind = getattr(torch, dtype)
    pipeline = StableDiffusionPipeline.from_pretrained(setting.base(dtype), torch_dtype=kind)
    names = [f"a{number}" for number in range(count)]
    for name, shift in zip(names, shifts(setting, count), strict=True):
        pipeline.load_lora_weights(peft_state(shift, kind), adapter_name=name)
    pipeline.set_adapters(names)
    pipeline.fuse_lora(adapter_names=names)
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(target)
