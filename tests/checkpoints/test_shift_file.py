from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, safe_open, save_file

from shiftreg.checkpoints import load_shift, save_shift
from shiftreg.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from shiftreg.shift import ConceptShift, canonical_json

fuzzing = settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def saved(shift: ConceptShift, tmp_path: Path) -> Path:
    path = tmp_path / "shift.safetensors"
    save_shift(shift, path)
    return path


def rewrite(path: Path, tensors: dict[str, torch.Tensor], **changes: str | None) -> None:
    """Writes the file anew by the library's writer, as a foreign tool would."""
    with safe_open(path, "pt") as handle:
        metadata = dict(handle.metadata())
    for key, value in changes.items():
        metadata[f"shiftreg.{key}"] = value
    save_file(tensors, path, {key: value for key, value in metadata.items() if value is not None})


def test_a_shift_comes_back_as_it_was(shift: ConceptShift, saved: Path) -> None:
    loaded = load_shift(saved)
    assert loaded.metadata() == shift.metadata()
    assert loaded.digest == shift.digest
    assert isinstance(loaded.aliases, tuple)
    assert loaded.layers == shift.layers
    assert torch.equal(loaded.support, shift.support)


@pytest.fixture
def dense_shift(shift: ConceptShift) -> ConceptShift:
    """The shift with dense deltas of a convolution, its bias and a projection."""
    generator = torch.Generator().manual_seed(8)
    shapes = {"conv_in": (4, 3, 3, 3), "conv_in.bias": (4,), "a.attn2.to_out.0": (6, 6)}
    dense = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return replace(shift, dense=dense, protected=(), protected_digest="")


def test_dense_deltas_come_back_as_they_were(dense_shift: ConceptShift, tmp_path: Path) -> None:
    path = tmp_path / "dense.safetensors"
    save_shift(dense_shift, path)
    loaded = load_shift(path)
    assert loaded.digest == dense_shift.digest
    assert loaded.factors.keys() == dense_shift.factors.keys()
    assert loaded.dense.keys() == dense_shift.dense.keys()
    for name, delta in dense_shift.dense.items():
        assert torch.equal(loaded.dense[name], delta)
    assert not loaded.separable
    save_shift(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_shift_of_dense_deltas_alone_comes_back(
    dense_shift: ConceptShift, tmp_path: Path
) -> None:
    alone = replace(dense_shift, support=torch.zeros(0, 5), factors={})
    save_shift(alone, tmp_path / "alone")
    loaded = load_shift(tmp_path / "alone")
    assert loaded.digest == alone.digest
    assert loaded.support.shape == (0, 5)


def test_dense_deltas_that_were_altered_are_refused(
    dense_shift: ConceptShift, tmp_path: Path
) -> None:
    path = tmp_path / "dense.safetensors"
    save_shift(dense_shift, path)
    tensors = load_file(path)
    bias = tensors.pop("dense.conv_in.bias")
    layer = dense_shift.layers[0]
    assert f"dense.{layer}" in tensors
    for damaged in (
        tensors,
        tensors | {"dense.conv_in.bias": bias + 1},
        tensors | {"dense.conv_in.bias": bias * float("nan")},
        tensors | {"dense.conv_in.bias": bias.double()},
        tensors | {"dense.conv_out.bias": bias},
        tensors | {"factors.conv_in.bias": bias},
        tensors | {"dense.conv_in.bias": bias, f"factors.{layer}": torch.zeros(6, 2)},
    ):
        rewrite(path, damaged)
        with pytest.raises((IntegrityError, InvalidInputError), match=str(path)):
            load_shift(path)


def test_saving_twice_gives_the_same_bytes(shift: ConceptShift, saved: Path) -> None:
    for attempt in range(5):
        again = saved.with_name(f"again-{attempt}")
        save_shift(load_shift(saved), again)
        assert again.read_bytes() == saved.read_bytes()


def test_the_file_describes_itself_to_any_reader(shift: ConceptShift, saved: Path) -> None:
    assert load_file(saved).keys() == shift.tensors().keys()
    with safe_open(saved, "pt") as handle:
        metadata = handle.metadata()
    assert metadata["shiftreg.format"] == "1"
    assert metadata["shiftreg.digest"] == shift.digest
    assert metadata["shiftreg.shift"] == canonical_json(shift.metadata())


def test_tensors_of_any_layout_are_written(shift: ConceptShift, tmp_path: Path) -> None:
    turned = replace(shift, support=shift.support.T.contiguous().T)
    save_shift(turned, tmp_path / "turned")
    assert torch.equal(load_shift(tmp_path / "turned").support, shift.support)


def test_what_was_loaded_does_not_change_with_the_file(shift: ConceptShift, saved: Path) -> None:
    loaded = load_shift(saved)
    with saved.open("r+b") as handle:
        handle.seek(-60, 2)
        handle.write(b"\0" * 60)
    assert loaded.digest == shift.digest


def test_an_existing_file_is_replaced_only_when_asked(shift: ConceptShift, saved: Path) -> None:
    other = replace(shift, concept="Josef Čapek")
    with pytest.raises(AlreadyExistsError):
        save_shift(other, saved)
    assert load_shift(saved).concept == "Čapek"
    save_shift(other, saved, overwrite=True)
    assert load_shift(saved).concept == "Josef Čapek"


@fuzzing
@given(data=st.data())
def test_a_flipped_byte_is_refused(saved: Path, data: st.DataObject) -> None:
    content = bytearray(saved.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        with pytest.raises((IntegrityError, InvalidInputError), match=file.name):
            load_shift(Path(file.name))


def test_no_single_byte_of_the_header_can_be_changed(saved: Path) -> None:
    content = saved.read_bytes()
    for place in range(8 + int.from_bytes(content[:8], "little")):
        # A tab in place of padding is still valid JSON: the strictest case.
        changed = content[:place] + b"\t" + content[place + 1 :]
        saved.write_bytes(changed)
        with pytest.raises((IntegrityError, InvalidInputError)):
            load_shift(saved)


@fuzzing
@given(data=st.data())
def test_a_truncated_or_longer_file_is_refused(saved: Path, data: st.DataObject) -> None:
    content = saved.read_bytes()
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    longer = content + data.draw(st.binary(min_size=1, max_size=20))
    with tempfile.NamedTemporaryFile() as file:
        for damaged in (cut, longer):
            Path(file.name).write_bytes(damaged)
            with pytest.raises(IntegrityError, match=file.name):
                load_shift(Path(file.name))


@fuzzing
@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        with pytest.raises(IntegrityError):
            load_shift(Path(file.name))


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"x": torch.zeros(2)}, tmp_path / "lora.safetensors", metadata)
        with pytest.raises(InvalidInputError, match="holds no concept shift"):
            load_shift(tmp_path / "lora.safetensors")


def test_a_later_format_is_refused_by_its_number(saved: Path) -> None:
    rewrite(saved, load_file(saved), format="2")
    with pytest.raises(InvalidInputError, match="'2'"):
        load_shift(saved)


@pytest.mark.parametrize("key", ["shift", "digest"])
def test_a_missing_part_of_the_header_is_refused(saved: Path, key: str) -> None:
    rewrite(saved, load_file(saved), **{key: None})
    with pytest.raises(IntegrityError):
        load_shift(saved)


@pytest.mark.parametrize("text", ["", "[]", "null", "7", "{}", "[" * 100_000, '{"concept":'])
def test_a_header_that_is_no_shift_is_refused(saved: Path, text: str) -> None:
    rewrite(saved, load_file(saved), shift=text)
    with pytest.raises(IntegrityError):
        load_shift(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"concept": 5},
        {"aliases": "text"},
        {"aliases": [1]},
        {"metrics": []},
        {"protected": {}},
        {"protected": None},
    ],
)
def test_a_wrong_type_in_the_header_is_refused(
    saved: Path, shift: ConceptShift, change: dict[str, object]
) -> None:
    rewrite(saved, load_file(saved), shift=json.dumps(shift.metadata() | change))
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        load_shift(saved)


def test_wrong_missing_and_added_tensors_are_refused(saved: Path) -> None:
    tensors = load_file(saved)
    support = tensors["support"]
    without = {name: tensor for name, tensor in tensors.items() if name != "support"}
    for damaged in (
        without,
        {"support": support},
        tensors | {"extra": support.clone()},
        tensors | {"support": support.double()},
        tensors | {"support": support * float("nan")},
        tensors | {"support": support[:1].clone()},
        tensors | {"support": support + 1},
    ):
        rewrite(saved, damaged)
        with pytest.raises((IntegrityError, InvalidInputError), match=str(saved)):
            load_shift(saved)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.safetensors"):
        load_shift(tmp_path / "none.safetensors")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        load_shift(tmp_path)


def test_text_that_is_not_unicode_is_refused(shift: ConceptShift, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="surrogates"):
        save_shift(replace(shift, protected=("\udcff",)), tmp_path / "shift")
    assert not list(tmp_path.iterdir())
