"""Bases that come as one file, registered and worked with like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from shiftreg import api, miniature, pipelines
from shiftreg.api.values import Progress
from shiftreg.checkpoints import folder_digest
from shiftreg.errors import IncompatibleError, IntegrityError, InvalidInputError, NotFoundError
from shiftreg.miniature import BASE_FOLDER
from shiftreg.settings import Settings
from tests.whole import read_checkpoint, single_file_state


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature as a file of a training tool, with averaged weights that are other ones."""
    state = single_file_state(BASE_FOLDER, {})
    averaged = {
        "model_ema." + key.removeprefix("model.").replace(".", ""): tensor * 0.5
        for key, tensor in state.items()
        if key.startswith("model.diffusion_model.")
    }
    path = tmp_path_factory.mktemp("file") / "my model.ckpt"
    torch.save({"state_dict": state | averaged, "epoch": 1}, path)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The miniature's configurations, without weights."""
    ignored = shutil.ignore_patterns("*.safetensors")
    return Path(shutil.copytree(BASE_FOLDER, tmp_path / "config", ignore=ignored))


@pytest.fixture
def opened(home: Path) -> api.Workspace:
    return api.open_workspace(Settings(home, "my model", None))


def test_a_file_is_a_base_like_any_other(
    opened: api.Workspace, file: Path, config: Path, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    record = api.register_base(opened, str(file), config=config, steps=2, observe=seen.append)
    assert record.name == "my model"
    assert Path(record.source).parent == opened.settings.home / "bases"
    assert record.digest == folder_digest(Path(record.source))
    assert seen[-1].stage.startswith("converting")
    assert seen[-1].done == seen[-1].total
    # What is done with it needs neither the file nor the configuration any more.
    shutil.rmtree(config)
    assert opened.base == record
    api.erase(opened, ["Picasso"], protect=[])
    plan = api.plan_composition(opened, api.Selection(without=["Picasso"]))
    api.export_composition(opened, plan, tmp_path / "restored.ckpt")
    exported, source = read_checkpoint(tmp_path / "restored.ckpt"), torch.load(file)["state_dict"]
    assert all(torch.equal(tensor, source[name]) for name, tensor in exported.items())
    assert len(exported) == len(single_file_state(BASE_FOLDER, {}))


def test_the_same_file_is_converted_once_and_the_trail_says_where_it_came_from(
    opened: api.Workspace, file: Path, config: Path
) -> None:
    first = api.register_base(opened, str(file), config=config)
    shards = {path: path.stat().st_mtime_ns for path in Path(first.source).rglob("*")}
    again = api.register_base(opened, str(file), config=config)
    assert again.source == first.source
    assert {path: path.stat().st_mtime_ns for path in Path(first.source).rglob("*")} == shards
    origin = json.loads((Path(first.source) / ".source.json").read_text())
    assert origin["file"] == str(file)
    assert opened.audit.events()[0].details["single_file"] == origin


def test_averaged_weights_are_another_base(opened: api.Workspace, file: Path, config: Path) -> None:
    plain = api.convert_base(opened, str(file), config=config)
    averaged = api.convert_base(opened, str(file), config=config, ema=True)
    assert plain.averaged == averaged.averaged > 0
    assert not plain.ema
    assert averaged.ema
    assert plain.folder != averaged.folder
    assert folder_digest(plain.folder) != folder_digest(averaged.folder)


def test_a_dry_run_checks_and_writes_nothing(
    opened: api.Workspace, file: Path, config: Path, base: Path
) -> None:
    home = opened.settings.home
    before = sorted(home.rglob("*"))
    conversion = api.convert_base(opened, str(file), config=config, dry_run=True)
    assert not conversion.exists
    assert conversion.components.keys() == {"unet", "vae", "text_encoder"}
    with pytest.raises(IncompatibleError, match="another architecture"):
        api.convert_base(opened, str(file), config=base, dry_run=True)
    assert sorted(home.rglob("*")) == before


def test_without_a_network_the_configuration_has_to_be_given(
    opened: api.Workspace, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFoundError, match=r"stable-diffusion-v1-5.*--config FOLDER"):
        api.register_base(opened, str(file))
    assert not (opened.settings.home / "bases").exists()


def test_options_of_single_files_are_refused_for_folders(
    opened: api.Workspace, config: Path
) -> None:
    with pytest.raises(InvalidInputError, match="--ema belongs to a single file"):
        api.register_base(opened, str(BASE_FOLDER), ema=True)
    with pytest.raises(InvalidInputError, match="--config belongs to a single file"):
        api.register_base(opened, str(BASE_FOLDER), config=config)


def test_a_file_that_is_none_is_refused(
    opened: api.Workspace, config: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"x")
    with pytest.raises(IntegrityError, match="bad"):
        api.register_base(opened, str(tmp_path / "bad.ckpt"), config=config)
    with pytest.raises(NotFoundError, match="none"):
        api.register_base(opened, str(tmp_path / "none.safetensors"), config=config)
    assert opened.registry.bases.all() == ()


def test_the_packaged_base_names_the_layers_that_its_network_has() -> None:
    pipeline = pipelines.load_pipeline(miniature.BASE_FOLDER)
    pipelines.check_image_independence(pipeline)
    layers = pipelines.image_independent_layers(pipelines.network_of(pipeline))
    assert miniature.prompts()["layers"] == list(layers)
