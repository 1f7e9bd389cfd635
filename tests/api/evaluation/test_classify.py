"""Classifiers of a base: generated, trained, selected, tested on folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from shiftreg import api
from shiftreg.api.evaluation.class_images import class_prompts
from shiftreg.api.evaluation.classifiers import find_classifier
from shiftreg.api.values import Progress
from shiftreg.checkpoints import file_digest
from shiftreg.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from shiftreg.evaluation.classifier import load_classifier


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten red and ten blue images, noisy."""
    rng = np.random.default_rng(0)
    for channel, name in ((0, "Red"), (2, "Blue")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            image = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
            image[:, :, channel] += 120
            Image.fromarray(image).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"


def test_a_base_generates_its_own_classifier_which_then_reads_its_images(
    workspace: api.Workspace,
) -> None:
    told: list[Progress] = []
    result = api.train_classifier(
        workspace, concepts=["picasso"], images=4, epochs=2, observe=told.append
    )
    assert result.labels == ("Picasso", "plain")
    assert result.counts == {"Picasso": 4, "plain": 4}
    assert result.images == 8
    assert result.accuracy.count == 2
    assert result.path == workspace.settings.home / "classifiers" / "miniature.safetensors"
    assert result.digest == file_digest(result.path)
    classifier = find_classifier(workspace)
    assert classifier is not None
    assert classifier.digest == result.digest
    assert classifier.labels == result.labels
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages == ["generating the classes", "training the classifier", "testing the classifier"]
    assert (told[0].total, told[-1].done) == (8, 1)


def test_the_training_is_in_the_audit_trail_and_leaves_no_images(
    workspace: api.Workspace,
) -> None:
    result = api.train_classifier(workspace, concepts=["Picasso"], images=2, epochs=1)
    event = workspace.audit.events()[-1]
    assert event.action == "train classifier"
    assert event.digests["classifier"] == result.digest
    unfinished = workspace.settings.home / "unfinished"
    assert list(unfinished.rglob("*.png")) == []


@pytest.mark.usefixtures("computed_anew")
def test_the_same_seed_gives_the_same_file(workspace: api.Workspace, tmp_path: Path) -> None:
    digests = [
        api.train_classifier(
            workspace, concepts=["Picasso"], images=2, epochs=1, seed=seed, out=tmp_path / name
        ).digest
        for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_an_interrupted_generation_is_continued(workspace: api.Workspace, tmp_path: Path) -> None:
    request: dict[str, Any] = {"concepts": ["Picasso"], "images": 15, "epochs": 1}

    def stop(progress: Progress) -> None:
        if progress.done < progress.total:
            raise KeyboardInterrupt

    out = tmp_path / "styles.safetensors"
    with pytest.raises(KeyboardInterrupt):
        api.train_classifier(workspace, **request, out=out, observe=stop)
    assert list(tmp_path.glob("*styles*")) == []
    kept = list((workspace.settings.home / "unfinished").rglob("*.png"))
    assert 0 < len(kept) < 30
    told: list[Progress] = []
    api.train_classifier(workspace, **request, out=out, observe=told.append)
    assert told[0].done == 30  # nothing but the rest was generated


def test_all_names_of_the_base_are_classes_even_those_that_are_erased(
    workspace: api.Workspace,
) -> None:
    api.erase(workspace, ["Monet"])
    prompts = class_prompts(workspace, (), 0)
    assert set(prompts) == {*workspace.base.protected, "Monet", "plain"}


def test_a_concept_is_generated_by_its_name_and_in_sentences(workspace: api.Workspace) -> None:
    prompts = class_prompts(workspace, ["Van Gogh"], 0)
    styles = prompts["Van Gogh"]
    assert styles[0] == styles[3] == "Van Gogh"
    assert len(set(styles)) > 30
    assert all("Van Gogh" in prompt for prompt in styles)
    assert set(prompts["plain"]) <= set(workspace.base.preserved)


def test_ordinary_images_and_styles_do_not_show_an_object_that_is_a_class(
    workspace: api.Workspace,
) -> None:
    prompts = class_prompts(workspace, ["church", "Van Gogh"], 0)
    assert "a photo of a church" in prompts["church"]
    assert not any("church" in prompt for name in ("plain", "Van Gogh") for prompt in prompts[name])


def test_classes_of_one_name_are_refused(workspace: api.Workspace) -> None:
    with pytest.raises(InvalidInputError, match="different names"):
        class_prompts(workspace, ["Plain"], 0)
    with pytest.raises(InvalidInputError, match="different names"):
        class_prompts(workspace, ["Monet", "monet"], 0)


def test_a_folder_trains_and_tests_a_classifier(
    workspace: api.Workspace, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "colours.safetensors"
    trained = api.train_classifier(workspace, folder, epochs=25, out=out)
    assert trained.labels == ("Blue", "Red")
    assert trained.accuracy.value == 1
    assert trained.source == str(folder)
    tested = api.test_classifier(workspace, folder, out)
    assert tested.accuracy.value == 1
    assert tested.counts == {"Blue": 10, "Red": 10}
    assert tested.confusion == {"Blue": {"Blue": 10}, "Red": {"Red": 10}}
    assert tested.digest == trained.digest


def test_class_folders_may_be_spelt_like_slugs(
    workspace: api.Workspace, folder: Path, tmp_path: Path
) -> None:
    (folder / "Red").rename(folder / "van-gogh")
    (folder / "Blue").rename(folder / "plain")
    tested = api.test_classifier(workspace, folder)  # the miniature's own
    assert set(tested.per_class) == {"Van Gogh", "plain"}
    assert tested.classifier == "the miniature's style classifier"
    (folder / "plain").rename(folder / "Monet")
    with pytest.raises(NotFoundError, match="'Monet'"):
        api.test_classifier(workspace, folder)


def test_resnet18_is_trained_on_weights_from_a_file(
    workspace: api.Workspace, folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    out = tmp_path / "colours.safetensors"
    result = api.train_classifier(
        workspace, folder, network="resnet18", weights=tmp_path / "resnet18.pth", out=out
    )
    assert result.network == load_classifier(out).network.architecture == "resnet18"
    assert result.accuracy.value == 1


def test_weights_that_cannot_be_had_are_missed_before_anything_is_generated(
    workspace: api.Workspace, tmp_path: Path
) -> None:
    told: list[Progress] = []
    with pytest.raises(NotFoundError, match="missing"):
        api.train_classifier(
            workspace, network="resnet18", weights=tmp_path / "missing.pth", observe=told.append
        )
    assert told == []


def test_an_existing_classifier_is_replaced_only_if_that_is_asked_for(
    workspace: api.Workspace, folder: Path
) -> None:
    first = api.train_classifier(workspace, folder, epochs=1)
    with pytest.raises(AlreadyExistsError):
        api.train_classifier(workspace, folder, epochs=1, seed=1)
    assert file_digest(first.path) == first.digest
    second = api.train_classifier(workspace, folder, epochs=1, seed=1, overwrite=True)
    assert second.digest != first.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 1}, "At least 2"),
        ({"concepts": ["Picasso"]}, "do not go with a folder"),
        ({"epochs": 0}, "at least 1 epoch"),
        ({"weights": Path("resnet18.pth")}, "from scratch"),
    ],
)
def test_requests_that_make_no_sense_are_refused_and_leave_no_file(
    workspace: api.Workspace, folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        api.train_classifier(workspace, folder, **options)
    assert find_classifier(workspace).name == "the miniature's style classifier"  # type: ignore[union-attr]


def test_folders_that_teach_nothing_are_refused(workspace: api.Workspace, folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="no subfolders"):
        api.train_classifier(workspace, folder / "Red")
    (folder / "Red" / "0.png").write_bytes(b"no image")
    with pytest.raises(IntegrityError, match=r"0\.png"):
        api.train_classifier(workspace, folder)
    for image in (folder / "Red").iterdir():
        image.unlink()
    with pytest.raises(InvalidInputError, match="Red"):
        api.train_classifier(workspace, folder)
    (folder / "Red").rmdir()
    with pytest.raises(InvalidInputError, match="two classes"):
        api.train_classifier(workspace, folder)


def test_weights_of_another_network_make_no_imagenet_classifier(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(InvalidInputError, match="resnet50"):
        api.imagenet_classifier(tmp_path / "weights.pth", tmp_path / "objects.safetensors")
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == ["weights.pth"]
