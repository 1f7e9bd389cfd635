"""The Fréchet distance between two sets of images, in AlexNet's features or Inception's.

FID (Heusel et al., 2017) is defined on an Inception network whose weights are a download, of
torch-fidelity's. AlexNet's features come with this package; values on them are not comparable with
published FIDs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shiftreg.checkpoints import load_pickle_checkpoint
from shiftreg.errors import IntegrityError, InvalidInputError, MissingExtraError, NotFoundError
from shiftreg.evaluation.images import channels_first, to_tensor
from shiftreg.evaluation.perceptual import load_lpips

WEIGHTS_VARIABLE = "SHIFTREG_INCEPTION_WEIGHTS"
WEIGHTS_NAME = "weights-inception-2015-12-05-6726825d.pth"
FEATURES = 2048
BATCH = 32


@torch.no_grad()
def alexnet_features(images: np.ndarray) -> Tensor:
    """AlexNet's last convolution, averaged over each image: ``(N, 256)`` float64.

    Args:
        images: uint8 array (N, H, W, 3), sides of at least 31 pixels.
    """
    model: Any = load_lpips()
    tensors = to_tensor(images)
    features = [
        model.net(model.scaling_layer(batch))[-1].mean(dim=(2, 3)) for batch in tensors.split(64)
    ]
    return torch.cat(features).double()


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` of two sets of features.

    The trace of the root is the sum of the singular values of ``X1 X2'`` for centred features
    ``X``, which needs no root of a covariance that is singular for small sets.

    Args:
        one: ``(n, d)``, at least two rows.
        other: ``(m, d)``, at least two rows.

    Returns:
        0 for equal sets.

    Raises:
        InvalidInputError: Fewer than two rows, or different widths.
    """
    if min(len(one), len(other)) < 2 or one.shape[1] != other.shape[1]:
        raise InvalidInputError(
            "A Fréchet distance takes two sets of at least two features of equal width; got "
            f"{tuple(one.shape)} and {tuple(other.shape)}."
        )
    means, centred = [], []
    for features in (one.double(), other.double()):
        means.append(features.mean(dim=0))
        centred.append((features - means[-1]) / (len(features) - 1) ** 0.5)
    # X = QR with orthonormal columns of Q, which change no singular value: of many images, d rows
    # say the same.
    centred = [torch.linalg.qr(x, mode="r").R if len(x) > x.shape[1] else x for x in centred]
    spread = sum(float(x.square().sum()) for x in centred)
    common = float(torch.linalg.svdvals(centred[0] @ centred[1].T).sum())
    return max(0.0, float((means[0] - means[1]).square().sum()) + spread - 2 * common)


def find_inception_weights(path: Path | None = None) -> Path | None:
    """Finds Inception's weights: a given file, else the environment's, else torch hub's cache.

    Returns:
        The file, or None if none was chosen and the cache has none.

    Raises:
        NotFoundError: The chosen file does not exist.
    """
    chosen = str(path) if path is not None else os.environ.get(WEIGHTS_VARIABLE, "")
    if not chosen:
        cached = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_NAME
        return cached if cached.is_file() else None
    file = Path(chosen).expanduser()
    if not file.is_file():
        raise NotFoundError(
            f"There are no Inception weights '{file}'. Give the file {WEIGHTS_NAME} of "
            f"torch-fidelity, as an option or in {WEIGHTS_VARIABLE}."
        )
    return file


def load_inception(weights: Path) -> Callable[[np.ndarray], Tensor]:
    """Loads the network whose features FID compares, for images that come in portions.

    FID is the :func:`~shiftreg.evaluation.frechet.frechet_distance` of two sets of its features.
    Images are enlarged as the original implementation does it, without antialiasing, for
    comparable values.

    Args:
        weights: As :func:`find_inception_weights` returns it. Comparable values need the file
            that it names.

    Returns:
        What turns images, uint8 (N, H, W, 3), into their features, float32 (N, 2048); it raises
        InvalidInputError for anything else.

    Raises:
        MissingExtraError: The extra "metrics" is not installed.
        NotFoundError: No such file.
        IntegrityError: The file is damaged, holds code, or is of another network.
    """
    network = _load_metric(weights).inception

    @torch.no_grad()
    def features(images: np.ndarray) -> Tensor:
        return torch.cat([network(batch) for batch in channels_first(images).split(BATCH)])

    return features


def _load_metric(weights: Path) -> Any:
    try:
        import torch_fidelity  # type: ignore[import-untyped]  # noqa: F401  # torchmetrics needs it
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise MissingExtraError(
            "FID needs the extra 'metrics'. Run: pip install 'shiftreg[metrics]'"
        ) from error
    # The library unpickles the file that it is given, with all code in it. It is given what was
    # read safely, saved again.
    content: Any = io.BytesIO()
    torch.save(_read_tensors(weights), content)
    content.seek(0)
    # Building initialises random weights first, which must not shift a caller's seed.
    with torch.random.fork_rng(devices=[]):
        try:
            return FrechetInceptionDistance(
                FEATURES, feature_extractor_weights_path=content, antialias=False
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise IntegrityError(
                f"'{weights}' holds the weights of another network ({reason}). "
                f"FID needs {WEIGHTS_NAME}."
            ) from error


def _read_tensors(weights: Path) -> dict[str, Tensor]:
    content = load_pickle_checkpoint(weights)
    for name, value in content.items():
        if not isinstance(value, Tensor) or not value.isfinite().all():
            raise IntegrityError(
                f"'{weights}' is damaged: its '{name}' is not a tensor of finite numbers. "
                f"FID needs {WEIGHTS_NAME}."
            )
    return content
