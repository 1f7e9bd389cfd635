from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "examples" / "walkthrough.py"


@pytest.mark.slow
def test_the_walkthrough_erases_restores_evaluates_and_draws(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--images", "2", "--steps", "2"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Caravaggio: erased (version 1)" in done.stdout
    assert "Van Gogh: generates" in done.stdout
    assert "released model.safetensors, digest " in done.stdout
    for name in ("samples", "separability", "paraphrases", "scene"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 100
    assert (tmp_path / "model.safetensors.recipe.json").is_file()
