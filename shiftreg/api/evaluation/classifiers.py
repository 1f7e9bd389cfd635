"""Selects the classifier that reads the images of a base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shiftreg import miniature
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import slug
from shiftreg.errors import NotFoundError
from shiftreg.evaluation.classifier import Classifier, load_classifier


def classifier_path(workspace: Workspace) -> Path:
    """Where the classifier is kept that was trained for the workspace's base."""
    return workspace.settings.home / "classifiers" / f"{slug(workspace.base.name)}.safetensors"


def find_classifier(workspace: Workspace, file: Path | None = None) -> Classifier | None:
    """The classifier for images of the workspace's base, or None.

    Args:
        file: A classifier to use; by default the one that was trained for this base, and on the
            miniature the packaged one.

    Raises:
        NotFoundError: ``file`` does not exist.
        IntegrityError: The file is damaged, or is not a classifier.
    """
    if file is None and (trained := classifier_path(workspace)).is_file():
        file = trained
    if file is not None:
        return load_classifier(file)
    if workspace.base.source == miniature.NAME:
        packaged = load_classifier(miniature.STYLE_CLASSIFIER)
        return replace(packaged, name="the miniature's style classifier")
    return None


def require_classifier(workspace: Workspace, file: Path | None = None) -> Classifier:
    """As :func:`find_classifier`, where nothing can be measured without one.

    Raises:
        NotFoundError: No classifier for this base.
    """
    classifier = find_classifier(workspace, file)
    if classifier is None:
        raise NotFoundError(
            f"No classifier found for base '{workspace.base.name}', so that nothing tells what its "
            "images show. Run: shiftreg classifier train"
        )
    return classifier
