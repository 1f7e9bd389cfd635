"""The Fréchet distance between two sets of images, in AlexNet's features.

Not FID, which is defined on an Inception network whose weights are a download: the same distance on
features that come with this package. Its values are not comparable with published FIDs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.images import to_tensor
from shiftreg.evaluation.perceptual import load_lpips


@torch.no_grad()
def alexnet_features(images: np.ndarray, batch_size: int = 64) -> Tensor:
    """Features of images: AlexNet's last convolution, averaged over the image.

    Args:
        images: uint8 array (N, H, W, 3), sides of at least 31 pixels.
        batch_size: Images at a time.

    Returns:
        ``(N, 256)`` float64.
    """
    model: Any = load_lpips()
    tensors = to_tensor(images)
    features = [
        model.net(model.scaling_layer(batch))[-1].mean(dim=(2, 3))
        for batch in tensors.split(batch_size)
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
