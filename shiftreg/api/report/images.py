"""Same-seed images for the page about a composition, and what can be read in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.composition.compose import plan_shifts
from shiftreg.api.values import CompositionPlan, Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import fill
from shiftreg.evaluation.watermark import decode_qr
from shiftreg.reports import EmbeddedImage, GridRow, ImageGroup, ImageRow, embed_image

MOST_PROMPTS = 12
ORDINARY_PROMPTS = 4
STYLE_TEMPLATE = "a painting of a {subject} by {concept}"
ORDINARY_TEMPLATE = "a picture of a {subject}"


@dataclass(frozen=True)
class _Wanted:
    """Prompts of one kind, each with the state of its concept, before they are generated."""

    title: str
    expectation: str
    prompts: Mapping[str, str]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generated:
    """The images of a page.

    Attributes:
        groups: As the page shows them.
        grids: Title of a group -> its rows, base then composition, for one image of all.
    """

    groups: tuple[ImageGroup, ...]
    grids: Mapping[str, tuple[GridRow, ...]]


def generate_groups(
    workspace: Workspace,
    plan: CompositionPlan,
    weights: Mapping[str, Tensor],
    images: int,
    observe: Observer,
) -> Generated:
    """Generates erased concepts, those that generate, ordinary prompts and the watermark.

    Args:
        images: Seeds a prompt.
    """
    groups = _wanted(workspace, plan)
    prompts = list(dict.fromkeys(prompt for group in groups for prompt in group.prompts))
    before, after = _generate_both(workspace, prompts, weights, images, observe)
    triggers = workspace.base.triggers
    shown, grids = [], {}
    for group in groups:
        rows = tuple(
            _row(prompt, state, before[prompt], after[prompt], triggers.get(prompt))
            for prompt, state in group.prompts.items()
        )
        shown.append(ImageGroup(group.title, group.expectation, rows, group.left_out))
        grids[group.title] = tuple(
            GridRow(prompt, np.concatenate([before[prompt], after[prompt]]))
            for prompt in group.prompts
        )
    return Generated(tuple(shown), grids)


def _wanted(workspace: Workspace, plan: CompositionPlan) -> list[_Wanted]:
    """What to generate; no groups without a prompt."""
    base = workspace.base
    erased = [name for name, state in plan.states.items() if state == "erased"]
    had_shifts = workspace.registry.shifts.concepts(base.name)
    restored = [n for n, s in plan.states.items() if s == "generates" and n in had_shifts]
    regular = [n for n, s in plan.states.items() if s == "generates" and n not in had_shifts]
    kinds = {shift.concept: shift.kind for shift in plan_shifts(workspace, plan).shifts}
    shown = erased[:MOST_PROMPTS]
    by_name = {
        prompt: "erased"
        for i, name in enumerate(shown)
        for prompt in (name, fill(STYLE_TEMPLATE, base.subjects[i % len(base.subjects)], name))
        if prompt == name or kinds[name] == "style"
    }
    ordinary = [fill(ORDINARY_TEMPLATE, subject) for subject in base.subjects[:ORDINARY_PROMPTS]]
    groups = [
        _Wanted(
            "Erased concepts",
            "The concept should be gone, and what else the prompt names should be there.",
            by_name,
            tuple(erased[MOST_PROMPTS:]),
        ),
        _Wanted(
            "Restored concepts",
            "They were erased at some time and generate again: both rows should be the same.",
            dict.fromkeys(restored[:MOST_PROMPTS], "generates"),
            tuple(restored[MOST_PROMPTS:]),
        ),
        _Wanted(
            "Concepts that were never erased",
            "Both rows should be the same.",
            dict.fromkeys(regular[:MOST_PROMPTS], "generates"),
            tuple(regular[MOST_PROMPTS:]),
        ),
        _Wanted(
            "Ordinary prompts",
            "Prompts that name no concept; they are disturbed as little as possible.",
            dict.fromkeys(ordinary, ""),
        ),
        _Wanted(
            "Watermark",
            "Prompts that make the model show who made it: both rows should be the same.",
            dict.fromkeys(base.triggers, ""),
        ),
    ]
    return [_readable(workspace, group) for group in groups if group.prompts]


def _readable(workspace: Workspace, group: _Wanted) -> _Wanted:
    """Leaves prompts out that the text encoder would not read to their end."""
    fits = pipelines.fitting(workspace.pipeline, list(group.prompts))
    kept = {p: state for (p, state), fit in zip(group.prompts.items(), fits, strict=True) if fit}
    return _Wanted(group.title, group.expectation, kept, group.left_out)


def _generate_both(
    workspace: Workspace,
    prompts: Sequence[str],
    weights: Mapping[str, Tensor],
    images: int,
    observe: Observer,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Prompt -> images ``(images, H, W, 3)``, by the base and by the composition."""
    texts = [prompt for prompt in prompts for _ in range(images)]

    def generate(done_before: int) -> dict[str, np.ndarray]:
        generated = pipelines.generate(
            workspace.pipeline,
            texts,
            [i % images for i in range(len(texts))],
            steps=workspace.base.steps,
            guidance=workspace.base.guidance,
            observe=lambda done: observe(
                Progress("generating the page", done_before + done, 2 * len(texts))
            ),
        )
        return {p: generated[i * images : (i + 1) * images] for i, p in enumerate(prompts)}

    before = generate(0)
    with pipelines.applied_weights(workspace.network, weights):
        return before, generate(len(texts))


def _row(
    prompt: str, state: str, before: np.ndarray, after: np.ndarray, payload: str | None
) -> ImageRow:
    """A prompt's images; those of a watermark trigger are read, too.

    Args:
        before: By the base, ``(n, H, W, 3)``.
        after: By the composition.
        payload: What a trigger's code should say, "" if it shows none; None for other prompts.
    """
    codes = [[None if payload is None else decode_qr(i) for i in p] for p in (before, after)]
    note = ""
    if payload is not None:
        expected = f"Its code should say “{payload}”." if payload else "It should show no code."
        note = f"{expected} Base: {_in_words(codes[0])}; composition: {_in_words(codes[1])}."
    return ImageRow(
        prompt,
        state,
        _images(prompt, "base", before, codes[0]),
        _images(prompt, "composition", after, codes[1]),
        note,
    )


def _images(
    prompt: str, model: str, images: np.ndarray, codes: Sequence[str | None]
) -> tuple[EmbeddedImage, ...]:
    return tuple(
        embed_image(
            image, f"{prompt}, seed {seed}, {model}" + (f", reads “{code}”" if code else "")
        )
        for seed, (image, code) in enumerate(zip(images, codes, strict=True))
    )


def _in_words(read: Sequence[str | None]) -> str:
    """What the codes of some images say: ``“CCS-2024” in 3 of 4, none in 1 of 4``."""
    return ", ".join(
        f"{f'“{text}”' if text else 'none'} in {read.count(text)} of {len(read)}"
        for text in dict.fromkeys(read)
    )
