"""Measures what an adapter does in a running server: diffusers with peft, on the miniature.

    python benchmarks/adapters.py

Caravaggio's shift is exported in each form and dtype, loaded as people load it, and switched to 1
and to 0. Prints the table of docs/adapters.md. Takes a minute or two.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from shiftreg import api, miniature, pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.compose import merged_weights
from shiftreg.settings import Settings
from shiftreg.subspace import drifts

CONCEPT = "Caravaggio"
ERASED = (CONCEPT, f"a painting of a church by {CONCEPT}")
CASES = [
    (form, dtype) for form in ("diffusers", "kohya", "diff") for dtype in ("float32", "float16")
]


@dataclass(frozen=True)
class Expected:
    """What base and composition predict and generate."""

    base: Tensor
    composed: Tensor
    images: np.ndarray


def main() -> None:
    """Exports, loads, switches, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        workspace = api.open_workspace(Settings(folder / "home", miniature.NAME, None))
        api.erase(workspace, [CONCEPT])
        shift = next(iter(plan_shifts(workspace, api.plan_composition(workspace)).shifts))
        protected = tuple(shift.protected)
        prompts = [*ERASED, *protected]
        embeds = pipelines.encode_prompts(workspace.pipeline, prompts)
        expected = expect(workspace, embeds)
        print(
            "| form | numbers | size | moves protected prompts by | plain rounding | "
            "at 1: prediction from the composed | protected prompts from the base | "
            "largest difference of a pixel | at 0 |"
        )
        print("| --- " * 9 + "|")
        for form, dtype in CASES:
            file = folder / f"{form}-{dtype}.safetensors"
            plan = api.plan_adapter(
                workspace, file, api.Selection(only=[CONCEPT]), form=form, dtype=dtype
            )
            result = api.export_adapter(workspace, plan)
            row = [
                form,
                dtype,
                f"{file.stat().st_size / 1e6:.1f} MB",
                number(result.max_drift),
                number(result.plain_drift),
            ]
            if dtype == "float32":
                row[-1] = "-"
            print("| " + " | ".join([*row, *served(file, form, embeds, expected)]) + " |")

        kept = embeds[len(ERASED) :].double()
        for dtype in (torch.float16, torch.bfloat16):
            moved = merged(workspace, kept, dtype)
            print(f"\nAdded to weights in {dtype}, as web interfaces do: {moved:.1e}")


def merged(workspace: api.Workspace, protected: Tensor, dtype: torch.dtype) -> float:
    """How far protected prompts move where a server adds the change in half precision."""
    (shift,) = plan_shifts(workspace, api.plan_composition(workspace)).shifts
    moved = []
    for layer, weight in pipelines.layer_weights(workspace.pipeline.unet).items():
        before = weight.to(dtype)
        after = before + shift.delta_weight(layer).to(dtype)
        moved.append(drifts(protected, after.double() - before.double(), weight).max())
    return float(max(moved))


def expect(workspace: api.Workspace, embeds: Tensor) -> Expected:
    """Base and composition, the latter by merged weights in float32."""
    unet = workspace.pipeline.unet
    base = predict(unet, embeds)
    composition = plan_shifts(workspace, api.plan_composition(workspace))
    weights = merged_weights(pipelines.layer_weights(unet), composition, torch.float32)
    with pipelines.applied_weights(unet, weights):
        return Expected(base, predict(unet, embeds), generate(workspace.pipeline))


def served(file: Path, form: str, embeds: Tensor, expected: Expected) -> list[str]:
    """The same in a server that loads the adapter; diffusers reads no dense differences."""
    if form == "diff":
        return ["-"] * 4
    server = StableDiffusionPipeline.from_pretrained(miniature.BASE_FOLDER).to(torch.float32)
    server.set_progress_bar_config(disable=True)
    server.load_lora_weights(file.parent, weight_name=file.name, adapter_name="erase")
    server.set_adapters("erase", 1.0)
    at_one = predict(server.unet, embeds)
    off = (at_one - expected.composed).abs().max()
    kept, base = (t[len(ERASED) :].flatten(1).double() for t in (at_one, expected.base))
    moved = ((kept - base).norm(dim=1) / base.norm(dim=1)).max()
    pixels = np.abs(generate(server).astype(int) - expected.images).max()
    server.set_adapters("erase", 0.0)
    same = torch.equal(predict(server.unet, embeds), expected.base)
    return [f"{off:.1e}", f"{moved:.1e}", f"{pixels} of 255", "the base, bit for bit" * same or "?"]


@torch.no_grad()
def predict(unet: torch.nn.Module, embeds: Tensor) -> Tensor:
    """Noise predictions of all prompts from one latent."""
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    return unet(latents.expand(len(embeds), -1, -1, -1), 500, embeds).sample


def generate(pipeline: StableDiffusionPipeline) -> np.ndarray:
    """Images of what is erased, from two seeds."""
    return pipelines.generate(pipeline, ERASED, [0, 1], steps=12, guidance=3.5).astype(int)


def number(value: float | None) -> str:
    """As the shift does, where it is the shift."""
    return "as the shift" if value is None else f"{value:.1e}"


if __name__ == "__main__":
    main()
