"""Files of prompts, painted by the base and by compositions on the miniature."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shiftreg import api, pipelines
from shiftreg.api.values import Progress
from shiftreg.engines import ProcessPool
from shiftreg.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from shiftreg.settings import Settings

# As the evaluation files of concept erasure look.
PROMPTS = """,prompt,evaluation_seed,case_number
0,Caravaggio,3141,0
1,Caravaggio,4998,1
2,Picasso,2701,50
3,a picture of a church,186,51
"""
FILES = {"0_0.png", "1_0.png", "50_0.png", "51_0.png"}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "style_classify.csv"
    path.write_text(PROMPTS)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


def open_home(home: Path, database: Path) -> api.Workspace:
    """The miniature in a new home; it paints in two steps."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(database, home / "registry.db")
    workspace = api.open_workspace(Settings(home, "miniature", None))
    api.register_base(workspace, steps=2)
    return workspace


# Painting changes nothing in a registry: all tests of the module may look at the same ones.
@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, database: Path) -> api.Workspace:
    """Nothing is erased."""
    return open_home(tmp_path_factory.mktemp("plain"), database)


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory, database: Path) -> api.Workspace:
    """Caravaggio and Picasso are erased."""
    workspace = open_home(tmp_path_factory.mktemp("erased"), database)
    api.erase(workspace, ["Caravaggio", "Picasso"])
    return workspace


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".paint.lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def interrupting(after: int) -> Callable[[Progress], None]:
    """An observer that is interrupted once so many pictures are painted."""

    def observe(progress: Progress) -> None:
        if progress.done >= after:
            raise KeyboardInterrupt

    return observe


def test_the_same_noise_shows_what_a_composition_changes_and_what_it_restores(
    erased: api.Workspace, prompts: Path, folder: Path
) -> None:
    seen: list[Progress] = []
    result = api.paint_prompts(
        erased,
        prompts,
        folder,
        compositions=["active", "without picasso"],
        observe=seen.append,
    )
    assert (result.painted, result.kept) == (12, 0)
    assert [(f.name, f.composition) for f in result.plan.folders] == [
        ("base", "none"),
        ("active", "active"),
        ("without-picasso", "without Picasso"),
    ]
    states = [f.plan.states["Picasso"] for f in result.plan.folders]
    assert states == ["generates", "erased", "generates"]
    for f in result.plan.folders:
        assert {path.name for path in (folder / f.name).glob("*.png")} == FILES

    def change(composition: str, file: str) -> np.ndarray:
        return np.abs(pixels(folder / "base" / file) - pixels(folder / composition / file))

    assert change("active", "0_0.png").mean() > 5
    assert change("active", "50_0.png").mean() > 5
    assert change("without-picasso", "1_0.png").mean() > 5
    assert change("without-picasso", "50_0.png").max() <= 1  # as it was, within rounding
    assert [(p.done, p.total) for p in seen] == [(0, 12), (4, 12), (8, 12), (12, 12)]


def test_a_composition_of_nothing_paints_what_the_base_paints(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    api.paint_prompts(workspace, prompts, folder)
    for file in FILES:
        assert (folder / "active" / file).read_bytes() == (folder / "base" / file).read_bytes()


def test_a_picture_is_that_of_generate_with_its_prompt_and_seed(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    api.paint_prompts(workspace, prompts, folder, compositions=(), batch_size=2, steps=3)
    base = workspace.base
    expected = pipelines.generate(
        workspace.pipeline, ["Caravaggio"] * 2, [3141, 4998], steps=3, guidance=base.guidance
    )
    for file, picture in zip(("0_0.png", "1_0.png"), expected, strict=True):
        assert (pixels(folder / "base" / file) == picture).all()


def test_several_pictures_of_a_case_are_slices_of_one_draw(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    prompts.write_text("prompt,evaluation_seed,case_number\na church,5,7\nPicasso,5,8\n")
    # Batches that end within a case.
    api.paint_prompts(workspace, prompts, folder, compositions=(), count=3, batch_size=2)
    files = {f"{case}_{i}.png" for case in (7, 8) for i in range(3)}
    assert {path.name for path in (folder / "base").glob("*.png")} == files
    draw = torch.randn((3, 4, 16, 16), generator=torch.Generator().manual_seed(5))
    base = workspace.base
    expected = pipelines.generate(
        workspace.pipeline,
        ["a church"] * 3,
        [0] * 3,
        steps=base.steps,
        guidance=base.guidance,
        noise=draw,
    )
    for i, picture in enumerate(expected):
        assert np.abs(pixels(folder / "base" / f"7_{i}.png") - picture).max() <= 1


@pytest.mark.parametrize("after", [1, 4])
def test_interrupted_it_goes_on_and_ends_with_the_same_bytes(
    erased: api.Workspace, prompts: Path, folder: Path, tmp_path: Path, after: int
) -> None:
    api.paint_prompts(erased, prompts, tmp_path / "at once", batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        api.paint_prompts(erased, prompts, folder, batch_size=2, observe=interrupting(after))
    painted = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert len(painted) == max(after, 2)
    # All folders are equally far, but for the batch at hand.
    assert len(list((folder / "base").glob("*.png"))) == 2
    seen: list[Progress] = []
    result = api.paint_prompts(erased, prompts, folder, batch_size=2, observe=seen.append)
    assert (result.painted, result.kept) == (8 - len(painted), len(painted))
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (len(painted), 8, 8)
    assert {path: path.stat().st_mtime_ns for path in painted} == painted
    assert content(folder) == content(tmp_path / "at once")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another size", "missing"])
def test_a_damaged_picture_is_painted_again_and_the_others_are_kept(
    workspace: api.Workspace, prompts: Path, folder: Path, damage: str
) -> None:
    api.paint_prompts(workspace, prompts, folder, compositions=())
    before = content(folder)
    path = folder / "base" / "1_0.png"
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-20])
    elif damage == "flipped":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "another size":
        Image.new("RGB", (32, 32)).save(path)
    else:
        path.unlink()
    result = api.paint_prompts(workspace, prompts, folder, compositions=())
    assert (result.painted, result.kept) == (1, 3)
    assert content(folder) == before


def test_what_a_killed_process_left_is_swept_away(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    api.paint_prompts(workspace, prompts, folder, compositions=())
    left = folder / "base" / ".0_0.png.1-abcd.partial"
    left.write_bytes(b"half")
    api.paint_prompts(workspace, prompts, folder, compositions=())
    assert not left.exists()


def test_a_composition_can_be_added_later_and_the_base_too(
    erased: api.Workspace, prompts: Path, folder: Path
) -> None:
    api.paint_prompts(erased, prompts, folder, with_base=False)
    result = api.paint_prompts(erased, prompts, folder, compositions=["only picasso"])
    assert [(f.name, f.new, f.kept) for f in result.plan.folders] == [
        ("base", 4, 0),
        ("only-picasso", 4, 0),
    ]
    manifest = json.loads((folder / "paint.json").read_text())
    assert set(manifest["folders"]) == {"active", "base", "only-picasso"}
    again = api.paint_prompts(erased, prompts, folder)
    assert (again.painted, again.kept) == (0, 8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 3}, "steps 2 there, and 3 asked for"),
        ({"guidance": 1.5}, "guidance 2.0 there, and 1.5 asked for"),
        ({"count": 2}, "pictures a case 1 there, and 2 asked for"),
        ({"by_prompt": True}, "folders by prompt no there, and yes asked for"),
    ],
)
def test_other_settings_are_refused_with_what_differs(
    workspace: api.Workspace, prompts: Path, folder: Path, changed: dict[str, Any], message: str
) -> None:
    api.paint_prompts(workspace, prompts, folder, compositions=(), guidance=2.0)
    before = content(folder)
    with pytest.raises(AlreadyExistsError, match=message) as refused:
        settings = {"guidance": 2.0} | changed
        api.paint_prompts(workspace, prompts, folder, compositions=(), **settings)
    assert "--force" in str(refused.value)
    assert content(folder) == before


def test_another_file_of_prompts_is_refused_and_force_replaces_all(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    api.paint_prompts(workspace, prompts, folder, count=2)
    (folder / "base" / "notes.txt").write_text("mine")
    prompts.write_text("prompt,evaluation_seed\nPicasso,1\n")
    with pytest.raises(AlreadyExistsError, match=r"prompts .* there, and .* asked for"):
        api.paint_prompts(workspace, prompts, folder, compositions=())
    plan = api.plan_painting(workspace, prompts, folder, compositions=(), overwrite=True)
    assert [(f.name, f.new, f.kept) for f in plan.folders] == [("base", 1, 0)]
    api.paint_prompts(workspace, prompts, folder, compositions=(), overwrite=True)
    assert set(content(folder)) == {
        "paint.json",
        "prompts.csv",
        "base/0_0.png",
        "base/metadata.csv",
        "base/notes.txt",
    }
    assert list(json.loads((folder / "paint.json").read_text())["folders"]) == ["base"]


def test_shifts_that_changed_meanwhile_are_noticed(
    home: Path, database: Path, prompts: Path, folder: Path
) -> None:
    workspace = open_home(home, database)
    api.paint_prompts(workspace, prompts, folder)
    api.erase(workspace, ["Picasso"])
    with pytest.raises(AlreadyExistsError, match=r"'active' was composition .* by now"):
        api.paint_prompts(workspace, prompts, folder)


def test_the_files_tell_other_tools_what_is_there(
    erased: api.Workspace, prompts: Path, folder: Path
) -> None:
    result = api.paint_prompts(erased, prompts, folder)
    assert (folder / "prompts.csv").read_bytes() == prompts.read_bytes()
    with (folder / "active" / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[2] == {
        "file_name": "50_0.png",
        "prompt": "Picasso",
        "evaluation_seed": "2701",
        "case_number": "50",
    }
    assert {row["file_name"] for row in rows} == FILES
    manifest = json.loads((folder / "paint.json").read_text())
    assert manifest["base"] == {"name": "miniature", "digest": erased.base.digest}
    assert manifest["prompts"]["digest"] == result.plan.prompts_digest
    assert (manifest["steps"], manifest["count"]) == (2, 1)
    active = manifest["folders"]["active"]
    assert active["digest"] == api.plan_composition(erased).digest
    assert {shift["concept"] for shift in active["shifts"]} == {"Caravaggio", "Picasso"}
    assert active["states"]["Caravaggio"] == "erased"
    assert set(active["tools"]) == {"shiftreg", "python", "torch", "diffusers", "transformers"}


def test_metadata_hold_any_prompt_word_for_word(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    texts = ["", " a ", 'a "big", red', "a\nb", "a\rb", "a\r\nb", "Čapek"]
    with prompts.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["prompt", "evaluation_seed"], *([text, 1] for text in texts)])
    api.paint_prompts(workspace, prompts, folder, compositions=(), steps=1)
    with (folder / "base" / "metadata.csv").open(encoding="utf-8", newline="") as file:
        assert [row["prompt"] for row in csv.DictReader(file)] == texts


def test_pictures_by_prompt_are_classes_for_other_tools(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    from torchvision.datasets import ImageFolder

    prompts.write_text(
        "prompt,evaluation_seed\nVan Gogh,1\nvan gogh,1\nPicasso,2\n,3\n  ,3\nVan Gogh,4\n"
    )
    api.paint_prompts(workspace, prompts, folder, compositions=(), by_prompt=True)
    classes = ImageFolder(folder / "base")
    names = [name.rpartition("-")[0] or name for name in classes.classes]
    assert sorted(names) == ["blank", "blank", "picasso", "van-gogh", "van-gogh"]
    assert len(classes) == 6
    assert len({name for name in classes.classes if name.startswith("van-gogh-")}) == 2
    with (folder / "base" / "metadata.csv").open(newline="") as file:
        rows = {row["file_name"]: row["prompt"] for row in csv.DictReader(file)}
    assert rows["picasso/2_0.png"] == "Picasso"
    assert all((folder / "base" / name).is_file() for name in rows)
    again = api.paint_prompts(workspace, prompts, folder, compositions=(), by_prompt=True)
    assert again.kept == 6


def test_a_folder_with_files_of_others_is_refused_even_with_force(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(AlreadyExistsError, match=r"'thesis\.tex' and no paint\.json"):
            api.paint_prompts(workspace, prompts, folder, overwrite=overwrite)
    assert os.listdir(folder) == ["thesis.tex"]  # noqa: PTH208  # hidden ones, too
    with pytest.raises(InvalidInputError, match="is a file"):
        api.paint_prompts(workspace, prompts, prompts)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"format": "shiftreg-paint-1"}',
        b'{"format": "shiftreg-paint-2"}',
    ],
)
def test_a_damaged_manifest_is_refused(
    workspace: api.Workspace, prompts: Path, folder: Path, manifest: bytes
) -> None:
    folder.mkdir()
    (folder / "paint.json").write_bytes(manifest)
    with pytest.raises(IntegrityError, match=r"paint\.json' is damaged"):
        api.paint_prompts(workspace, prompts, folder, overwrite=True)


@pytest.mark.parametrize("name", ["../elsewhere", "..", ".", "", "/tmp", "a/b"])
def test_a_manifest_that_points_outside_its_folder_is_refused(
    workspace: api.Workspace, prompts: Path, folder: Path, name: str
) -> None:
    api.paint_prompts(workspace, prompts, folder, compositions=())
    manifest = json.loads((folder / "paint.json").read_text())
    manifest["folders"][name] = manifest["folders"].pop("base")
    (folder / "paint.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError):
        api.paint_prompts(workspace, prompts, folder, compositions=(), overwrite=True)
    assert len(list((folder / "base").glob("*.png"))) == 4


def test_a_second_writer_is_refused(workspace: api.Workspace, prompts: Path, folder: Path) -> None:
    refused: list[str] = []

    def paint_too(_progress: Progress) -> None:
        with pytest.raises(StorageError, match="Another process is painting") as error:
            api.paint_prompts(workspace, prompts, folder, compositions=())
        refused.append(str(error.value))

    api.paint_prompts(workspace, prompts, folder, compositions=(), observe=paint_too)
    assert len(refused) == 2
    assert api.paint_prompts(workspace, prompts, folder, compositions=()).kept == 4


def test_a_full_disk_stops_it_and_with_more_space_it_goes_on(
    workspace: api.Workspace, prompts: Path, small_disk: Path
) -> None:
    lines = [f"Caravaggio,{seed}" for seed in range(12)]
    prompts.write_text("\n".join(["prompt,evaluation_seed", *lines]))
    folder = small_disk / "pictures"
    with pytest.raises(StorageError, match=r"No space left.*the same command goes on from there"):
        api.paint_prompts(workspace, prompts, folder, compositions=(), batch_size=4)
    kept = len(list(folder.rglob("*.png")))
    assert 0 < kept < 12
    assert not list(folder.rglob("*.partial"))
    resize = ["mount", "-o", "remount,size=1m", str(small_disk)]
    subprocess.run(resize, check=True, capture_output=True)
    result = api.paint_prompts(workspace, prompts, folder, compositions=(), batch_size=4)
    assert (result.painted, result.kept) == (12 - kept, kept)


def test_libraries_that_changed_meanwhile_are_told(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    api.paint_prompts(workspace, prompts, folder, compositions=())
    manifest = json.loads((folder / "paint.json").read_text())
    manifest["folders"]["base"]["tools"]["torch"] = "1.0"
    (folder / "paint.json").write_text(json.dumps(manifest))
    plan = api.plan_painting(workspace, prompts, folder)
    assert any("painted with torch 1.0" in warning for warning in plan.warnings)


def test_a_plan_counts_what_is_missing_and_writes_nothing(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    plan = api.plan_painting(workspace, prompts, folder, count=2)
    assert [(f.name, f.new, f.kept) for f in plan.folders] == [("base", 8, 0), ("active", 8, 0)]
    assert not folder.exists()
    api.paint_prompts(workspace, prompts, folder, compositions=())
    before = content(folder)
    plan = api.plan_painting(workspace, prompts, folder)
    assert [(f.name, f.new, f.kept) for f in plan.folders] == [("base", 0, 4), ("active", 4, 0)]
    assert content(folder) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "at least 1 picture"),
        ({"batch_size": 0}, "at least 1 picture"),
        ({"steps": 0}, "1 to 1000 steps"),
        ({"steps": 1001}, "1 to 1000 steps"),
        ({"guidance": float("nan")}, "from 0 on"),
        ({"guidance": -1.0}, "from 0 on"),
        ({"with_base": False, "compositions": ()}, "Nothing is to be painted"),
        ({"compositions": ["sans Picasso"]}, "not 'sans Picasso'"),
        ({"compositions": ["without"]}, "not 'without'"),
        ({"compositions": ["active Picasso"]}, "not 'active Picasso'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_and_leave_no_folder(
    workspace: api.Workspace, prompts: Path, folder: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        api.paint_prompts(workspace, prompts, folder, **settings)
    assert not folder.exists()


def test_unknown_concepts_and_missing_files_are_refused(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'Picasso'"):
        api.paint_prompts(workspace, prompts, folder, compositions=["without Picaso"])
    with pytest.raises(NotFoundError, match="no file"):
        api.paint_prompts(workspace, prompts.with_name("missing.csv"), folder)
    assert not folder.exists()


def test_a_prompt_that_is_too_long_is_refused_with_its_case(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    long = "a painting of a church " * 4
    prompts.write_text(f"{PROMPTS}4,{long},1,77\n5,{long},1,78\n")
    with pytest.raises(InvalidInputError, match=r"14 tokens.*case 77 .* and 1 more.*--skip-long"):
        api.paint_prompts(workspace, prompts, folder)
    prompts.write_text(f"prompt,evaluation_seed\n{long},1\n")
    with pytest.raises(InvalidInputError, match="No case would be left"):
        api.paint_prompts(workspace, prompts, folder, skip_long=True)
    assert not folder.exists()


@pytest.mark.slow
def test_workers_paint_the_same_pictures(
    workspace: api.Workspace, prompts: Path, tmp_path: Path
) -> None:
    api.erase(workspace, ["Picasso"])
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    api.paint_prompts(workspace, prompts, alone, batch_size=2)
    with ProcessPool(2, torch.get_num_threads()) as pool:
        result = api.paint_prompts(workspace, prompts, shared, batch_size=2, engine=pool)
    pictures = sorted(path.relative_to(alone) for path in alone.rglob("*.png"))
    assert len(pictures) == result.painted
    assert all((alone / p).read_bytes() == (shared / p).read_bytes() for p in pictures)


def test_prompts_that_are_too_long_can_be_skipped_and_are_noted(
    workspace: api.Workspace, prompts: Path, folder: Path
) -> None:
    long = "a painting of a church " * 4
    lines = [f"Picasso,1,{case}" for case in (0, 1)] + [f"{long},1,{case}" for case in range(2, 14)]
    prompts.write_text("\n".join(["prompt,evaluation_seed,case_number", *lines]))
    settings: dict[str, Any] = {"compositions": (), "steps": 1, "skip_long": True}
    plan = api.plan_painting(workspace, prompts, folder, **settings)
    assert (plan.cases, plan.skipped) == (2, tuple(range(2, 14)))
    assert plan.warnings[0] == (
        "12 of 14 cases are left out, whose prompts have more than 14 tokens: "
        "2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more (all in paint.json and --json)."
    )
    assert api.paint_prompts(workspace, prompts, folder, **settings).painted == 2
    assert {path.name for path in folder.rglob("*.png")} == {"0_0.png", "1_0.png"}
    manifest = json.loads((folder / "paint.json").read_text())
    assert manifest["prompts"]["cases"] == 2
    assert manifest["prompts"]["skipped"] == list(range(2, 14))
    assert api.paint_prompts(workspace, prompts, folder, **settings).kept == 2
