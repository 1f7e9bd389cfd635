"""Comparing folders of images: made of numbers here, nothing is generated."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from shiftreg import miniature
from shiftreg.api import Workspace, measure_folders, open_workspace
from shiftreg.api.measurement import folders as image_folders
from shiftreg.api.measurement.folders import open_images
from shiftreg.api.measurement.metrics import named_labels
from shiftreg.api.values import Progress
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.evaluation import intervals
from shiftreg.evaluation.classifier import load_classifier
from shiftreg.evaluation.clip import clip_scores
from shiftreg.evaluation.frechet import (
    WEIGHTS_VARIABLE,
    alexnet_features,
    frechet_distance,
    load_inception,
)
from shiftreg.evaluation.perceptual import lpips_distances
from shiftreg.evaluation.style import style_distances
from shiftreg.pipelines.clip import load_clip
from shiftreg.settings import Settings

SIDE = 32


@pytest.fixture(autouse=True)
def _no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own is found."""
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def place(home: Path) -> Workspace:
    """A workspace in which no base is registered."""
    return open_workspace(Settings(home, "miniature", None))


def random_images(count: int = 6, seed: int = 0, size: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def write(
    folder: Path, images: np.ndarray, prompts: Sequence[str] = (), names: Sequence[str] = ()
) -> Path:
    """A folder of images, as generating leaves it; with prompts, they are noted."""
    names = names or [f"{i}_0.png" for i in range(len(images))]
    for name, image in zip(names, images, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    if prompts:
        pairs = zip(names, prompts, strict=True)
        note(folder, {name: (prompt, i) for i, (name, prompt) in enumerate(pairs)})
    return folder


def note(folder: Path, rows: Mapping[str, tuple[str, int]]) -> None:
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "prompt", "evaluation_seed"])
        writer.writerows([name, prompt, seed] for name, (prompt, seed) in rows.items())


def sign(folder: Path, names: Sequence[str], base: str, digest: str) -> Path:
    """Makes a folder look like one that was generated."""
    one = {"composition": "", "digest": "0" * 64, "tools": {}}
    manifest = {
        "format": "shiftreg-generate-1",
        "base": {"name": base, "digest": digest},
        "prompts": {"file": "prompts.csv", "digest": "1" * 64, "cases": 6},
        "steps": 2,
        "guidance": 3.0,
        "count": 1,
        "by_prompt": False,
        "folders": dict.fromkeys(names, one),
    }
    folder.mkdir(exist_ok=True)
    (folder / "generate.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Six images, and the same ones a little darker."""
    images = random_images()
    return write(tmp_path / "one", images), write(tmp_path / "two", images // 4 * 3)


def test_every_distance_is_that_of_the_whole_sets(
    place: Workspace, pair: tuple[Path, Path]
) -> None:
    one, two = random_images(), random_images() // 4 * 3
    (found,) = measure_folders(place, pair[0], [pair[1]])
    assert found.paired
    assert found.lpips == intervals.mean(lpips_distances(one, two))
    assert found.style == intervals.mean(style_distances(one, two))
    expected = frechet_distance(alexnet_features(one), alexnet_features(two))
    assert found.frechet == pytest.approx(expected)
    assert found.frechet > 0
    assert (found.reference.folder, found.other.folder) == pair
    assert (found.reference.images, found.other.images) == (6, 6)


def test_in_whatever_portions_images_are_read_the_result_is_the_same(
    place: Workspace, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = measure_folders(place, pair[0], [pair[1]])
    monkeypatch.setattr(image_folders, "_LARGEST_BATCH", 4)
    (split,) = measure_folders(place, pair[0], [pair[1]])
    assert split.lpips is not None
    assert whole.lpips is not None
    assert split.lpips.count == 6
    assert split.lpips.value == pytest.approx(whole.lpips.value)
    assert split.frechet == pytest.approx(whole.frechet)


def test_large_images_are_read_few_at_a_time(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(40)]
    folder = write(tmp_path, np.zeros((40, 512, 512, 3), np.uint8), names=names)
    batches = list(open_images(folder).batches())
    assert [len(batch) for batch in batches] == [8] * 5
    assert sorted(name for batch in batches for name in batch) == sorted(names)


def test_equal_folders_are_no_way_apart(place: Workspace, pair: tuple[Path, Path]) -> None:
    (found,) = measure_folders(place, pair[0], [pair[0]])
    assert found.lpips == found.style == intervals.Estimate(0, 0, 0, 6)
    assert found.frechet == pytest.approx(0, abs=1e-9)


def test_what_is_not_at_hand_is_left_out_with_a_note(
    place: Workspace, pair: tuple[Path, Path]
) -> None:
    (found,) = measure_folders(place, pair[0], [pair[1]])
    assert (found.fid, found.classifier) == (None, "")
    for scores in (found.reference, found.other):
        assert (scores.clip, scores.nudity, scores.accuracy, scores.per_label) == (
            None,
            None,
            None,
            {},
        )
    assert [note.partition(":")[0] for note in found.notes] == [
        "FID is skipped",
        "Accuracy is skipped",
    ]


def test_no_base_is_registered_or_loaded(place: Workspace, pair: tuple[Path, Path]) -> None:
    style = miniature.STYLE_CLASSIFIER
    note(pair[0], {"0_0.png": ("Picasso", 0)})
    measure_folders(place, pair[0], [pair[1]], classifier=style)
    with pytest.raises(NotFoundError):
        place.registry.bases.read("miniature")
    assert not {"base", "pipeline", "folder"} & set(vars(place))


def test_sets_of_other_names_are_compared_as_sets(place: Workspace, tmp_path: Path) -> None:
    one = write(tmp_path / "one", random_images(5))
    names = ["a.png", "b.png", "c.png", "d.png"]
    two = write(tmp_path / "two", random_images(4, seed=1, size=48), names=names)
    (found,) = measure_folders(place, one, [two])
    assert not found.paired
    assert (found.lpips, found.style) == (None, None)
    expected = frechet_distance(
        alexnet_features(random_images(5)), alexnet_features(random_images(4, seed=1, size=48))
    )
    assert found.frechet == pytest.approx(expected)
    assert any("share no file name" in sentence for sentence in found.notes)


def test_missing_counterparts_are_counted_and_the_first_is_named(
    place: Workspace, pair: tuple[Path, Path]
) -> None:
    for name in ("2_0.png", "4_0.png"):
        (pair[1] / name).unlink()
    for sides in (pair, pair[::-1]):
        with pytest.raises(InvalidInputError, match=r"2 of 6 images of .*one.*first.*'2_0\.png'"):
            measure_folders(place, sides[0], [sides[1]])


def test_one_image_has_pairs_and_no_sets(place: Workspace, tmp_path: Path) -> None:
    one, two = (write(tmp_path / name, random_images(1, seed=i)) for i, name in enumerate("ab"))
    (found,) = measure_folders(place, one, [two])
    assert found.lpips is not None
    assert (found.lpips.count, found.frechet) == (1, None)
    assert any("take two images" in sentence for sentence in found.notes)


class TestBadFolders:
    def test_folders_that_are_not_there_or_empty(
        self, place: Workspace, pair: tuple[Path, Path], tmp_path: Path
    ) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(NotFoundError, match="nowhere"):
            measure_folders(place, tmp_path / "nowhere")
        with pytest.raises(NotFoundError, match="nowhere"):
            measure_folders(place, pair[0], [tmp_path / "nowhere"])
        with pytest.raises(InvalidInputError, match="holds no PNG or JPEG"):
            measure_folders(place, pair[0], [tmp_path / "empty"])
        with pytest.raises(InvalidInputError, match="is a file"):
            measure_folders(place, pair[0], [pair[0] / "0_0.png"])

    def test_damaged_images(self, place: Workspace, pair: tuple[Path, Path]) -> None:
        last = pair[1] / "5_0.png"
        content = last.read_bytes()
        last.write_bytes(content[: len(content) // 2])
        with pytest.raises(IntegrityError, match=r"two/5_0\.png' is damaged"):
            measure_folders(place, pair[0], [pair[1]])
        last.write_text("no image")
        with pytest.raises(IntegrityError, match=r"two/5_0\.png' is no PNG"):
            measure_folders(place, pair[0], [pair[1]])

    def test_different_sizes_within_a_folder_and_between_pairs(
        self, place: Workspace, pair: tuple[Path, Path], tmp_path: Path
    ) -> None:
        larger = write(tmp_path / "larger", random_images(size=40))
        with pytest.raises(InvalidInputError, match=r"32 x 32 pixels.*larger' 40 x 40.*Resize"):
            measure_folders(place, pair[0], [larger])
        write(pair[1], random_images(1, size=40), names=["5_0.png"])
        with pytest.raises(InvalidInputError, match=r"32 x 32 pixels, and .*5_0\.png' 40 x 40"):
            measure_folders(place, pair[0], [pair[1]])

    def test_images_that_are_too_small(self, place: Workspace, tmp_path: Path) -> None:
        one, two = (write(tmp_path / name, random_images(2, size=30)) for name in "ab")
        with pytest.raises(InvalidInputError, match=r"31 x 31 pixels.*have 30 x 30"):
            measure_folders(place, one, [two])

    def test_a_table_that_is_not_csv(self, place: Workspace, pair: tuple[Path, Path]) -> None:
        table = pair[1] / "metadata.csv"
        for content in (b'file_name,prompt\n0_0.png,"never closed\n', b"file_name\n\xff\n"):
            table.write_bytes(content)
            with pytest.raises(
                InvalidInputError, match=r"metadata\.csv' is not a CSV file in UTF-8"
            ):
                measure_folders(place, pair[0], [pair[1]])


class TestGenerated:
    def test_the_base_is_compared_with_every_composition(
        self, place: Workspace, tmp_path: Path
    ) -> None:
        names = ["base", "active", "without-picasso"]
        generated = sign(tmp_path / "generated", names, "miniature", "0" * 64)
        for seed, name in enumerate(names):
            write(generated / name, random_images(3, seed))
        found = measure_folders(place, generated)
        assert [one.reference.folder for one in found] == [generated / "base"] * 2
        assert [one.other.folder for one in found] == [
            generated / "active",
            generated / "without-picasso",
        ]
        assert found[0].reference == found[1].reference
        assert found[0].lpips != found[1].lpips

    @pytest.mark.parametrize("names", [["base"], ["active", "without-picasso"]])
    def test_one_that_lacks_the_base_or_compositions_is_refused(
        self, place: Workspace, tmp_path: Path, names: list[str]
    ) -> None:
        generated = sign(tmp_path / "generated", names, "miniature", "0" * 64)
        with pytest.raises(InvalidInputError, match=f"holds {', '.join(names)}"):
            measure_folders(place, generated)

    def test_any_other_folder_needs_one_to_be_compared_with(
        self, place: Workspace, pair: tuple[Path, Path]
    ) -> None:
        with pytest.raises(InvalidInputError, match="compared with nothing"):
            measure_folders(place, pair[0])

    def test_a_folder_of_compositions_is_not_one_folder_of_images(
        self, place: Workspace, pair: tuple[Path, Path], tmp_path: Path
    ) -> None:
        generated = sign(tmp_path / "generated", ["base"], "miniature", "0" * 64)
        write(generated / "base", random_images(2))
        with pytest.raises(InvalidInputError, match="subfolders are base: give one"):
            measure_folders(place, pair[0], [generated])

    def test_images_in_a_subfolder_a_prompt_are_found_by_their_table(
        self, place: Workspace, tmp_path: Path
    ) -> None:
        names = ["a-house/0_0.png", "a-tree/1_0.png"]
        one, two = (
            write(tmp_path / name, random_images(2, i), ["a house", "a tree"], names)
            for i, name in enumerate("ab")
        )
        write(one, random_images(1), names=["unlisted/9_0.png"])
        (found,) = measure_folders(place, one, [two])
        assert (found.paired, found.other.images) == (True, 2)


class TestAccuracy:
    @pytest.fixture
    def answers(self) -> list[str]:
        """What the miniature's classifier takes the six images for."""
        classifier = load_classifier(miniature.STYLE_CLASSIFIER)
        return [classifier.labels[index] for index in classifier.predict(random_images())]

    @pytest.fixture
    def prompts(self, answers: list[str]) -> list[str]:
        """Four that ask for what the classifier sees, one for something else, one for nothing."""
        other = "Caravaggio" if answers[4] == "Picasso" else "Picasso"
        return [*(f"a tree by {answer}" for answer in answers[:4]), other, "a tree"]

    def test_it_is_the_share_of_images_that_show_what_their_prompt_names(
        self, place: Workspace, tmp_path: Path, answers: list[str], prompts: list[str]
    ) -> None:
        one = write(tmp_path / "one", random_images(), prompts)
        two = write(tmp_path / "two", np.roll(random_images(), 1, axis=0), prompts)
        (found,) = measure_folders(place, one, [two], classifier=miniature.STYLE_CLASSIFIER)
        assert found.classifier == miniature.STYLE_CLASSIFIER.name
        assert found.reference.accuracy == intervals.rate(np.array([True] * 4 + [False]))
        asked = [*answers[:4], prompts[4]]
        assert set(found.reference.per_label) == set(asked)
        for label, share in found.reference.per_label.items():
            pairs = zip(asked, answers[:5], strict=True)
            hits = [label == answer for name, answer in pairs if name == label]
            assert share == intervals.rate(np.array(hits))
        turned = [a == b for a, b in zip(asked, [answers[5], *answers[:4]], strict=True)]
        assert found.other.accuracy == intervals.rate(np.array(turned))
        assert sum("1 of 6 images" in s and "not classified" in s for s in found.notes) == 2

    def test_images_of_the_same_names_have_the_same_prompts_if_none_are_noted(
        self, place: Workspace, pair: tuple[Path, Path], prompts: list[str]
    ) -> None:
        write(pair[0], random_images(), prompts)
        (found,) = measure_folders(place, pair[0], [pair[1]], classifier=miniature.STYLE_CLASSIFIER)
        assert found.other.accuracy is not None
        assert found.other.accuracy.count == 5

    def test_images_of_other_names_have_not(
        self, place: Workspace, tmp_path: Path, prompts: list[str]
    ) -> None:
        one = write(tmp_path / "one", random_images(), prompts)
        two = write(tmp_path / "two", random_images(2), names=["a.png", "b.png"])
        with pytest.raises(InvalidInputError, match=r"two' has no metadata\.csv.*file_name and"):
            measure_folders(place, one, [two], classifier=miniature.STYLE_CLASSIFIER)

    def test_prompts_that_name_nothing_the_classifier_knows_are_refused(
        self, place: Workspace, pair: tuple[Path, Path]
    ) -> None:
        write(pair[0], random_images(), ["a tree", "Picasso and Caravaggio"] * 3)
        with pytest.raises(InvalidInputError, match=r"No prompt of .*one'.*Cezanne, Van Gogh"):
            measure_folders(place, pair[0], [pair[1]], classifier=miniature.STYLE_CLASSIFIER)

    def test_the_base_that_generated_brings_its_classifier(
        self, workspace: Workspace, tmp_path: Path, prompts: list[str]
    ) -> None:
        names = ["base", "active"]
        generated = sign(tmp_path / "generated", names, "miniature", workspace.base.digest)
        for name in names:
            write(generated / name, random_images(), prompts)
        (found,) = measure_folders(workspace, generated)
        assert found.classifier == "the miniature's style classifier"
        assert found.reference.accuracy == intervals.rate(np.array([True] * 4 + [False]))
        assert "pipeline" not in vars(workspace)

    @pytest.mark.parametrize("known", [True, False])
    def test_a_base_that_is_not_registered_here_brings_none(
        self, place: Workspace, request: pytest.FixtureRequest, tmp_path: Path, known: bool
    ) -> None:
        if known:  # a base of the same name, of other weights
            place = request.getfixturevalue("workspace")
        generated = sign(tmp_path / "generated", ["base", "active"], "miniature", "ab" * 32)
        for name in ("base", "active"):
            write(generated / name, random_images(2), ["Picasso", "a tree"])
        (found,) = measure_folders(place, generated)
        assert found.reference.accuracy is None
        assert any("'miniature' abababababab, which generated" in note for note in found.notes)

    def test_images_of_unknown_origin_are_not_classified_unasked(
        self, workspace: Workspace, pair: tuple[Path, Path]
    ) -> None:
        write(pair[0], random_images(), ["Picasso"] * 6)
        (found,) = measure_folders(workspace, pair[0], [pair[1]])
        assert (found.classifier, found.reference.accuracy) == ("", None)
        assert any("not of shiftreg generate" in sentence for sentence in found.notes)

    @pytest.mark.parametrize(
        ("prompt", "label"),
        [
            ("Picasso", "Picasso"),
            (" van GOGH ", "Van Gogh"),
            ("a house by Van Gogh, at night", "Van Gogh"),
            ("a house by Van Goghs", None),
            ("Picasso as Van Gogh saw him", None),
            ("a house", None),
        ],
    )
    def test_a_label_is_a_prompt_or_the_only_one_that_it_mentions(
        self, tmp_path: Path, prompt: str, label: str | None
    ) -> None:
        folder = open_images(write(tmp_path / "one", random_images(1), [prompt]))
        found = named_labels(folder, load_classifier(miniature.STYLE_CLASSIFIER))
        assert found == ({} if label is None else {"0_0.png": label})


@pytest.fixture(scope="module")
def clip(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model of random weights."""
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    widths = {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 12}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    words = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            projection_dim=12,
            text_config=widths | layers | words,
            vision_config=widths | layers | {"image_size": 32, "patch_size": 8},
        )
    )
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


class TestClip:
    def test_it_is_measured_on_both_sides_of_images_whose_prompts_are_known(
        self, place: Workspace, pair: tuple[Path, Path], clip: Path
    ) -> None:
        pytest.importorskip("torchmetrics")
        prompts = ["a house", "a tree", "the sea"]
        note(pair[0], {f"{i}_0.png": (prompt, i) for i, prompt in enumerate(prompts)})
        (found,) = measure_folders(place, pair[0], [pair[1]], clip=clip)
        model = load_clip(clip)
        for scores, images in (
            (found.reference, random_images()),
            (found.other, random_images() // 4 * 3),
        ):
            assert scores.clip == intervals.mean(clip_scores(images[:3], prompts, model))
        assert sum("3 of 6 images" in s and "no CLIP score" in s for s in found.notes) == 2

    def test_without_prompts_it_is_refused(
        self, place: Workspace, pair: tuple[Path, Path], clip: Path
    ) -> None:
        with pytest.raises(InvalidInputError, match=r"one' has no metadata\.csv.*--clip"):
            measure_folders(place, pair[0], [pair[1]], clip=clip)

    def test_what_is_no_clip_model_is_refused(
        self, place: Workspace, pair: tuple[Path, Path], tmp_path: Path
    ) -> None:
        with pytest.raises(NotFoundError, match="nowhere"):
            measure_folders(place, pair[0], [pair[1]], clip=tmp_path / "nowhere")
        with pytest.raises(InvalidInputError, match="not a CLIP model"):
            measure_folders(place, pair[0], [pair[1]], clip=pair[0])


def test_nudity_is_measured_on_both_sides(place: Workspace, pair: tuple[Path, Path]) -> None:
    pytest.importorskip("nudenet")
    (found,) = measure_folders(place, pair[0], [pair[1]], nudity=True)
    nothing = intervals.rate(np.zeros(6, dtype=bool))
    assert found.reference.nudity == found.other.nudity == nothing


class TestFid:
    def test_weights_that_were_asked_for_must_exist(
        self, place: Workspace, pair: tuple[Path, Path], tmp_path: Path
    ) -> None:
        with pytest.raises(NotFoundError, match=r"nowhere\.pth"):
            measure_folders(place, pair[0], [pair[1]], inception=tmp_path / "nowhere.pth")

    def test_it_is_that_of_the_whole_sets_with_a_warning_about_small_ones(
        self,
        place: Workspace,
        pair: tuple[Path, Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        pytest.importorskip("torchmetrics")
        weights = tmp_path / "inception.pth"
        torch.save(random_inception(), weights)
        monkeypatch.setattr(image_folders, "_LARGEST_BATCH", 4)
        (found,) = measure_folders(place, pair[0], [pair[1]], inception=weights)
        features = load_inception(weights)
        sets = random_images(), random_images() // 4 * 3
        expected = frechet_distance(*map(features, sets))
        assert found.fid == pytest.approx(expected, rel=1e-3)
        assert any("FID of 6 images is biased" in sentence for sentence in found.notes)


def random_inception() -> dict[str, torch.Tensor]:
    """Random weights of FID's network, scaled so that signals reach its end."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Untrained(module.FeatureExtractorInceptionV3):  # type: ignore[misc, name-defined]
        def load_state_dict(self, *args: object, **kwargs: object) -> None:
            """Keeps the initial weights."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    torch.manual_seed(0)
    network = Untrained("inception-v3-compat", ["2048"], nothing)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    state: dict[str, torch.Tensor] = network.state_dict()
    return state


class TestTables:
    def test_other_prompts_and_seeds_under_the_same_names_are_noted(
        self, place: Workspace, pair: tuple[Path, Path]
    ) -> None:
        note(pair[0], {"1_0.png": ("a tree", 1), "2_0.png": ("a tree", 2), "3_0.png": ("a", 3)})
        note(pair[1], {"1_0.png": ("a tree", 1), "2_0.png": ("a tree", 9), "3_0.png": ("b", 3)})
        (found,) = measure_folders(place, pair[0], [pair[1]])
        assert found.lpips is not None
        (sentence,) = [note for note in found.notes if "another prompt or seed" in note]
        assert sentence.startswith("2 of 6 images")
        assert "'2_0.png'" in sentence

    def test_images_that_are_named_and_not_there_are_noted(
        self, place: Workspace, pair: tuple[Path, Path]
    ) -> None:
        note(pair[1], {"8_0.png": ("a tree", 1), "9_0.png": ("a tree", 2)})
        (found,) = measure_folders(place, pair[0], [pair[1]])
        assert any("names 2 missing images" in note for note in found.notes)

    def test_tables_about_other_things_say_nothing(
        self, place: Workspace, pair: tuple[Path, Path]
    ) -> None:
        (pair[0] / "metadata.csv").write_text("name,caption\n0_0.png,a tree\n")
        (pair[1] / "metadata.csv").write_text("\ufefffile_name,text\n0_0.png,a tree\n")
        (found,) = measure_folders(place, pair[0], [pair[1]])
        assert found.paired
        assert open_images(pair[1]).prompts == {}

    @pytest.mark.parametrize("name", ["../outside/0.png", "{folder}/outside/0.png"])
    def test_images_outside_of_the_folder_are_not_read(self, tmp_path: Path, name: str) -> None:
        write(tmp_path / "outside", random_images(1), names=["0.png"])
        (tmp_path / "inside").mkdir()
        note(tmp_path / "inside", {name.format(folder=tmp_path): ("a tree", 0)})
        with pytest.raises(InvalidInputError, match="holds no PNG or JPEG"):
            open_images(tmp_path / "inside")


def test_progress_is_told_in_images_up_to_the_end(
    place: Workspace, pair: tuple[Path, Path]
) -> None:
    told: list[Progress] = []
    measure_folders(place, pair[0], [pair[1]], observe=told.append)
    stages: dict[str, Any] = {one.stage: (one.done, one.total) for one in told}
    assert stages == {
        "measuring one": (6, 6),
        "measuring two": (6, 6),
        "comparing with two": (6, 6),
    }
