"""Unfinished work: what was kept is found again, and what is damaged counts as not there."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftreg.checkpoints import Unfinished
from shiftreg.errors import InvalidInputError, StorageError


class Code:
    """Would leave a trace if it were run."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def state(step: int) -> dict[str, Any]:
    """What a training keeps."""
    parameter = torch.full((3, 2), float(step), requires_grad=True)
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    return {
        "step": step,
        "parameters": [parameter.detach()],
        "optimizer": optimizer.state_dict(),
        "generator": torch.Generator().manual_seed(step).get_state(),
        "stops": [{"first": 1.5, "average": 0.25}],
    }


def refuse() -> Mapping[str, Any]:
    raise AssertionError("no state was asked for")


@pytest.fixture
def unfinished(tmp_path: Path) -> Unfinished:
    """A piece of work that keeps every state, in a folder that is not there yet."""
    return Unfinished(tmp_path / "unfinished" / "work", interval=0.0)


def test_a_state_is_found_again_by_the_same_work(unfinished: Unfinished) -> None:
    unfinished.save(lambda: state(7))
    loaded = Unfinished(unfinished.folder).load()
    expected = state(7)
    assert loaded is not None
    assert loaded.keys() == expected.keys()
    assert (loaded["step"], loaded["stops"]) == (7, expected["stops"])
    assert torch.equal(loaded["parameters"][0], expected["parameters"][0])
    assert torch.equal(loaded["generator"], expected["generator"])
    moments, wanted = (s["optimizer"]["state"][0] for s in (loaded, expected))
    assert all(torch.equal(moments[name], wanted[name]) for name in wanted)


def test_the_last_state_counts_and_other_work_has_its_own(unfinished: Unfinished) -> None:
    other = Unfinished(unfinished.folder.with_name("other"), interval=0.0)
    for step in (1, 2, 3):
        unfinished.save(lambda step=step: state(step))  # type: ignore[misc]
    loaded = unfinished.load()
    assert loaded is not None
    assert loaded["step"] == 3
    assert other.load() is None


def test_work_is_found_by_what_its_result_depends_on(tmp_path: Path) -> None:
    parts = ["base", 3, {"concept": "Picasso", "aliases": ["Pablo"]}]
    same = ["base", 3, {"aliases": ["Pablo"], "concept": "Picasso"}]
    Unfinished.of(tmp_path, *parts).result("found", lambda: {"seconds": 2.0})
    assert Unfinished.of(tmp_path, *same).result("found", refuse) == {"seconds": 2.0}
    others = [["base", 4, parts[2]], ["base", 3], ["base", 3, {"concept": "Picasso"}], parts[::-1]]
    folders = {Unfinished.of(tmp_path, *other).folder for other in (parts, *others)}
    assert len(folders) == 5
    assert all(folder.parent == tmp_path / "unfinished" for folder in folders)
    with pytest.raises(InvalidInputError, match="JSON"):
        Unfinished.of(tmp_path, tmp_path)


def test_what_was_loaded_does_not_change_with_the_next_state(unfinished: Unfinished) -> None:
    unfinished.save(lambda: state(1))
    loaded = unfinished.load()
    unfinished.save(lambda: state(2))
    assert loaded is not None
    assert torch.equal(loaded["parameters"][0], state(1)["parameters"][0])
    loaded["parameters"][0].zero_()
    again = unfinished.load()
    assert again is not None
    assert torch.equal(again["parameters"][0], state(2)["parameters"][0])


def test_work_that_never_began_has_no_state_and_leaves_no_folder(unfinished: Unfinished) -> None:
    assert unfinished.load() is None
    unfinished.discard()
    assert not unfinished.folder.parent.exists()


def test_within_the_interval_nothing_is_kept_nor_even_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    unfinished = Unfinished(tmp_path / "work", interval=20.0)
    for now, step in ((1019.0, None), (1020.0, 1), (1039.0, None), (1041.0, 2), (1060.0, None)):  # noqa: B007
        unfinished.save(refuse if step is None else lambda step=step: state(step))  # type: ignore[misc]
    loaded = unfinished.load()
    assert loaded is not None
    assert loaded["step"] == 2


def test_images_are_generated_once(unfinished: Unfinished) -> None:
    generated = []

    def generate() -> Tensor:
        generated.append(torch.randn(2, 4, 8, 8))
        return generated[-1]

    first = unfinished.latents("picasso", generate)
    second = Unfinished(unfinished.folder).latents("picasso", generate)
    assert len(generated) == 1
    assert torch.equal(first, generated[0])
    assert torch.equal(second, generated[0])
    unfinished.latents("cezanne", generate)
    assert len(generated) == 2


def test_a_concept_called_training_does_not_meet_the_state(unfinished: Unfinished) -> None:
    latents = unfinished.latents("training", lambda: torch.ones(1, 4, 8, 8))
    assert unfinished.load() is None
    unfinished.save(lambda: state(1))
    assert torch.equal(unfinished.latents("training", lambda: torch.zeros(1)), latents)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "text", "other", "list", "folder"])
def test_what_is_damaged_counts_as_not_there(unfinished: Unfinished, damage: str) -> None:
    unfinished.save(lambda: state(5))
    unfinished.latents("picasso", lambda: torch.full((3, 4, 8, 8), 0.5))
    files = list(unfinished.folder.iterdir())
    assert len(files) == 2
    for file in files:
        content = file.read_bytes()
        if damage == "flipped":
            numbers = torch.full((2,), 0.5 if "picasso" in file.name else 5.0).numpy().tobytes()
            if numbers not in content:  # Adam has moved it a little
                numbers = state(5)["parameters"][0].numpy().tobytes()
            place = content.index(numbers)
            file.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
        elif damage == "cut":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "empty":
            file.write_bytes(b"")
        elif damage == "text":
            file.write_text("nothing of the kind")
        elif damage == "other":
            torch.save({"latents": "text"}, file) if "picasso" in file.name else file.unlink()
        elif damage == "list":
            torch.save([1, 2], file)
        else:
            file.unlink()
            file.mkdir()
    again = Unfinished(unfinished.folder, interval=0.0)
    assert again.load() is None
    if damage != "folder":
        generated = again.latents("picasso", lambda: torch.ones(1, 4, 8, 8))
        assert torch.equal(generated, torch.ones(1, 4, 8, 8))
        again.save(lambda: state(6))
        loaded = again.load()
        assert loaded is not None
        assert loaded["step"] == 6


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(unfinished: Unfinished, tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "trace"
    unfinished.folder.mkdir(parents=True)
    unfinished.save(lambda: state(1))
    unfinished.latents("picasso", lambda: torch.zeros(1))
    for file in unfinished.folder.iterdir():
        if zipped:
            torch.save({"step": 1, "latents": Code(trace)}, file)
        else:
            file.write_bytes(pickle.dumps({"latents": Code(trace)}))
    assert unfinished.load() is None
    generated = unfinished.latents("picasso", lambda: torch.ones(1))
    assert torch.equal(generated, torch.ones(1))
    assert not trace.exists()
    pickle.loads(pickle.dumps(Code(trace)))
    assert trace.exists(), "the code would have done nothing"


def test_what_is_discarded_is_gone(unfinished: Unfinished) -> None:
    unfinished.save(lambda: state(1))
    unfinished.latents("picasso", lambda: torch.zeros(1))
    unfinished.discard()
    assert unfinished.load() is None
    assert not unfinished.folder.exists()
    unfinished.discard()


def test_nothing_but_whole_files_is_left(unfinished: Unfinished) -> None:
    def interrupt() -> Mapping[str, Any]:
        raise KeyboardInterrupt

    unfinished.save(lambda: state(1))
    with pytest.raises(KeyboardInterrupt):
        unfinished.save(interrupt)
    with pytest.raises(KeyboardInterrupt):
        unfinished.latents("picasso", interrupt)  # type: ignore[arg-type]
    assert len(list(unfinished.folder.iterdir())) == 1
    loaded = unfinished.load()
    assert loaded is not None
    assert loaded["step"] == 1


def test_a_disk_that_refuses_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "work"):
        with pytest.raises(StorageError, match="file"):
            Unfinished(folder, interval=0.0).save(lambda: state(1))


def test_a_full_disk_keeps_the_last_state(small_disk: Path) -> None:
    unfinished = Unfinished(small_disk / "work", interval=0.0)
    unfinished.save(lambda: state(1))
    with pytest.raises(StorageError, match="space"):
        unfinished.save(lambda: {"step": 2, "parameters": [torch.zeros(100_000)]})
    loaded = unfinished.load()
    assert loaded is not None
    assert loaded["step"] == 1
