"""One step of `srs-me` beside the reference step: two models, four forward and two backward."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from rows.measure import Line, Setting, at_most, child, peak_megabytes, reset_peak
from rows.world import world
from shiftreg.erasers import SrsMe, Step, TrainingData
from shiftreg.pipelines import Denoiser, image_independent_layers

SIDE, CONCEPTS = 8, 5


def measure(setting: Setting) -> list[Line]:
    world(setting, CONCEPTS)
    found: dict[str, dict[str, Any]] = {}
    for who in ("ours", "reference"):
        found[who] = child(setting, "srs_me_step", who)
    ours, reference = found["ours"], found["reference"]
    peer = "the reference step: 2 models, 4 forward, 2 backward"
    return [
        at_most(
            0.5,
            f"one `srs-me` step, latents {SIDE} x {SIDE}, batch 1",
            ours["processor"],
            peer,
            reference["processor"],
            others={"ours": ours["wall"], "peer": reference["wall"]},
        ),
        at_most(
            0.55,
            "its memory, beyond the libraries",
            [ours["peak"] - ours["libraries"]],
            peer,
            [reference["peak"] - reference["libraries"]],
            unit="MB",
        ),
        at_most(
            0.55,
            "its memory, libraries included",
            [ours["peak"]],
            peer,
            [reference["peak"]],
            unit="MB",
        ),
    ]


def in_child(setting: Setting, who: str) -> dict[str, Any]:
    libraries = peak_megabytes()
    torch.manual_seed(0)
    problem = world(setting, CONCEPTS).problem(0, CONCEPTS, "svd:0.5" if setting.toy else "exact")
    steps = setting.repeats + 1  # the first warms up
    latents = torch.randn(4, 4, SIDE, SIDE)
    clocks: list[tuple[float, float]] = []

    def tick(*_: object) -> None:
        clocks.append((time.perf_counter(), time.process_time()))

    folder = setting.base("float32")
    model = _unet(folder)
    if who == "ours":
        denoiser = Denoiser(_pipeline(folder, model))
        reset_peak()

        def observe(_step: Step) -> None:
            tick()

        data = TrainingData(denoiser, latents, (0, 1, 2, 3), observe)
        eraser = SrsMe(iterations=steps, batch_size=1, pool_size=4, warmup=steps)
        eraser.erase(problem, denoiser.weights, data)
    else:
        frozen = _unet(folder)
        reset_peak()
        step = reference_step(frozen, model, problem.null_basis.float())
        for number in range(steps):
            concept = problem.prompt_embeds[number % 4][None]
            step(latents[:1], concept, problem.empty_embeds[None])
            tick()
    gaps = [
        [after[clock] - before[clock] for before, after in pairwise(clocks)] for clock in (0, 1)
    ]
    return {"wall": gaps[0], "processor": gaps[1], "peak": peak_megabytes(), "libraries": libraries}


def _pipeline(folder: Path, unet: UNet2DConditionModel) -> StableDiffusionPipeline:
    """The UNet among parts that take no memory: none of them is asked anything in a step."""
    with torch.device("meta"):
        text_encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
    return StableDiffusionPipeline(
        vae=None,
        text_encoder=text_encoder,
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _unet(folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(folder / "unet").requires_grad_(False)


def reference_step(frozen: Any, trained: Any, basis: Tensor) -> Any:
    """The step of the paper: ``delta_l = w_l S``, both models predict for concept and empty prompt.

    Kinder than the reference code: nothing but ``w`` has a gradient.
    """
    layers = image_independent_layers(trained)
    w = {
        name: torch.zeros(layer.weight.shape[0], len(basis), requires_grad=True)
        for name, layer in layers.items()
    }
    for name, layer in layers.items():
        layer.register_forward_hook(
            lambda _m, inputs, output, name=name: output + (inputs[0] @ basis.T) @ w[name].T
        )
    optimizer = torch.optim.Adam(w.values(), lr=0.01)

    def step(latents: Tensor, concept: Tensor, empty: Tensor) -> None:
        t = torch.randint(1000, (1,))

        def relative(model: Any) -> Tensor:
            with_concept = model(latents, t, encoder_hidden_states=concept).sample
            return with_concept - model(latents, t, encoder_hidden_states=empty).sample

        with torch.no_grad():
            before = relative(frozen)
        loss = (relative(trained) * before).mean()
        loss = loss + 1e-6 * sum(weight.abs().sum() for weight in w.values()) / len(w)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
