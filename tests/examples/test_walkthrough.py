from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from PIL import Image

from tests.worlds import Worlds

SCRIPT = Path(__file__).parents[2] / "examples" / "walkthrough.py"


def test_the_walkthrough_erases_restores_evaluates_and_draws(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    worlds: Worlds,
) -> None:
    monkeypatch.chdir(tmp_path)
    worlds.empty(tmp_path / "registry")
    options = ["--out", str(tmp_path), "--images", "2", "--steps", "1"]
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    shown = capsys.readouterr().out
    assert "Caravaggio: erased (version 1)" in shown
    assert "Van Gogh: generates" in shown
    assert "released model.safetensors, digest " in shown
    for name in ("samples", "separability", "paraphrases", "scene"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 100
    assert (tmp_path / "model.safetensors.recipe.json").is_file()
