"""Networks that torchvision's weights make ready to use, trained on ImageNet."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from shiftreg.checkpoints import load_pickle_checkpoint
from shiftreg.checkpoints.tensor_files import read_safetensors
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.networks import ResNet

LAST_LAYER = "fc."


def imagenet_classifier(weights: Path | None = None) -> Classifier:
    """ResNet50, which tells the thousand objects of ImageNet apart.

    Args:
        weights: A state dict of torchvision's ``resnet50``, ``.safetensors`` or ``.pth``; its own
            ``IMAGENET1K_V2`` is downloaded if None.

    Returns:
        A classifier whose labels are torchvision's categories. It looks at whole images of
        224 x 224, where torchvision cuts their edges off.

    Raises:
        NotFoundError: No such file, or the download failed.
        IntegrityError: The file is damaged, or holds code.
        InvalidInputError: It holds the weights of something else.
    """
    labels = tuple(_published("resnet50").meta["categories"])
    with torch.random.fork_rng(devices=[]):  # random at first, which must not shift a caller's seed
        network = ResNet("resnet50", len(labels))
    body, head = _read_weights("resnet50", weights)
    _load(network.body, body, "resnet50", weights)
    _load(network.head, head, "resnet50", weights)
    return Classifier(labels, network.eval())


def pretrained_resnet18(classes: int, weights: Path | None = None) -> ResNet:
    """ResNet18 with ImageNet's features and a last layer that is yet to be trained.

    Args:
        weights: A state dict of torchvision's ``resnet18``, ``.safetensors`` or ``.pth``, whose
            last layer does not matter; its own ``IMAGENET1K_V1`` is downloaded if None.

    Raises:
        NotFoundError: No such file, or the download failed.
        IntegrityError: The file is damaged, or holds code.
        InvalidInputError: It holds the weights of something else.
    """
    network = ResNet("resnet18", classes)
    body, _ = _read_weights("resnet18", weights)
    _load(network.body, body, "resnet18", weights)
    return network.eval()


def _read_weights(
    architecture: Literal["resnet18", "resnet50"], path: Path | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dicts of all layers but the last, and of the last."""
    if path is None:
        state = _download(architecture)
    elif path.suffix == ".safetensors":
        state = read_safetensors(path)[0]
    else:
        state = load_pickle_checkpoint(path)
    last = {k.removeprefix(LAST_LAYER): v for k, v in state.items() if k.startswith(LAST_LAYER)}
    return {k: v for k, v in state.items() if not k.startswith(LAST_LAYER)}, last


def _published(architecture: Literal["resnet18", "resnet50"]) -> Any:
    """The weights that torchvision recommends: their address, and what they tell apart."""
    from torchvision.models import get_model_weights  # type: ignore[import-untyped]

    return get_model_weights(architecture).DEFAULT


def _download(architecture: Literal["resnet18", "resnet50"]) -> Mapping[str, Tensor]:
    weights = _published(architecture)
    try:
        # torch.hub says on stdout what it fetches, where a JSON document may be expected.
        with contextlib.redirect_stdout(io.StringIO()):
            state: Mapping[str, Tensor] = weights.get_state_dict(
                progress=False, check_hash=True, weights_only=True
            )
    except (OSError, RuntimeError) as error:
        small = ", or --network small" if architecture == "resnet18" else ""
        raise NotFoundError(
            f"The weights of torchvision's {architecture} could not be fetched from {weights.url}: "
            f"{error}. Give a file that was fetched elsewhere: --weights FILE{small}"
        ) from error
    return state


def _load(
    module: torch.nn.Module, state: Mapping[str, Tensor], architecture: str, path: Path | None
) -> None:
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidInputError(
            f"'{path}' does not hold the weights of torchvision's {architecture}: {reason}. "
            "Save them with torch.save(torchvision.models."
            f'{architecture}(weights="DEFAULT").state_dict(), FILE).'
        ) from error
