"""Pictures with labels, painted by a base: what a classifier of its concepts learns from."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import NamedTuple, cast

import numpy as np

from shiftreg import pipelines
from shiftreg.api.evaluation.gallery import Gallery, Shot
from shiftreg.api.values import Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import Unfinished
from shiftreg.concepts import Concept, Kind, mentions, slug
from shiftreg.errors import InvalidInputError

PLAIN = "plain"
"""The class of ordinary pictures: a concept that is gone should be taken for it."""


class ClassPictures(NamedTuple):
    """Pictures of classes.

    Attributes:
        labels: The class of each picture.
        images: uint8 (N, H, W, 3).
        unfinished: Where they are kept, to be discarded when they are needed no more.
    """

    labels: tuple[str, ...]
    images: np.ndarray
    unfinished: Unfinished


def class_prompts(workspace: Workspace, concepts: Sequence[str], seed: int) -> dict[str, list[str]]:
    """What to paint of each class: names and wordings of a concept; ordinary prompts for "plain".

    Args:
        workspace: Whose base will paint.
        concepts: Names; all that are registered or protected if there are none.
        seed: Of the order of the wordings.

    Returns:
        Class -> prompts that the text encoder reads to their end; of a concept, its bare name is
        every third.

    Raises:
        InvalidInputError: There are no concepts, two have nearly the same name, a name cannot be
            one, or there are no ordinary prompts.
    """
    known = {slug(name): name for name in workspace.known_names()}
    names = [known.get(slug(name), name) for name in concepts] or list(known.values())
    if not names:
        raise InvalidInputError(
            f"Base '{workspace.base.name}' knows no concepts to tell apart. Name some."
        )
    if len({slug(name) for name in (*names, PLAIN)}) <= len(names):
        raise InvalidInputError(
            f"Classes need different names, '{PLAIN}' being one: {', '.join(names)}."
        )
    draw = random.Random(seed)
    prompts = {name: _wordings(workspace, name, names, draw) for name in names}
    ordinary = [p for p in _fitting(workspace, workspace.base.preserved) if not mentions(p, names)]
    if not ordinary:
        raise InvalidInputError(
            f"Base '{workspace.base.name}' has no ordinary prompts without the concepts. "
            "Register it with some: shiftreg init --preserve FILE"
        )
    draw.shuffle(ordinary)
    return prompts | {PLAIN: ordinary}


def paint_classes(
    workspace: Workspace,
    prompts: Mapping[str, Sequence[str]],
    images: int,
    seed: int,
    observe: Observer,
) -> ClassPictures:
    """Lets the base paint ``images`` pictures a class; an interrupted painting is continued.

    Args:
        workspace: Whose base paints.
        prompts: As :func:`class_prompts` gives them.
        images: Pictures a class.
        seed: Of the pictures.
        observe: Told of the progress.

    Raises:
        StorageError: The disk is full or read-only.
    """
    base = workspace.base
    unfinished = Unfinished.of(
        workspace.settings.home, "classifier", base.digest, dict(prompts), images, seed
    )
    # Far from the small seeds that pictures to be judged are painted from.
    draw = random.Random(seed)
    wanted = [
        Shot(prompt, draw.randrange(2**30, 2**31))
        for some in prompts.values()
        for prompt in islice(cycle(some), images)
    ]
    painted = Gallery(workspace, unfinished.folder).paint(
        wanted,
        observe=lambda done, total: observe(Progress("painting the classes", done, total)),
    )
    labels = tuple(label for label in prompts for _ in range(images))
    return ClassPictures(labels, np.stack([painted[shot] for shot in wanted]), unfinished)


def _wordings(
    workspace: Workspace, name: str, names: Sequence[str], draw: random.Random
) -> list[str]:
    others = [other for other in names if other != name]
    subjects = [subject for subject in workspace.base.subjects if not mentions(subject, others)]
    pairs = Concept(name, kind=_kind(workspace, name)).prompt_pairs(subjects)
    bare, *rest = _fitting(workspace, [pair.prompt for pair in pairs]) or [name]
    draw.shuffle(rest)
    return [p for two in zip(rest[::2], rest[1::2], strict=False) for p in (bare, *two)] or [bare]


def _fitting(workspace: Workspace, prompts: Sequence[str]) -> list[str]:
    fits = pipelines.fitting(workspace.pipeline, prompts)
    return [prompt for prompt, fit in zip(prompts, fits, strict=True) if fit]


def _kind(workspace: Workspace, name: str) -> Kind:
    if versions := workspace.versions(name):
        return cast("Kind", workspace.shift(versions[-1]).kind)
    return "object" if slug(name) in map(slug, workspace.base.subjects) else "style"
