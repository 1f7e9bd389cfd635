"""The networks of classifiers: a small one, fast on a CPU, and two of torchvision's."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from shiftreg.errors import InvalidInputError

Architecture = Literal["small", "resnet18", "resnet50"]

STAGES = ((24, 2), (48, 2), (80, 2), (112, 1), (112, 2))
"""Channels and stride of each 3 x 3 convolution; the last sees 47 of the 64 pixels."""
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Network(nn.Module):
    """Features of an image, and a linear layer that tells classes apart by them.

    Attributes:
        architecture: What a classifier's file calls it.
        side: Edge of the images that it looks at; others are resized, without keeping their
            proportions.
        batch: How many images to classify at a time.
    """

    architecture: Architecture
    head: nn.Linear
    side: ClassVar[int]
    batch: ClassVar[int]

    def features(self, images: Tensor) -> Tensor:
        """Turns images (N, 3, ``side``, ``side``) in [-1, 1] into features (N, width)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Turns float images (N, 3, H, W) in [-1, 1] into logits (N, classes)."""
        logits: Tensor = self.head(self.features(fit(images, self.side)))
        return logits


class SmallNetwork(Network):
    """Convolutions with ReLU, and an average over the image.

    Args:
        classes: How many labels it tells apart.
        normalised: Whether a batch normalisation follows each convolution: True to train, False
            for what :func:`fold` makes.
    """

    side = 64
    batch = 256

    def __init__(self, classes: int, normalised: bool = True) -> None:
        super().__init__()
        self.architecture = "small"
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

    def features(self, images: Tensor) -> Tensor:
        """Turns images (N, 3, 64, 64) in [-1, 1] into features (N, 112)."""
        x = images
        for convolution, normalisation in zip(self.convolutions, self.normalisations, strict=True):
            x = normalisation(convolution(x)).relu()
        return x.mean(dim=(2, 3))


class ResNet(Network):
    """A ResNet (He et al., 2016) as torchvision has it, its weights random.

    Args:
        architecture: "resnet18" or "resnet50".
        classes: How many labels it tells apart.
    """

    side = 224
    batch = 32

    def __init__(self, architecture: Literal["resnet18", "resnet50"], classes: int) -> None:
        # It takes as long to import as torch, and has no type hints.
        from torchvision.models import get_model  # type: ignore[import-untyped]

        super().__init__()
        self.architecture = architecture
        self.body = get_model(architecture, weights=None)
        self.head = nn.Linear(self.body.fc.in_features, classes)
        self.body.fc = nn.Identity()

    def features(self, images: Tensor) -> Tensor:
        """Turns images (N, 3, 224, 224) in [-1, 1] into features (N, 512 or 2048)."""
        mean, deviation = (
            images.new_tensor(values).view(3, 1, 1)
            for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
        )
        return cast("Tensor", self.body(((images + 1) / 2 - mean) / deviation))


def build_network(architecture: Architecture, classes: int) -> Network:
    """Builds the network that a classifier's file holds the weights of.

    Raises:
        InvalidInputError: No such architecture.
    """
    if architecture == "small":
        return SmallNetwork(classes, normalised=False)
    if architecture in ("resnet18", "resnet50"):
        return ResNet(architecture, classes)
    raise InvalidInputError(
        f"A classifier is small, resnet18 or resnet50, and not {architecture!r}."
    )


def fit(images: Tensor, side: int) -> Tensor:
    """Resizes images (N, 3, H, W) to ``side``, smoothed; those of that size stay as they are."""
    if images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def fold(network: SmallNetwork) -> SmallNetwork:
    """Folds each batch normalisation into the convolution before it; smaller and faster.

    Returns:
        A new network with the same outputs; both are in evaluation mode.

    Raises:
        InvalidInputError: If the network has no batch normalisations.
    """
    network.eval()
    folded = SmallNetwork(network.head.out_features, normalised=False)
    pairs = zip(network.convolutions, network.normalisations, strict=True)
    folded.convolutions = nn.ModuleList(_fuse(*pair) for pair in pairs)
    folded.head.load_state_dict(network.head.state_dict())
    return folded.eval()


def _fuse(convolution: nn.Module, normalisation: nn.Module) -> nn.Module:
    if not isinstance(convolution, nn.Conv2d) or not isinstance(normalisation, nn.BatchNorm2d):
        raise InvalidInputError(
            "Only a network with batch normalisations can be folded, and only once. "
            "Fold what training gave."
        )
    return fuse_conv_bn_eval(convolution, normalisation)
