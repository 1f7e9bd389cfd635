from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch

from shiftreg.checkpoints import file_digest, folder_digest, load_pickle_checkpoint
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    with pytest.raises(NotFoundError):
        file_digest(tmp_path / "none")


def test_the_digest_of_a_folder_follows_what_matters(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "model.safetensors").write_bytes(b"weights")
    (folder / "model_index.json").write_text("{}")
    (folder / "merges.txt").write_text("a b")
    digest = folder_digest(folder)
    for name in ("README.md", ".gitattributes", "sample.png", "LICENSE.txt"):
        (folder / name).write_text("anything")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "old.safetensors").write_text("anything")
    assert folder_digest(folder) == digest
    folder.rename(tmp_path / "renamed")
    assert folder_digest(tmp_path / "renamed") == digest
    for name in ("unet/model.safetensors", "model_index.json", "merges.txt"):
        path = tmp_path / "renamed" / name
        before = path.read_bytes()
        path.write_bytes(before + b"!")
        assert folder_digest(tmp_path / "renamed") != digest
        path.write_bytes(before)
    (tmp_path / "renamed" / "unet").rename(tmp_path / "renamed" / "vae")
    assert folder_digest(tmp_path / "renamed") != digest


def test_the_patterns_of_a_digest_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.safetensors").write_text("x")
    digest = folder_digest(tmp_path, ["*.safetensors"])
    (tmp_path / "a.json").unlink()
    assert folder_digest(tmp_path, ["*.safetensors"]) == digest


def test_a_folder_without_content_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        folder_digest(tmp_path)
    with pytest.raises(NotFoundError):
        folder_digest(tmp_path / "none")


class Malicious:
    """Runs a command when it is unpickled carelessly."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.victim}",)


def test_code_in_a_pickle_is_never_run(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    path = tmp_path / "bad.ckpt"
    payload = {"state_dict": {"x": torch.zeros(1)}, "callbacks": Malicious(victim)}
    torch.save(payload, path)
    with pytest.raises(IntegrityError, match=r"system.*nothing in it was run"):
        load_pickle_checkpoint(path)
    path.write_bytes(pickle.dumps(Malicious(victim), protocol=2))
    with pytest.raises(IntegrityError, match=r"bad\.ckpt"):
        load_pickle_checkpoint(path)
    torch.save(payload, path, _use_new_zipfile_serialization=False)
    with pytest.raises(IntegrityError, match=r"bad\.ckpt"):
        load_pickle_checkpoint(path)
    assert not victim.exists()
    # The file is a real danger: a careless reader falls for it.
    torch.load(path, weights_only=False)
    assert victim.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_tensors_are_read_from_both_layouts(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "good.ckpt"
    saved = {"state_dict": {"x": torch.arange(5)}, "epoch": 3}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    loaded = load_pickle_checkpoint(path)
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["state_dict"]["x"], torch.arange(5))


def test_damaged_and_foreign_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.ckpt"
    torch.save({"x": torch.zeros(100)}, path)
    content = path.read_bytes()
    damaged = [content[:length] for length in range(0, len(content), 97)]
    for bad in (*damaged, b"x", b"PK\x03\x04", b"\x80\x02", b"{}", b"plain text"):
        path.write_bytes(bad)
        with pytest.raises(IntegrityError, match=r"bad\.ckpt"):
            load_pickle_checkpoint(path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(IntegrityError, match="holds a list"):
        load_pickle_checkpoint(path)
    with pytest.raises(NotFoundError):
        load_pickle_checkpoint(tmp_path / "none.ckpt")
