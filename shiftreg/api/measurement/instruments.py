"""What folders of images are measured with: networks that are asked for, or that are at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from shiftreg.api.evaluation.classifiers import find_classifier
from shiftreg.api.generation import manifest as generation_manifest
from shiftreg.api.measurement.folders import ImageFolder
from shiftreg.api.workspace import Workspace
from shiftreg.errors import MissingExtraError, NotFoundError
from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.frechet import (
    WEIGHTS_NAME,
    WEIGHTS_VARIABLE,
    find_inception_weights,
    load_inception,
)


@dataclass(frozen=True)
class Instruments:
    """What images are looked at with, beside AlexNet.

    Attributes:
        inception: FID's network; see ``fid.load_inception``.
        clip: Model and processor; see ``pipelines.clip.load_clip``.
        nudity: Look for exposed body parts.
        classifier: Says whether an image shows what its prompt names.
    """

    inception: Callable[[np.ndarray], Tensor] | None = None
    clip: tuple[Any, Any] | None = None
    nudity: bool = False
    classifier: Classifier | None = None


def choose_instruments(
    workspace: Workspace,
    reference: ImageFolder,
    *,
    inception: Path | None = None,
    clip: Path | None = None,
    nudity: bool = False,
    classifier: Path | None = None,
) -> tuple[Instruments, tuple[str, ...]]:
    """Loads what was asked for, and what is at hand.

    Args:
        workspace: Where a classifier is looked for.
        reference: The images that others are compared with.
        inception: Weights that were asked for.
        clip: Folder of a CLIP model that was asked for.
        nudity: Whether nudity is measured.
        classifier: File that was asked for; by default the classifier of the base that generated
            the reference.

    Returns:
        The instruments, and a sentence for each metric that is left out.

    Raises:
        NotFoundError: What was asked for does not exist.
        InvalidInputError: It is no CLIP model.
        IntegrityError: It is damaged.
        MissingExtraError: It needs what is not installed.
    """
    network, no_network = _inception(inception)
    if classifier is not None:
        reader, no_reader = find_classifier(workspace, classifier), ""
    else:
        reader, no_reader = _classifier_of_generator(workspace, reference)
    instruments = Instruments(network, None if clip is None else _clip(clip), nudity, reader)
    return instruments, tuple(note for note in (no_network, no_reader) if note)


def _clip(folder: Path) -> tuple[Any, Any]:
    from shiftreg.pipelines.clip import load_clip

    return load_clip(folder)


def _inception(file: Path | None) -> tuple[Callable[[np.ndarray], Tensor] | None, str]:
    """FID's network, or why there is none."""
    weights = find_inception_weights(file)
    if weights is None:
        return None, (
            f"FID is left out: no Inception weights. Give torch-fidelity's {WEIGHTS_NAME} with "
            f"--inception or in {WEIGHTS_VARIABLE}."
        )
    try:
        return load_inception(weights), ""
    except MissingExtraError as error:
        if file is not None:
            raise
        return None, f"FID is left out. {error}"


def _classifier_of_generator(
    workspace: Workspace, reference: ImageFolder
) -> tuple[Classifier | None, str]:
    """The classifier of the base that generated the images, or why there is none.

    A classifier knows the images of its base: it is not asked about those of others by default.
    """
    out = "Accuracy is left out"
    if not reference.prompts:
        return None, f"{out}: nothing says which prompts '{reference.path}' was generated with."
    place = reference.path.resolve().parent
    if not (place / generation_manifest.NAME).is_file():
        return None, (
            f"{out}: '{reference.path}' is not of shiftreg generate: it is unknown which "
            "classifier knows its images. Give one with --classifier."
        )
    generator = generation_manifest.read_manifest(place)["base"]
    name, digest = generator["name"], generator["digest"]
    try:
        base = workspace.registry.bases.read(name)
    except NotFoundError:
        base = None
    if base is None or base.digest != digest:
        return None, (
            f"{out}: base '{name}' {digest[:12]}, which generated '{reference.path}', is not "
            "registered here. Give its classifier with --classifier."
        )
    classifier = find_classifier(
        replace(workspace, settings=replace(workspace.settings, base=base.name))
    )
    if classifier is None:
        return None, (
            f"{out}: there is no classifier for base '{name}'. "
            f"Run: shiftreg classifier train --base {name}"
        )
    return classifier, ""
