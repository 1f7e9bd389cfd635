"""The commands about classifiers, on real folders and a base that paints quickly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet50
from typer.testing import CliRunner, Result

from shiftreg import api
from shiftreg.evaluation.classifier import load_classifier
from shiftreg.settings import Settings
from shiftreg_cli.main import app


@pytest.fixture
def quick(home: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose miniature paints in two steps."""
    home.mkdir()
    (home / "registry.db").write_bytes(database.read_bytes())
    api.register_base(api.open_workspace(Settings(home, "miniature", None)), steps=2)
    monkeypatch.setenv("SHIFTREG_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "100")
    return home


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six red and six blue pictures, noisy."""
    rng = np.random.default_rng(0)
    for channel, name in ((0, "Red"), (2, "Blue")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(6):
            picture = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
            picture[:, :, channel] += 120
            Image.fromarray(picture).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


def start(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["classifier", *arguments])


def test_training_says_how_good_the_classifier_is(quick: Path) -> None:
    result = start("train", "--concept", "Picasso,Cezanne", "--images", "3", "--epochs", "1")
    assert result.exit_code == 0, result.stderr
    written = quick / "classifiers" / "miniature.safetensors"
    assert load_classifier(written).labels == ("Picasso", "Cezanne", "plain")
    assert "9 in 3 classes, painted by miniature; 3 held out" in result.stdout
    assert "Mostly mistaken for" in result.stdout
    assert "Answers: 1 Picasso, 2 Cezanne, 3 plain" in result.stdout


def test_a_folder_is_learnt_from_and_tested_on(quick: Path, folder: Path) -> None:
    trained = start("train", str(folder), "--out", "colours", "--epochs", "30", "--json")
    assert trained.exit_code == 0, trained.stderr
    document = json.loads(trained.stdout)
    assert document["labels"] == ["Blue", "Red"]
    assert document["accuracy"]["count"] == 4
    tested = start("test", str(folder), "--classifier", "colours", "--json")
    assert tested.exit_code == 0, tested.stderr
    document = json.loads(tested.stdout)
    assert document["confusion"] == {"Blue": {"Blue": 6}, "Red": {"Red": 6}}
    shown = start("test", str(folder), "--classifier", "colours").stdout
    assert "100.0% (95% interval 74% to 100%)" in shown


def test_an_existing_file_is_kept_without_force(quick: Path, folder: Path) -> None:
    assert start("train", str(folder), "--epochs", "1").exit_code == 0
    again = start("train", str(folder), "--epochs", "1")
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert start("train", str(folder), "--epochs", "1", "--force").exit_code == 0


def test_bad_input_is_named_and_ends_with_2(quick: Path, folder: Path) -> None:
    (folder / "Red" / "0.png").write_bytes(b"no picture")
    result = start("train", str(folder))
    assert result.exit_code == 2
    assert "0.png" in result.stderr
    assert not (quick / "classifiers" / "miniature.safetensors").exists()
    assert start("train", "--images", "1").exit_code == 2
    assert start("train", "--network", "vgg").exit_code == 2
    assert start("test", "nowhere").exit_code == 2


def test_without_a_network_resnet18_says_what_to_do(
    quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    result = start("train", "--network", "resnet18", "--json")
    assert result.exit_code == 2
    assert "--weights FILE, or --network small" in result.stderr
    assert result.stdout == ""


def test_imagenets_classifier_is_written_and_loads(home: Path) -> None:
    torch.manual_seed(0)
    torch.save(resnet50(weights=None).state_dict(), "weights.pth")
    result = start("imagenet", "weights.pth", "--out", "objects.safetensors")
    assert result.exit_code == 0, result.stderr
    assert "1000 (tench, goldfish, great white shark, ...)" in result.stdout
    assert "church" in load_classifier(Path("objects.safetensors")).labels
    assert start("imagenet", "weights.pth", "--out", "objects.safetensors").exit_code == 2
    assert not home.exists()  # no registry is needed for it
