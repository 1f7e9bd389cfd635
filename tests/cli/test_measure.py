"""The command ``measure``: what it shows, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from shiftreg import miniature
from shiftreg.api.measurement.measure import FolderMeasurement
from shiftreg.api.measurement.metrics import FolderScores
from shiftreg.api.values import Estimate
from shiftreg.evaluation.frechet import WEIGHTS_VARIABLE
from shiftreg_cli.main import app
from shiftreg_cli.measure import render_measurements
from tests.worlds import Worlds


@pytest.fixture(autouse=True)
def _surroundings(
    home: Path, worlds: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFTREG_HOME", str(worlds.empty(home)))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three images and darker ones, the first three with prompts."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for name, some in (("bright", images), ("dark", images // 2)):
        (tmp_path / name).mkdir()
        for i, image in enumerate(some):
            Image.fromarray(image).save(tmp_path / name / f"{i}_0.png")
    rows = [f"{i}_0.png,{prompt}" for i, prompt in enumerate(("Picasso", "a tree", "Van Gogh"))]
    (tmp_path / "bright" / "metadata.csv").write_text("\n".join(["file_name,prompt", *rows]))
    return tmp_path / "bright", tmp_path / "dark"


def start(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["measure", *map(str, arguments)])


def test_every_metric_has_a_row_and_every_folder_a_column(folders: tuple[Path, Path]) -> None:
    result = start(*folders, "--classifier", miniature.STYLE_CLASSIFIER)
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    for part in (
        "bright",
        "images 3 3, paired",
        "LPIPS 0.",
        "style distance ",
        "Fréchet distance, AlexNet ",
        "shows what is asked for ",
        "Van Gogh ",
        "classifier styles.safetensors",
        "Note: FID is skipped: no Inception weights",
        "1 of 3 images of",
    ):
        assert part in words
    assert "CLIP" not in words
    assert "nudity" not in words


def test_json_holds_a_comparison_a_folder(folders: tuple[Path, Path]) -> None:
    result = start(folders[0], folders[1], folders[0], "--json")
    dark, same = json.loads(result.stdout)["items"]
    assert dark["lpips"]["value"] > same["lpips"]["value"] == 0
    assert dark["lpips"]["count"] == 3
    assert dark["fid"] is None
    assert dark["other"]["folder"] == str(folders[1])
    assert dark["reference"]["accuracy"] is None
    assert dark["notes"][0].startswith("FID is skipped")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bright"], "'bright' is compared with nothing. Name another folder, too"),
        (["bright", "dark", "--inception", "none.pth"], "no Inception weights 'none.pth'"),
    ],
)
def test_what_cannot_be_measured_is_bad_input(
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folders[0].parent)
    result = start(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""


def show(found: FolderMeasurement) -> str:
    console = Console(width=120, highlight=False)
    with console.capture() as capture:
        console.print(render_measurements([found]))
    return capture.get()


@pytest.fixture
def found() -> FolderMeasurement:
    """A comparison in which everything was measured."""
    share, value = Estimate(0.5, 0.25, 0.75, 9), Estimate(25.0, 24.5, 25.5, 9)
    scores = FolderScores(Path("base"), 9, value, share, share, {"Picasso": share})
    return FolderMeasurement(
        reference=scores,
        other=replace(scores, folder=Path("evil\x1b[2J"), per_label={}),
        paired=True,
        lpips=Estimate(0.125, 0.1, 0.15, 9),
        style=Estimate(0.5, 0.4, 0.6, 9),
        frechet=3.25,
        fid=40.5,
        classifier="classifier \x1b[31m",
        notes=("Beware of \x1b[31m.",),
    )


def test_values_stand_with_their_intervals(found: FolderMeasurement) -> None:
    words = " ".join(show(found).split())
    assert "LPIPS 0.125 (0.1 to 0.15)" in words
    assert "FID 40.5" in words
    assert "CLIP score 25 (24.5 to 25.5) 25 (24.5 to 25.5)" in words
    assert "nudity 50% (25-75%) 50% (25-75%)" in words
    assert "Picasso 50% (25-75%)" in words


def test_of_one_image_no_interval_is_shown(found: FolderMeasurement) -> None:
    shown = show(replace(found, lpips=Estimate(0.125, 0.125, 0.125, 1)))
    assert "LPIPS 0.125 style" in " ".join(shown.split())


def test_names_that_a_terminal_would_obey_are_spelled_out(found: FolderMeasurement) -> None:
    shown = show(found)
    assert "\x1b" not in shown
    assert r"evil\x1b[2J" in shown
    assert r"Beware of \x1b[31m." in shown
