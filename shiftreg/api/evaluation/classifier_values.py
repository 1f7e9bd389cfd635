"""What training and testing a classifier gives; plain data, as it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shiftreg.evaluation.intervals import Estimate


@dataclass(frozen=True)
class ClassifierResult:
    """A classifier that was trained.

    Attributes:
        path: Its file.
        digest: SHA-256 of that file.
        labels: What it tells apart.
        counts: Label -> pictures, of which 70% were learnt from.
        accuracy: Share of the other 30% that it is right about.
        per_class: The same of each class.
        confusion: Class -> what its pictures are taken for -> how many, of the 30%.
        network: "small" or "resnet18".
        seed: Of pictures and training.
        images: Pictures in all.
        source: The folder that they come from, or "painted by" the base.
    """

    path: Path
    digest: str
    labels: tuple[str, ...]
    counts: Mapping[str, int]
    accuracy: Estimate
    per_class: Mapping[str, Estimate]
    confusion: Mapping[str, Mapping[str, int]]
    network: str
    seed: int
    images: int
    source: str


@dataclass(frozen=True)
class ClassifierTest:
    """A classifier's answers about pictures in a folder.

    Attributes:
        judge: The classifier, in words.
        digest: SHA-256 of its file.
        folder: Of the pictures.
        counts: Class -> pictures.
        accuracy: Share of the pictures that it is right about.
        per_class: The same of each class.
        confusion: Class -> what its pictures are taken for -> how many.
        images: Pictures in all.
    """

    judge: str
    digest: str
    folder: Path
    counts: Mapping[str, int]
    accuracy: Estimate
    per_class: Mapping[str, Estimate]
    confusion: Mapping[str, Mapping[str, int]]
    images: int


@dataclass(frozen=True)
class ImagenetClassifier:
    """A classifier of ImageNet's objects that was written: its file, SHA-256 and labels."""

    path: Path
    digest: str
    labels: tuple[str, ...]
