"""Files of torch are read as data: nothing that they name is run, nothing in them is unpacked."""

from __future__ import annotations

import argparse
import builtins
import collections
import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shiftreg.checkpoints import load_pickle_checkpoint
from shiftreg.checkpoints.ckpt_file import stored_ckpt
from shiftreg.checkpoints.pickles import LARGEST_PICKLE, MOST_INSTRUCTIONS, Global, Inert
from shiftreg.checkpoints.stored import LoadedTensor, StoredTensor
from shiftreg.errors import IntegrityError


class Calls:
    """Becomes a call when it is unpickled carelessly."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class State(Calls):
    """The same, by a state that is given to what was made."""

    def __reduce__(self) -> tuple[Any, ...]:
        return collections.OrderedDict, (), {"x": Calls(*self.reduced)}


def touch(victim: Path) -> tuple[Any, ...]:
    return os.system, f"touch {victim}"


ATTACKS: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda v: Calls(*touch(v)),
    "subprocess": lambda v: Calls(subprocess.call, ["touch", str(v)]),
    "eval": lambda v: Calls(eval, f"open({str(v)!r}, 'w')"),
    "exec": lambda v: Calls(exec, f"open({str(v)!r}, 'w')"),
    "open": lambda v: Calls(builtins.open, str(v), "w"),
    "getattr": lambda v: Calls(getattr, Calls(builtins.__import__, "os"), "system"),
    "nested": lambda v: [{"a": ({"b": [Calls(*touch(v))]},)}],
    "state": lambda v: State(*touch(v)),
    "module of torch": lambda v: Calls(torch.load, str(v)),
}
HIDDEN = ("module of torch",)  # not in the standard library: ignored, and not called either


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    return tmp_path / "victim"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_is_run_wherever_it_is(
    tmp_path: Path, victim: Path, attack: str, zipped: bool
) -> None:
    path, bad = tmp_path / "bad.ckpt", ATTACKS[attack](victim)
    good = {"x": torch.zeros(2)}
    for content in (
        {"state_dict": good, "callbacks": bad},
        {"state_dict": good | {"y": bad}},
        {"state_dict": bad},
        {**good, "y": bad},
        bad,
    ):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        if attack in HIDDEN and isinstance(content, dict):
            assert isinstance(load_pickle_checkpoint(path), dict)
        else:
            with pytest.raises(IntegrityError, match=r"bad\.ckpt"):
                load_pickle_checkpoint(path)
        if not (isinstance(content, dict) and "callbacks" in content and attack in HIDDEN):
            with pytest.raises(IntegrityError, match=r"bad\.ckpt"):
                stored_ckpt(path)
    assert not victim.exists()


def archive(path: Path, code: bytes, values: bytes = bytes(8), **more: bytes) -> Path:
    """A file like torch's, of any pickle."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {"data.pkl": code, "data/0": values, "version": b"3", **more}.items():
            file.writestr(f"archive/{name}", content)
    return path


SYSTEM = b"cposix\nsystem\n"
PROGRAMS = {
    "a name put together on the stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93)R.",
    "another name of the same module": b"cos\nsystem\n)R.",
    "remembered, then called": SYSTEM + b"q\x000h\x00(S'touch x'\ntR.",
    "an instance of the first protocol": b"(S'touch x'\niposix\nsystem\n.",
    "an object of the first protocol": b"(cposix\nsystem\nS'touch x'\no.",
    "made by its class": b"\x80\x02cposix\nsystem\n)\x81.",
    "made by its class, with names": b"\x80\x04cposix\nsystem\n)}\x92.",
    "Python 2's name": b"c__builtin__\neval\n(S'1'\ntR.",
    "a name with dots": b"\x80\x04\x8c\x05torch\x8c\x0bos.system.xx\x93)R.",
    "a persistent identifier": b"S'touch x'\nQ.",
    "a registered extension": b"\x82\x01.",
    "a buffer from elsewhere": b"\x80\x05\x97.",
    "the last of an empty stack": b"0000.",
    "a memory that nothing was put into": b"h\x05.",
    "no end": b"]]]]",
    "no texts as a name": b"K\x01K\x02\x93.",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_that_no_tensor_needs_are_refused(tmp_path: Path, program: str) -> None:
    path = archive(tmp_path / "bad.ckpt", PROGRAMS[program])
    for read in (load_pickle_checkpoint, stored_ckpt):
        with pytest.raises(IntegrityError, match=r"bad\.ckpt"):
            read(path)


def test_a_state_given_to_a_function_changes_nothing(tmp_path: Path) -> None:
    name = b"ctorch._utils\n_rebuild_tensor_v2\n"
    code = b"}(S'x'\n" + name + b"}(S'__defaults__'\n(K\x01tubu."
    before = torch._utils._rebuild_tensor_v2.__defaults__
    found = load_pickle_checkpoint(archive(tmp_path / "x.ckpt", code))
    assert isinstance(found["x"], Global)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before
    assert not hasattr(torch._utils._rebuild_tensor_v2, "x")


def test_what_training_tools_leave_behind_is_inert(tmp_path: Path) -> None:
    content = {
        "state_dict": collections.OrderedDict(x=torch.arange(3)),
        "numbers": [1, 2.5, 10**30, None, True, "text", b"bytes", bytearray(b"x")],
        "sets": ({1, 2}, frozenset({3})),
        "dtype": torch.float32,
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "default": collections.defaultdict(list, {"a": [1]}),
        ("a", "tuple"): 1,
    }
    torch.save(content, tmp_path / "x.ckpt")
    found = load_pickle_checkpoint(tmp_path / "x.ckpt")
    assert torch.equal(found["state_dict"]["x"], torch.arange(3))
    assert torch.equal(found["parameter"], torch.ones(2))
    assert found["numbers"][:6] == content["numbers"][:6]
    assert found["size"] == (1, 2)
    assert found["default"] == {"a": [1]}
    assert isinstance(found["device"], Inert)
    assert isinstance(found["sets"][0], Inert)
    assert len(found) == len(content)


def test_tensors_that_share_values_or_have_a_dtype_of_their_own_are_found(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    content = {
        "whole": matrix,
        "row": matrix[1],
        "turned": matrix.T,
        "float8": matrix.to(torch.float8_e4m3fn),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.0),
    }
    torch.save(content, tmp_path / "x.ckpt")
    found = load_pickle_checkpoint(tmp_path / "x.ckpt")
    for name, tensor in content.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].float(), tensor.float())
    stored = stored_ckpt(tmp_path / "x.ckpt")
    assert isinstance(stored["row"], StoredTensor)
    assert isinstance(stored["turned"], LoadedTensor)


def tensor_program(start: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A mapping with one tensor of two numbers, as the pickle describes it."""

    class Reference:
        def __reduce__(self) -> tuple[Any, ...]:
            arguments = (Stored(), start, shape, strides, False, collections.OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    class Stored:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            if isinstance(value, Stored):
                return ("storage", torch.FloatStorage, "0", "cpu", 2)
            return None

    content = io.BytesIO()
    Pickler(content, 2).dump({"x": Reference()})
    return content.getvalue()


@pytest.mark.parametrize(
    ("start", "shape", "strides"),
    [
        (0, (3,), (1,)),
        (1, (2,), (1,)),
        (0, (2,), (2,)),
        (0, (1 << 40, 1 << 20), (0, 0)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2,), (1, 1)),
        (0, (1,) * 65, (1,) * 65),
        (0, (2.0,), (1,)),
    ],
)
def test_a_tensor_of_more_values_than_there_are_is_refused(
    tmp_path: Path, start: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    fine = archive(tmp_path / "fine.ckpt", tensor_program(0, (2,), (1,)))
    assert torch.equal(load_pickle_checkpoint(fine)["x"], torch.zeros(2))
    path = archive(tmp_path / "lies.ckpt", tensor_program(start, shape, strides))
    for read in (load_pickle_checkpoint, stored_ckpt):
        with pytest.raises(IntegrityError, match="lies"):
            read(path)


def rewritten(path: Path, target: Path, **options: Any) -> Path:
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", **options) as result:
        for name in source.namelist():
            result.writestr(name, source.read(name))
    return target


@pytest.fixture
def good(tmp_path: Path) -> Path:
    torch.save({"state_dict": {"x": torch.zeros(1000)}}, tmp_path / "good.ckpt")
    return tmp_path / "good.ckpt"


def test_compressed_archives_are_refused(good: Path, tmp_path: Path) -> None:
    packed = rewritten(good, tmp_path / "bomb.ckpt", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(IntegrityError, match=r"compressed.*data"):
        load_pickle_checkpoint(packed)


def test_a_zip_bomb_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", tensor_program(0, (2,), (1,)))
        with file.open("archive/data/0", "w") as entry:
            for _ in range(64):
                entry.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(IntegrityError, match="compressed"):
        load_pickle_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_an_entry_that_is_larger_than_its_tensor_is_refused(tmp_path: Path) -> None:
    code = tensor_program(0, (2,), (1,))
    for size in (0, 7, 9, 1 << 20):
        path = archive(tmp_path / "lies.ckpt", code, bytes(size))
        with pytest.raises(IntegrityError, match="size"):
            load_pickle_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_is_there_twice_is_refused(good: Path, tmp_path: Path) -> None:
    path = rewritten(good, tmp_path / "twice.ckpt")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("good/data/0", bytes(4000))
    with pytest.raises(IntegrityError, match="twice"):
        load_pickle_checkpoint(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("one/data.pkl", b"}.")
        file.writestr("other/data.pkl", b"}.")
    with pytest.raises(IntegrityError, match=r"2 files data\.pkl"):
        load_pickle_checkpoint(path)


def test_sizes_in_the_list_of_contents_are_not_believed(good: Path, tmp_path: Path) -> None:
    content = bytearray(good.read_bytes())
    at = content.index(b"PK\x01\x02")
    for size in (1, 1 << 20, 0xFFFFFFFE):
        content[at + 20 : at + 28] = struct.pack("<II", size, size)
        (tmp_path / "lies.ckpt").write_bytes(content)
        with pytest.raises(IntegrityError, match="lies"):
            load_pickle_checkpoint(tmp_path / "lies.ckpt")


def test_values_of_another_order_of_bytes_are_refused(tmp_path: Path) -> None:
    code = tensor_program(0, (2,), (1,))
    path = archive(tmp_path / "big.ckpt", code, byteorder=b"big")
    with pytest.raises(IntegrityError, match="order of bytes"):
        load_pickle_checkpoint(path)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is the kernel's")
@pytest.mark.parametrize(
    "code",
    [
        b"r\xff\xff\xff\x7f.",  # remembered in place 2147483647
        b"}r\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f.",  # bytes without end
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x0f.",
        b"\x8b\xff\xff\xff\x7f.",  # a number of two billion bytes
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",  # a frame without end
        b"(" * (LARGEST_PICKLE + 1),
    ],
)
def test_claims_of_a_pickle_take_no_memory(tmp_path: Path, code: bytes) -> None:
    path = archive(tmp_path / "claims.ckpt", code)
    tracemalloc.start()
    with contextlib.suppress(IntegrityError):
        load_pickle_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


TWICE = {
    "in one step": b"}(X\x01\0\0\0xK\x01X\x01\0\0\0xK\x02u.",
    "one after the other": b"}X\x01\0\0\0xK\x01sX\x01\0\0\0xK\x02s.",
    "in another way of writing it": b"}(X\x01\0\0\0xK\x01U\x01xK\x02u.",
    "made at once": b"(X\x01\0\0\0xK\x01X\x01\0\0\0xK\x02d.",
    "within": b"}X\x0a\0\0\0state_dict}(X\x01\0\0\0xK\x01X\x01\0\0\0xK\x02us.",
    "ordered": b"ccollections\nOrderedDict\n)R(X\x01\0\0\0xK\x01X\x01\0\0\0xK\x02u.",
    "ordered, by pairs": b"ccollections\nOrderedDict\n((lp0\n(lp1\nS'x'\naI1\naag1\natR.",
}


@pytest.mark.parametrize("program", TWICE)
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, program: str) -> None:
    path = archive(tmp_path / "twice.ckpt", TWICE[program])
    for read in (load_pickle_checkpoint, stored_ckpt):
        with pytest.raises(IntegrityError, match="names 'x' twice"):
            read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_lightning_leaves_names_nothing_twice(tmp_path: Path, zipped: bool) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    nan = float("nan")
    content = {
        "epoch": 1,
        "global_step": 3,
        "state_dict": model.state_dict(),  # an OrderedDict with a state of its own
        "optimizer_states": [optimizer.state_dict()] * 2,
        "lr_schedulers": [schedule.state_dict()],
        "callbacks": {ModelCheckpoint: {"best": None}, "ModelCheckpoint": {"best": None}},
        "hyper_parameters": argparse.Namespace(epoch=1, inner=argparse.Namespace(epoch=1)),
        "loops": collections.defaultdict(dict, {"fit": {"epoch": {"epoch": 1}}}),
        "numbers": {1: "x", "1": "x", b"1": "x", (1,): "x", nan: 1, float("nan"): 2, None: 3},
        "counted": collections.Counter("aab"),
    }
    torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
    assert load_pickle_checkpoint(tmp_path / "x.ckpt").keys() == content.keys()
    assert stored_ckpt(tmp_path / "x.ckpt").keys() == model.state_dict().keys()


class ModelCheckpoint:
    """Old versions of Lightning name the state of callbacks by their class."""


def test_a_pickle_of_too_many_instructions_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "long.ckpt", b"(" * (MOST_INSTRUCTIONS + 1) + b".")
    with pytest.raises(IntegrityError, match="instructions"):
        load_pickle_checkpoint(path)


def test_doubling_again_and_again_takes_no_time(tmp_path: Path) -> None:
    value: Any = {}
    for _ in range(60):
        value = {"a": value, "b": value}
    twice: Any = ()
    for _ in range(60):
        twice = (twice, twice)
    torch.save({"nested": value, "tuple": twice, "x": torch.ones(1)}, tmp_path / "x.ckpt")
    assert torch.equal(load_pickle_checkpoint(tmp_path / "x.ckpt")["x"], torch.ones(1))
    # As a key, whose hash would be computed of all its parts.
    doubled = b")" + b"q\x00h\x00\x86" * 60
    path = archive(tmp_path / "key.ckpt", b"}" + doubled + b"K\x01s.")
    assert len(load_pickle_checkpoint(path)) == 1
