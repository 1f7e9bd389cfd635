"""A small convolutional classifier that says what a 64 x 64 picture shows, fast on a CPU."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.evaluation.images import to_tensor

STAGES = ((24, 2), (48, 2), (80, 2), (112, 1), (112, 2))
"""Channels and stride of each 3 x 3 convolution; the last sees 47 of the 64 pixels."""
BATCH = 256
METADATA_KEY = "shiftreg.classifier"


class Network(nn.Module):
    """Convolutions with ReLU, an average over the picture, and a linear layer.

    Args:
        classes: How many labels it tells apart.
        normalised: Whether a batch normalisation follows each convolution: True to train, False
            for what :func:`fold` makes.
    """

    def __init__(self, classes: int, normalised: bool = True) -> None:
        """Builds the network, untrained."""
        super().__init__()
        self.convolutions = nn.ModuleList()
        self.normalisations = nn.ModuleList()
        channels = 3
        for width, stride in STAGES:
            self.convolutions.append(
                nn.Conv2d(channels, width, 3, stride, padding=1, bias=not normalised)
            )
            self.normalisations.append(nn.BatchNorm2d(width) if normalised else nn.Identity())
            channels = width
        self.head = nn.Linear(channels, classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Turns float pictures (N, 3, H, W) in [-1, 1] into logits (N, classes)."""
        x = pictures
        for convolution, normalisation in zip(self.convolutions, self.normalisations, strict=True):
            x = normalisation(convolution(x)).relu()
        logits: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def fold(network: Network) -> Network:
    """Folds each batch normalisation into the convolution before it.

    Args:
        network: A trained, normalised network; it is left in evaluation mode.

    Returns:
        A new network in evaluation mode with the same outputs, smaller and faster.

    Raises:
        InvalidInputError: If the network has no batch normalisations.
    """
    network.eval()
    folded = Network(network.head.out_features, normalised=False)
    pairs = zip(network.convolutions, network.normalisations, strict=True)
    folded.convolutions = nn.ModuleList(_fuse(*pair) for pair in pairs)
    folded.head.load_state_dict(network.head.state_dict())
    return folded.eval()


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained, folded network and what its outputs mean.

    Attributes:
        labels: The name of each class, in the order of the network's outputs.
        network: What :func:`fold` returned.
    """

    labels: tuple[str, ...]
    network: Network

    def __post_init__(self) -> None:
        """Refuses labels that do not name every output once."""
        outputs = self.network.head.out_features
        if len(set(self.labels)) != len(self.labels) or len(self.labels) != outputs:
            raise InvalidInputError(
                f"A classifier needs {outputs} different labels, one an output, "
                f"not {list(self.labels)}. Give each class its own name."
            )

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Says how likely each label is.

        Args:
            images: uint8 array (N, H, W, 3), of the size that the network was trained on.

        Returns:
            float32 array (N, labels), each row of sum 1.

        Raises:
            InvalidInputError: If ``images`` is not a stack of RGB pictures.
        """
        batches = torch.split(to_tensor(images), BATCH)
        return torch.cat([self.network(batch).softmax(dim=1) for batch in batches]).numpy()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Names the likeliest label of each picture.

        Args:
            images: uint8 array (N, H, W, 3).

        Returns:
            int64 array (N,) of indices into ``labels``.

        Raises:
            InvalidInputError: If ``images`` is not a stack of RGB pictures.
        """
        indices: np.ndarray = self.probabilities(images).argmax(axis=1)
        return indices

    def accuracy(self, images: np.ndarray, label: str) -> float:
        """Measures how often pictures are taken for ``label``.

        Args:
            images: uint8 array (N, H, W, 3).
            label: One of ``labels``.

        Returns:
            The share of the pictures that are predicted as ``label``, from 0 to 1.

        Raises:
            NotFoundError: If the classifier does not know ``label``.
            InvalidInputError: If there are no pictures, or they are not uint8 RGB.
        """
        if label not in self.labels:
            raise NotFoundError(
                f"The classifier does not know the label '{label}'. "
                f"It knows: {', '.join(self.labels)}."
            )
        if len(images) == 0:
            raise InvalidInputError("An accuracy needs at least one picture, got 0. Generate some.")
        return float((self.predict(images) == self.labels.index(label)).mean())


def save_classifier(classifier: Classifier, path: Path) -> None:
    """Writes a classifier as one safetensors file, fp16, its labels in the header.

    The file is written under a temporary name and renamed, so that ``path`` is never half a file.

    Args:
        classifier: The classifier.
        path: Where to; an existing file is replaced.
    """
    tensors = {name: value.half() for name, value in classifier.network.state_dict().items()}
    # One key only: safetensors writes several in an order that changes from run to run.
    content = save(tensors, {METADATA_KEY: json.dumps({"labels": classifier.labels})})
    # tempfile would make the file readable by its owner only.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def load_classifier(path: Path) -> Classifier:
    """Reads what :func:`save_classifier` wrote.

    Args:
        path: The safetensors file.

    Returns:
        The classifier, its weights as float32.

    Raises:
        NotFoundError: If there is no such file.
        IntegrityError: If the file is damaged, or is not a classifier of this shape.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no classifier file '{path}'. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            labels = json.loads(file.metadata()[METADATA_KEY])["labels"]
            if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
                raise ValueError(f"labels must be a list of names, not {labels!r}")
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        network = Network(len(labels), normalised=False)
        network.load_state_dict(tensors)
        classifier = Classifier(tuple(labels), network.eval())
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise IntegrityError(
            f"'{path}' is damaged or is not a classifier: {error}. Copy or train it again."
        ) from error
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise IntegrityError(
            f"'{path}' is damaged: some weights are not finite. Copy or train it again."
        )
    return classifier


def _fuse(convolution: nn.Module, normalisation: nn.Module) -> nn.Module:
    if not isinstance(convolution, nn.Conv2d) or not isinstance(normalisation, nn.BatchNorm2d):
        raise InvalidInputError(
            "Only a network with batch normalisations can be folded, and only once. "
            "Fold what training gave."
        )
    return fuse_conv_bn_eval(convolution, normalisation)
