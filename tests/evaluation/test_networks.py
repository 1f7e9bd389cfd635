"""The networks of classifiers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models import resnet18
from torchvision.transforms import v2

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.networks import ResNet, SmallNetwork, build_network, fit, fold


@pytest.fixture
def network() -> SmallNetwork:
    """An untrained network whose normalisations have seen some data."""
    torch.manual_seed(0)
    network = SmallNetwork(3).train()
    for _ in range(3):
        network(torch.randn(8, 3, 64, 64))
    return network.eval()


@torch.no_grad()
def test_folding_keeps_the_outputs(network: SmallNetwork) -> None:
    batch = torch.rand(7, 3, 64, 64) * 2 - 1
    assert torch.allclose(network(batch), fold(network)(batch), atol=1e-5)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fold(network).modules())


def test_folding_twice_is_refused(network: SmallNetwork) -> None:
    with pytest.raises(InvalidInputError, match="only once"):
        fold(fold(network))


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="small, resnet18 or resnet50, and not 'vgg'"):
        build_network("vgg", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ["small", "resnet18"])
@torch.no_grad()
def test_images_of_any_size_are_looked_at(architecture: str) -> None:
    network = build_network(architecture, 3).eval()  # type: ignore[arg-type]
    images = torch.rand(2, 3, 96, 160) * 2 - 1
    assert torch.equal(network(images), network(fit(images, network.side)))
    assert network(images).shape == (2, 3)


def test_images_of_the_right_size_are_not_resampled() -> None:
    images = torch.rand(2, 3, 64, 64)
    assert fit(images, 64) is images


def test_a_shrunk_stripe_pattern_turns_grey() -> None:
    stripes = torch.ones(1, 3, 512, 512)
    stripes[..., ::2] = -1
    assert fit(stripes, 64).abs().max() < 0.2


@torch.no_grad()
def test_a_resnet_is_torchvisions_on_torchvisions_preprocessing() -> None:
    torch.manual_seed(0)
    theirs = resnet18(weights=None).eval()
    ours = ResNet("resnet18", 1000).eval()
    ours.head.load_state_dict(theirs.fc.state_dict())
    theirs_without_head = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    ours.body.load_state_dict(theirs_without_head)
    levels = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    prepared = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((224, 224), antialias=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )(torch.from_numpy(levels))
    images = torch.from_numpy(levels).float() / 127.5 - 1
    assert torch.allclose(ours(images), theirs(prepared), rtol=1e-3, atol=1e-3)


def test_gradients_reach_the_image(network: SmallNetwork) -> None:
    image = torch.zeros(1, 3, 96, 96, requires_grad=True)
    network(image)[0, 0].backward()
    assert image.grad is not None
    assert image.grad.abs().max() > 0
