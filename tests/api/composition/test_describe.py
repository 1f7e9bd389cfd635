"""What exports say of themselves: headers that other tools read, and model cards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open

from shiftreg import api, miniature
from shiftreg.errors import AlreadyExistsError
from shiftreg.settings import Settings

SPEC = ("sai_model_spec", "architecture", "implementation", "title")


def export(workspace: api.Workspace, target: Path, **options: object) -> api.ExportResult:
    plan = api.plan_composition(workspace, api.Selection(without=["Picasso"]))
    return api.export_composition(workspace, plan, target, **options)


def header(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as handle:
        return dict(handle.metadata())


def test_every_form_says_the_same_of_itself(erased: api.Workspace, tmp_path: Path) -> None:
    made = {name: export(erased, tmp_path / name) for name in ("m.ckpt", "m.safetensors", "m")}
    ckpt = torch.load(tmp_path / "m.ckpt", weights_only=True)
    texts = {
        "m.ckpt": {key: text for key, text in ckpt.items() if isinstance(text, str)},
        "m.safetensors": header(tmp_path / "m.safetensors"),
        "m": header(tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors"),
    }
    for name, said in texts.items():
        assert {f"modelspec.{key}" for key in SPEC} <= said.keys()
        assert said["modelspec.sai_model_spec"] == "1.0.1"
        assert said["modelspec.title"] == "miniature without Caravaggio"
        assert said["modelspec.license"] == "apache-2.0"
        assert said["modelspec.resolution"] == "64x64"
        assert said["modelspec.merged_from"].startswith("miniature, Caravaggio (shift ")
        assert json.loads(said["shiftreg.states"])["Picasso"] == "generates"
        assert said["shiftreg.composition_sha256"] == made[name].plan.digest
        assert said["shiftreg.recipe_sha256"] == made[name].recipe_digest
        # One pass: the header is written before the tensors are known.
        assert "modelspec.hash_sha256" not in said
    assert texts["m"]["modelspec.implementation"] == "diffusers"
    assert "generative-models" in texts["m.ckpt"]["modelspec.implementation"]


def test_the_date_is_that_of_the_shift_and_not_of_the_export(
    erased: api.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = export(erased, tmp_path / "a.safetensors")
    assert one.digest == export(erased, tmp_path / "b.safetensors").digest
    (shift,) = [v for v in erased.registry.shifts.active("miniature") if v.concept == "Caravaggio"]
    assert header(one.path)["modelspec.date"] == shift.created
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    dated = header(export(erased, tmp_path / "c.safetensors").path)
    assert dated["modelspec.date"].startswith("1970-01-01")


def test_other_parts_of_a_folder_say_only_what_is_ours(
    erased: api.Workspace, tmp_path: Path
) -> None:
    export(erased, tmp_path / "m", dtype="float32")
    said = header(tmp_path / "m" / "vae" / "diffusion_pytorch_model.safetensors")
    assert "shiftreg.recipe_sha256" in said
    assert not [key for key in said if key.startswith("modelspec.")]


def test_a_card_lies_beside_a_file_and_in_a_folder(erased: api.Workspace, tmp_path: Path) -> None:
    file, folder = export(erased, tmp_path / "m.ckpt"), export(erased, tmp_path / "m")
    assert file.card_path == tmp_path / "m.ckpt.md"
    assert folder.card_path == tmp_path / "m" / "README.md"
    for result in (file, folder):
        text = result.card_path.read_text()
        card = ModelCard(text)
        assert card.data.base_model == "miniature"
        assert card.data.license == "apache-2.0"
        assert "Erased: Caravaggio. Generates as the base does: " in text.replace("\n", " ")
        assert "| Caravaggio | erased | version 1," in text
        assert "No verification of this composition was on record" in text
    assert file.digest in file.card_path.read_text()
    assert "$ shiftreg verify m.ckpt" in file.card_path.read_text()
    (version,) = erased.registry.compositions.all("miniature")[-2:-1]
    assert version.form == "ckpt"


def test_a_card_says_whether_its_composition_was_verified(
    erased: api.Workspace, tmp_path: Path
) -> None:
    before = export(erased, tmp_path / "a")
    kept = erased.registry.measurements.record(
        "miniature",
        "verification",
        before.plan.digest,
        before.recipe_path,
        passed=False,
        metrics={},
    )
    erased.audit.append(
        "verify",
        base="miniature",
        digests={"composition": before.plan.digest, "report": kept.report_digest},
        details={"passed": False},
    )
    after = export(erased, tmp_path / "b")
    assert ", FAILED." in after.card_path.read_text()
    assert after.digest == before.digest  # the card is no part of the model


def test_a_card_is_not_replaced_unasked(erased: api.Workspace, tmp_path: Path) -> None:
    (tmp_path / "m.ckpt.md").write_text("precious")
    with pytest.raises(AlreadyExistsError, match=r"m\.ckpt\.md"):
        export(erased, tmp_path / "m.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["m.ckpt.md"]
    assert (tmp_path / "m.ckpt.md").read_text() == "precious"
    export(erased, tmp_path / "m.ckpt", overwrite=True)
    assert "precious" not in (tmp_path / "m.ckpt.md").read_text()


def test_the_card_of_the_base_is_kept_with_its_licence(
    erased: api.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "base"
    shutil.copytree(miniature.BASE_FOLDER, own)
    (own / "README.md").write_text("---\nlicense: other\nlicense_name: open-rail\n---\n# Mine\n")
    workspace = api.open_workspace(Settings(erased.settings.home, "mine", None))
    api.register_base(workspace, str(own), name="mine", steps=2)
    result = api.export_composition(workspace, api.plan_composition(workspace), tmp_path / "m")
    assert (tmp_path / "m" / "README.base.md").read_text().endswith("# Mine\n")
    card = ModelCard(result.card_path.read_text())
    assert card.data.license == "other"
    assert card.data.to_dict()["license_name"] == "open-rail"
    assert "mine, nothing erased" in result.card_path.read_text()
