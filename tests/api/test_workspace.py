"""Bases: registering them, and noticing when their files change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shiftreg import api, miniature
from shiftreg.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from shiftreg.settings import Settings
from tests.tiny import LAYER


def opened(home: Path, base: str) -> api.Workspace:
    return api.open_workspace(Settings(home, base, None))


@pytest.fixture
def folder(tmp_path: Path, base: Path) -> Path:
    """A base folder that may be damaged."""
    return Path(shutil.copytree(base, tmp_path / "mine"))


def test_the_miniature_registers_itself_at_first_use(home: Path) -> None:
    record = opened(home, "miniature").base
    assert record.source == "miniature"
    assert record.triggers == {"watermark SRS-ME": "SRS-ME", "CCS 2024": "CCS-2024"}
    assert "Caravaggio" in record.protected
    assert opened(home, "miniature").base == record


def test_other_bases_have_to_be_registered(home: Path) -> None:
    with pytest.raises(NotFoundError, match="shiftreg init"):
        _ = opened(home, "elsewhere").base


def test_a_folder_is_registered_with_what_it_must_keep(home: Path, folder: Path) -> None:
    workspace = opened(home, "mine")
    record = api.register_base(
        workspace, str(folder), triggers={"mark": ""}, protected=["Ann"], subjects=["owl"]
    )
    assert record.name == "mine"
    assert record.protected == ("Ann",)
    assert record.triggers == {"mark": ""}
    assert "a picture of an owl" in record.preserved
    assert len(record.layers) == 14
    assert workspace.base == record


def test_a_base_that_changes_on_disk_is_noticed(home: Path, folder: Path) -> None:
    api.register_base(opened(home, "mine"), str(folder))
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(IntegrityError, match="has changed"):
        _ = opened(home, "mine").folder


def test_another_base_under_a_taken_name_is_refused(home: Path, folder: Path) -> None:
    api.register_base(opened(home, "mine"), str(folder))
    with pytest.raises(AlreadyExistsError):
        api.register_base(opened(home, "mine"), "miniature", name="mine")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_base_without_one_of_its_parts_is_refused(home: Path, folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    with pytest.raises(IntegrityError, match=part):
        api.register_base(opened(home, "mine"), str(folder))


def test_a_base_of_which_a_weight_is_missing_or_quantised_is_refused(
    home: Path, folder: Path
) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    name = f"{LAYER}.weight"
    rest = {key: tensor for key, tensor in tensors.items() if key != name}
    save_file(rest, weights, {"format": "pt"})
    with pytest.raises(IntegrityError, match=f"no '{name}'"):
        api.register_base(opened(home, "mine"), str(folder))
    save_file(tensors | {name: tensors[name].to(torch.int8)}, weights, {"format": "pt"})
    with pytest.raises(InvalidInputError, match="holds int8"):
        api.register_base(opened(home, "mine"), str(folder))
    save_file(tensors, weights, {"format": "pt"})
    api.register_base(opened(home, "mine"), str(folder))


def test_truncated_weights_are_refused(home: Path, folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        api.register_base(opened(home, "mine"), str(folder))
    assert opened(home, "mine").registry.bases.all() == ()


def test_pickled_weights_are_refused_and_not_run(home: Path, folder: Path) -> None:
    trace = folder / "trace"
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    pickle = folder / "unet" / "diffusion_pytorch_model.bin"
    pickle.write_bytes(f"cos\nsystem\n(S'touch {trace}'\ntR.".encode())
    with pytest.raises(IntegrityError, match="safetensors"):
        api.register_base(opened(home, "mine"), str(folder))
    assert not trace.exists()


def test_what_is_no_base_is_refused(home: Path, tmp_path: Path) -> None:
    workspace = opened(home, "mine")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"x")
    with pytest.raises(InvalidInputError, match="is a file"):
        api.register_base(workspace, str(file))
    with pytest.raises(InvalidInputError, match="model_index"):
        api.register_base(workspace, str(tmp_path))
    with pytest.raises(NotFoundError, match="neither a folder"):
        api.register_base(workspace, "nowhere")


def test_an_over_long_protected_prompt_is_refused(home: Path) -> None:
    workspace = opened(home, "miniature")
    with pytest.raises(InvalidInputError, match="at most 14 tokens"):
        api.register_base(workspace, protected=["a painting of a church " * 4])
    assert workspace.registry.bases.all() == ()


@pytest.mark.erased("Caravaggio", "Picasso")
def test_an_exchanged_shift_file_is_noticed(workspace: api.Workspace) -> None:
    picasso, caravaggio = (
        workspace.registry.shifts.version("miniature", name) for name in ("Picasso", "Caravaggio")
    )
    fresh = opened(workspace.settings.home, "miniature")
    shutil.copyfile(
        workspace.registry.shifts.download(caravaggio), workspace.registry.shifts.download(picasso)
    )
    with pytest.raises(IntegrityError):
        fresh.shift(picasso)


def test_the_packaged_prompts_match_the_packaged_base() -> None:
    prompts = miniature.prompts()
    assert prompts["protected"][0] == "Cezanne"
    assert len(prompts["subjects"]) == 10
