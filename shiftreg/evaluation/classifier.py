"""Classifiers that say what an image shows, and their files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from shiftreg.checkpoints import atomic_file, file_digest
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.evaluation.images import to_tensor
from shiftreg.evaluation.intervals import Estimate, rate
from shiftreg.evaluation.networks import Network, build_network

METADATA_KEY = "shiftreg.classifier"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network and what its outputs mean.

    Attributes:
        labels: The name of each class, in the order of the network's outputs.
        network: In evaluation mode; a small one as :func:`~shiftreg.evaluation.networks.fold`
            returned it.
        name: What reports call it: that of its file.
        digest: SHA-256 of its file; "" if it is in memory alone.
    """

    labels: tuple[str, ...]
    network: Network
    name: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        """Refuses labels that do not name every output once."""
        outputs = self.network.head.out_features
        if len(set(self.labels)) != len(self.labels) or len(self.labels) != outputs:
            raise InvalidInputError(
                f"A classifier needs {outputs} different labels, one an output, "
                f"not {list(self.labels)}. Give each class its own name."
            )

    def knows(self, concept: str) -> bool:
        """Whether it can tell the concept from others."""
        return concept in self.labels

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """How likely each label of images, uint8 (N, H, W, 3), is: float32 (N, labels), of sum 1.

        Raises:
            InvalidInputError: If ``images`` is not a stack of RGB images.
        """
        size = self.network.batch
        # At least one batch: of no images, there are no rows of the right width.
        starts = range(0, max(len(images), 1), size)
        batches = (to_tensor(images[start : start + size]) for start in starts)
        return torch.cat([self.network(batch).softmax(dim=1) for batch in batches]).numpy()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The likeliest label of each image, as :meth:`probabilities`: int64 (N,), indices."""
        indices: np.ndarray = self.probabilities(images).argmax(axis=1)
        return indices


def save_classifier(classifier: Classifier, path: Path) -> None:
    """Writes a classifier as one safetensors file, fp16, architecture and labels in its header.

    An existing file is replaced, and is never half a file.

    Raises:
        InvalidInputError: There is a folder of that name.
        StorageError: The disk is full or read-only, or the folder is missing.
    """
    tensors = {
        name: value.half() if value.is_floating_point() else value
        for name, value in classifier.network.state_dict().items()
    }
    header = {"architecture": classifier.network.architecture, "labels": classifier.labels}
    # One key only: safetensors writes several in an order that changes from run to run.
    content = save(tensors, {METADATA_KEY: json.dumps(header)})
    with atomic_file(path, overwrite=True) as partial:
        partial.write_bytes(content)


def load_classifier(path: Path) -> Classifier:
    """Reads what :func:`save_classifier` wrote; the weights become float32.

    Raises:
        NotFoundError: No such file.
        IntegrityError: If the file is damaged, or is not a classifier of the architecture and with
            the labels that its header names.
    """
    if not path.is_file():
        raise NotFoundError(f"No classifier file '{path}'. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()[METADATA_KEY])
            labels, architecture = header["labels"], header["architecture"]
            if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
                raise ValueError(f"labels must be a list of names, not {labels!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        with torch.device("meta"):  # no random weights: they cost time and the caller's seed
            network = build_network(architecture, len(labels))
        network.load_state_dict(
            {name: v.float() if v.is_floating_point() else v for name, v in tensors.items()},
            assign=True,
        )
        classifier = Classifier(tuple(labels), network.eval(), path.name, file_digest(path))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise IntegrityError(
            f"'{path}' is damaged or is not a classifier: {error}. Copy or train it again."
        ) from error
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise IntegrityError(
            f"'{path}' is damaged: some weights are not finite. Copy or train it again."
        )
    return classifier


MOST_NAMES = 20  # in a message: ImageNet has a thousand


@dataclass(frozen=True)
class Accuracy:
    """A classifier's answers beside the right ones.

    Attributes:
        accuracy: Share of all images that it is right about.
        per_class: The same of each class.
        confusion: Class -> what its images are taken for -> how many; answers that were never
            given are omitted.
    """

    accuracy: Estimate
    per_class: Mapping[str, Estimate]
    confusion: Mapping[str, Mapping[str, int]]


def measure_accuracy(classifier: Classifier, images: np.ndarray, labels: Sequence[str]) -> Accuracy:
    """Compares a classifier's answers with the right ones.

    Args:
        images: uint8 array (N, H, W, 3).
        labels: The right answer for each image.

    Raises:
        NotFoundError: The classifier does not know one of the labels.
        InvalidInputError: No images, or not one label an image.
    """
    if len(images) != len(labels) or len(images) == 0:
        raise InvalidInputError(
            f"An accuracy takes at least one image and a label for each; got {len(images)} "
            f"images and {len(labels)} labels."
        )
    right = np.array(labels)
    classes = tuple(dict.fromkeys(labels))
    if unknown := [name for name in classes if name not in classifier.labels]:
        known = ", ".join(classifier.labels[:MOST_NAMES])
        more = ", ..." if len(classifier.labels) > MOST_NAMES else ""
        raise NotFoundError(
            f"The classifier does not know the class '{unknown[0]}'. It knows: {known}{more}."
        )
    answers = np.array(classifier.labels)[classifier.predict(images)]
    hits = answers == right
    return Accuracy(
        accuracy=rate(hits),
        per_class={name: rate(hits[right == name]) for name in classes},
        confusion={
            name: dict(Counter(answers[right == name].tolist()).most_common()) for name in classes
        },
    )
