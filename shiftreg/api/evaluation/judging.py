"""Whose eyes say what an image shows: the classifier that belongs to a base."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shiftreg import miniature
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import slug
from shiftreg.errors import NotFoundError
from shiftreg.evaluation.classifier import Classifier, load_classifier


@dataclass(frozen=True)
class Judge:
    """A classifier, and which one it is.

    Attributes:
        classifier: The classifier.
        name: In words, for reports.
        digest: SHA-256 of its file.
    """

    classifier: Classifier
    name: str
    digest: str

    def knows(self, concept: str) -> bool:
        """Whether it can tell the concept from others."""
        return concept in self.classifier.labels


def classifier_path(workspace: Workspace) -> Path:
    """Where the classifier is kept that was trained for the workspace's base."""
    return workspace.settings.home / "classifiers" / f"{slug(workspace.base.name)}.safetensors"


def find_judge(workspace: Workspace, file: Path | None = None) -> Judge | None:
    """Finds who judges images of the workspace's base.

    Args:
        workspace: Where.
        file: A classifier to use; by default the one that was trained for this base, and on the
            miniature the packaged one.

    Returns:
        None if there is none.

    Raises:
        NotFoundError: ``file`` does not exist.
        IntegrityError: The file is damaged, or is no classifier.
    """
    if file is None and (trained := classifier_path(workspace)).is_file():
        file = trained
    if file is not None:
        return _load(file, f"{file.name}")
    if workspace.base.source == miniature.NAME:
        return _load(miniature.STYLE_CLASSIFIER, "the miniature's style classifier")
    return None


def require_judge(workspace: Workspace, file: Path | None = None) -> Judge:
    """As :func:`find_judge`, where nothing can be said without.

    Raises:
        NotFoundError: There is no classifier for this base.
    """
    judge = find_judge(workspace, file)
    if judge is None:
        raise NotFoundError(
            f"There is no classifier for base '{workspace.base.name}', so nobody can say what its "
            "images show. Run: shiftreg classifier train"
        )
    return judge


def _load(path: Path, name: str) -> Judge:
    classifier = load_classifier(path)
    return Judge(classifier, name, hashlib.sha256(path.read_bytes()).hexdigest())
