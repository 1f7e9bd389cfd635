"""Closed-form erasure, from embeddings and weights, beside UCE as it is published."""

from __future__ import annotations

import torch
from torch import Tensor

from rows.measure import Line, Setting, at_most, race, under
from rows.world import layer_weights, world
from shiftreg.erasers import ClosedForm, ErasureProblem

ONE_BESIDE, MANY = 5, 100


def measure(setting: Setting) -> list[Line]:
    count, one, many = (5, "svd:0.5", "svd:0.5") if setting.toy else (MANY, "exact", "content:0.01")
    weights, seen = layer_weights(setting), world(setting, count)

    def erase(concept: int, known: int, profile: str) -> None:
        ClosedForm().erase(seen.problem(concept, known, profile), weights)

    problem = seen.problem(0, ONE_BESIDE, one)
    times = race(
        setting,
        {
            "ours": lambda: erase(0, ONE_BESIDE, one),
            "published": lambda: uce(problem, weights),
            "shared": lambda: uce(problem, weights, shared=True),
            "reading": lambda: layer_weights(setting),
        },
    )
    ours = times["ours"].processor
    all_of_them = race(
        setting, {"ours": lambda: [erase(c, count, many) for c in range(count)]}, repeats=1
    )["ours"]
    return [
        at_most(
            2,
            "closed-form erasure of one concept, null space included",
            ours,
            "UCE, one inverse a layer as published",
            times["published"].processor,
        ),
        Line("closed-form erasure", ours, "UCE, one inverse for all", times["shared"].processor),
        under(5, "closed-form erasure of one concept", ours),
        Line("reading its weights from the file", times["reading"].processor),
        under(
            60,
            f"closed-form erasure of {count} concepts, each beside the others, `{many}`",
            all_of_them.wall,
            others={"processor": all_of_them.processor},
        ),
    ]


def uce(
    problem: ErasureProblem, weights: dict[str, Tensor], *, shared: bool = False
) -> dict[str, Tensor]:
    """Unified Concept Editing (equation 7): moves the last row of the name in each prompt.

    Args:
        problem: Rows to move, their anchors, rows to keep.
        weights: Of the layers.
        shared: Whether the inverse, which is the same for all layers, is computed once.
    """
    prompts = range(len(problem.prompt_embeds))
    old = problem.prompt_embeds[prompts, problem.name_ends]
    new = problem.anchor_embeds[prompts, problem.anchor_ends]
    kept = problem.retained_rows

    def inverse() -> Tensor:
        return torch.linalg.inv(0.5 * torch.eye(old.shape[1]) + old.T @ old + kept.T @ kept)

    once = inverse() if shared else None
    edited = {}
    for name, weight in weights.items():
        target = 0.5 * weight + (weight @ new.T) @ old + (weight @ kept.T) @ kept
        edited[name] = target @ (inverse() if once is None else once)
    return edited
