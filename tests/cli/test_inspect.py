"""``shiftreg inspect``: what it prints, and its exit codes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from shiftreg import api, miniature
from shiftreg.api.inspection.describe import InspectedShift
from shiftreg.api.inspection.inspect import Inspection
from shiftreg_cli import inspect
from shiftreg_cli.main import app

Draw = Callable[..., str]
DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def result(tmp_path: Path) -> Inspection:
    """A file that holds a shift as registered, one at half its strength, and something else."""
    return Inspection(
        file=tmp_path / "model.ckpt",
        form="checkpoint",
        digest=DIGEST,
        base="miniature",
        dtype="float16",
        shifts=(
            InspectedShift("Caravaggio", 2, DIGEST, "closed-form", 1.0, 0.9999, 1.0001, ()),
            InspectedShift("Picasso", 1, DIGEST, "srs-me", 0.5, 0.49, 0.51, ("Picasso@2 at 0.51",)),
        ),
        states={"Caravaggio": "erased", "Cezanne": "unknown", "Picasso": "weakened"},
        explained=0.87,
        rounding=4.9e-8,
        unexplained=0.13,
        exact=False,
        disturbed=("mid.to_k",),
        elsewhere=tuple(f"conv_{number}" for number in range(7)),
        statements=(
            "Caravaggio: erased (version 2, strength 1.00)",
            "Cezanne: not known (no registered shift of it is inside)",
            "Picasso: weakened (version 1, strength 0.50)",
        ),
        warnings=("Picasso@1 is inside at strength 0.5.",),
        verdict="13% of the difference from base 'miniature' is unexplained.",
        passed=False,
    )


def start(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["inspect", *arguments], env={"COLUMNS": "200"})


def answer(monkeypatch: pytest.MonkeyPatch, result: Inspection) -> list[Path]:
    """Puts a result in the place of the use case, and keeps which files it was asked about."""
    asked: list[Path] = []

    def inspect_file(workspace: object, file: Path, *, observe: object) -> Inspection:
        asked.append(file)
        return result

    monkeypatch.setattr(api, "open_workspace", lambda settings, **_: None)
    monkeypatch.setattr(api, "inspect_file", inspect_file)
    return asked


def test_every_concept_shift_and_remainder_is_shown_and_the_verdict_comes_last(
    result: Inspection, draw: Draw
) -> None:
    lines = draw(inspect.render_inspection(result)).splitlines()
    words = [" ".join(line.split()) for line in lines]
    assert words[:3] == list(result.statements)
    assert words[-1] == result.verdict
    assert "Picasso@1 srs-me 0123456789ab 0.5000 0.4900 to 0.5100 Picasso@2 at 0.51" in words
    assert "difference 87.0% shifts, 4.9e-06% rounding, 13.0% unexplained" in words
    assert "changed with the shifts mid.to_k" in words
    assert "changed elsewhere conv_0, conv_1, conv_2, conv_3, conv_4, and 2 more" in words
    assert "Note: Picasso@1 is inside at strength 0.5." in words


def test_a_file_of_no_known_base_has_no_shares(result: Inspection, draw: Draw) -> None:
    unknown = replace(result, base=None, shifts=(), states={}, statements=(), form="")
    text = draw(inspect.render_inspection(unknown))
    assert "unknown" in text
    assert "rounding" not in text


def test_names_cannot_command_the_terminal(result: Inspection, draw: Draw) -> None:
    evil = replace(
        result,
        shifts=(replace(result.shifts[0], concept="\x1b[2Jx"),),
        elsewhere=("\x1b[2Jy",),
        statements=("\x1b[2Jz: generates",) * 3,
    )
    assert "\x1b[2J" not in draw(inspect.render_inspection(evil))


def test_the_exit_code_says_whether_all_is_explained(
    monkeypatch: pytest.MonkeyPatch, home: Path, result: Inspection
) -> None:
    asked = answer(monkeypatch, result)
    failed = start("model.ckpt")
    assert failed.exit_code == 1
    assert "unexplained" in failed.stdout
    assert asked == [Path("model.ckpt")]
    answer(monkeypatch, replace(result, passed=True))
    assert start("model.ckpt").exit_code == 0


def test_json_is_one_document_with_everything(
    monkeypatch: pytest.MonkeyPatch, home: Path, result: Inspection
) -> None:
    answer(monkeypatch, result)
    done = start("model.ckpt", "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["shifts"][1]["strength"] == 0.5
    assert document["states"]["Cezanne"] == "unknown"
    assert document["passed"] is False


def test_real_files_end_with_their_code(
    home: Path, database: Path, base: Path, tmp_path: Path
) -> None:
    home.mkdir()
    shutil.copyfile(database, home / "registry.db")
    where = ("--home", str(home))
    itself = start(str(miniature.BASE_FOLDER), *where, "--json")
    assert itself.exit_code == 0, itself.stderr
    assert json.loads(itself.stdout)["base"] == "miniature"
    foreign = start(str(base), *where)
    assert foreign.exit_code == 1
    assert "base is not known" in foreign.stdout
    weights = next((miniature.BASE_FOLDER / "unet").glob("*.safetensors"))
    (tmp_path / "half.safetensors").write_bytes(weights.read_bytes()[:100_000])
    trace = tmp_path / "trace"
    (tmp_path / "code.ckpt").write_bytes(f"cos\nsystem\n(S'touch {trace}'\ntR.".encode())
    torch.save({"state_dict": {}}, tmp_path / "empty.ckpt")
    for name in ("half.safetensors", "code.ckpt", "empty.ckpt", "missing.ckpt"):
        refused = start(str(tmp_path / name), *where)
        assert refused.exit_code == 2, refused.stdout
        assert refused.stderr.startswith("Error: ")
        assert refused.stdout == ""
    assert not trace.exists()
