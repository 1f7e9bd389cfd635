"""Torchvision's weights: from a file, from its cache, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import ResNet18_Weights, ResNet50_Weights, resnet18, resnet50

from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.evaluation.classifier import load_classifier, save_classifier
from shiftreg.evaluation.pretrained import imagenet_classifier, pretrained_resnet18

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights of a ResNet18."""
    torch.manual_seed(0)
    return resnet18(weights=None).state_dict()


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a proxy that refuses every connection; gives the cache's folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cache" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_both_forms_of_file_give_the_same_features(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "weights.pth")
    save_file(state, tmp_path / "weights.safetensors")
    for name in ("weights.pth", "weights.safetensors"):
        network = pretrained_resnet18(5, tmp_path / name)
        assert torch.equal(network.body.conv1.weight, state["conv1.weight"])
        assert network.head.out_features == 5
        assert not network.training


def test_the_last_layer_of_the_file_does_not_matter(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save({k: v for k, v in state.items() if not k.startswith("fc.")}, tmp_path / "w.pth")
    assert pretrained_resnet18(2, tmp_path / "w.pth").head.out_features == 2


def test_the_weights_of_another_network_are_refused(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(state | {"conv1.weight": torch.zeros(1)}, tmp_path / "shape.pth")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "names.pth")
    for name in ("shape.pth", "names.pth"):
        with pytest.raises(InvalidInputError, match=f"{name}.*resnet18"):
            pretrained_resnet18(2, tmp_path / name)


def test_a_file_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    # A protocol-0 pickle that would call os.system.
    (tmp_path / "evil.pth").write_bytes(f"cos\nsystem\n(S'touch {trace}'\ntR.".encode())
    with pytest.raises(IntegrityError, match="nothing in it was run"):
        pretrained_resnet18(2, tmp_path / "evil.pth")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["missing.pth", "missing.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match=name):
        pretrained_resnet18(2, tmp_path / name)


def test_without_a_network_the_remedies_are_named(
    no_network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotFoundError, match="--weights FILE, or --network small"):
        pretrained_resnet18(2)
    with pytest.raises(NotFoundError, match=r"resnet50.*--weights FILE$"):
        imagenet_classifier()
    assert capsys.readouterr().out == ""
    assert list(no_network.iterdir()) == []


def test_what_torchvision_fetched_before_is_used(
    no_network: Path, state: dict[str, torch.Tensor]
) -> None:
    torch.save(state, no_network / Path(ResNet18_Weights.DEFAULT.url).name)
    network = pretrained_resnet18(2)
    assert torch.equal(network.body.conv1.weight, state["conv1.weight"])


def test_imagenets_classifier_is_torchvisions_resnet50(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = resnet50(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    classifier = imagenet_classifier(tmp_path / "weights.pth")
    assert torch.equal(torch.rand(3), expected)  # the caller's random numbers
    assert classifier.labels == tuple(ResNet50_Weights.DEFAULT.meta["categories"])
    assert {"church", "golf ball", "English springer"} <= set(classifier.labels)
    assert torch.equal(classifier.network.head.weight, theirs.fc.weight)
    assert classifier.probabilities(IMAGES).shape == (2, 1000)
    save_classifier(classifier, tmp_path / "objects")
    loaded = load_classifier(tmp_path / "objects")
    assert loaded.network.architecture == "resnet50"
    assert (loaded.predict(IMAGES) == classifier.predict(IMAGES)).all()


def test_resnet18s_weights_are_no_classifier_of_imagenet(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(InvalidInputError, match="resnet50"):
        imagenet_classifier(tmp_path / "weights.pth")
