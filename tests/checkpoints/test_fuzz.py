"""Damaged and hostile files: whatever a reader is given, it reads it or says what is wrong.

Bytes are flipped, cut, inserted and doubled; headers lie about sizes; JSON is nested without end.
On CI Hypothesis finds the same files in every run (its own profile). Ten times as many are tried by
``make test-all`` (the profile "deep").
"""

from __future__ import annotations

import gc
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from shiftreg.checkpoints import (
    load_pickle_checkpoint,
    load_shift,
    read_component,
    read_foreign,
    read_foreign_file,
    save_shift,
    single_file_contents,
    sort_single_file,
)
from shiftreg.checkpoints.stored import TensorSource
from shiftreg.checkpoints.tensor_files import read_safetensors, stored_safetensors
from shiftreg.errors import ShiftregError
from shiftreg.pipelines import weight_shapes
from shiftreg.shift import ConceptShift
from tests.whole import read_checkpoint

MOST_MEMORY = 200 << 20  # bytes: no file here has a thousandth of it
MOST_VALUES = 1 << 20
EXAMPLES = settings().max_examples * 2 // 5  # 40, or 400
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Fails if a reader took memory because a header asked for it."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.exists():
        yield
        return

    def field(name: str) -> int:
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) << 10

    gc.collect()
    with suppress(OSError):
        reset.write_text("5")
    before = field("VmRSS")
    yield
    assert field("VmHWM") - before < MOST_MEMORY


NUMBERS = st.sampled_from(
    [0, 1, -1, 255, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62, 1 << 63]
)
ODD_BYTES = st.one_of(
    st.binary(min_size=1, max_size=8),
    NUMBERS.map(lambda number: (number % (1 << 64)).to_bytes(8, "little")),
    NUMBERS.map(lambda number: (number % (1 << 32)).to_bytes(4, "little")),
    st.sampled_from(
        [b"\xff\xfe", b"\x00", b'"', b"{", b"[" * 5000, b"(" * 5000, b"]" * 5000, b"."]
    ),
)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Some changes of a file's bytes, wherever it is long enough for them."""
    edits = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["flip", "cut", "insert", "overwrite", "double", "remove"]),
                # Most of what can go wrong is at the beginning and at the end.
                st.one_of(
                    st.integers(0, 200), st.integers(-200, -1), st.floats(0, 1, exclude_max=True)
                ),
                ODD_BYTES,
            ),
            min_size=1,
            max_size=3,
        )
    )

    def damage(content: bytes) -> bytes:
        for kind, where, odd in edits:
            at = int(where * len(content)) if isinstance(where, float) else where
            at = min(len(content), at if at >= 0 else max(0, len(content) + at))
            if kind == "flip" and at < len(content):
                content = content[:at] + bytes([content[at] ^ (odd[0] or 1)]) + content[at + 1 :]
            elif kind == "cut":
                content = content[:at]
            elif kind == "insert":
                content = content[:at] + odd + content[at:]
            elif kind == "overwrite":
                content = content[:at] + odd[:8] + content[at + len(odd[:8]) :]
            elif kind == "double":
                content = content[:at] + content[at : at + 100] + content[at:]
            else:
                content = content[:at] + content[at + len(odd) :]
        return content

    return damage


def use(found: Any) -> None:
    """Looks at every value, as whoever asked for them would."""
    if isinstance(found, dict):
        for value in list(found.values())[:100]:
            use(value)
    elif isinstance(found, Tensor):
        assert found.numel() < MOST_VALUES
        _ = found.clone()
    elif hasattr(found, "pieces"):
        source: TensorSource = found
        for piece in source.pieces():
            assert piece.dtype == source.dtype
            assert piece.numel() <= MOST_VALUES


def survives(read: Callable[[], Any]) -> None:
    with suppress(ShiftregError):
        use(read())


WEIGHTS = {
    "model.diffusion_model.out.2.bias": torch.arange(4.0),
    "half": torch.ones(2, 3, dtype=torch.float16),
    "count": torch.tensor(7),
}


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@given(damage=damages())
@fuzzed
def test_damaged_safetensors(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(damage(save(WEIGHTS, {"format": "pt"})))
    survives(lambda: read_safetensors(path)[0])
    survives(lambda: stored_safetensors(path)[0])
    survives(lambda: read_foreign_file(path).tensors)
    survives(lambda: single_file_contents(path))
    survives(lambda: load_shift(path))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
SIZES = st.lists(NUMBERS, max_size=4)
ENTRIES = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.one_of(st.sampled_from(["F32", "F16", "BOOL", "F4", "C64"]), JSON),
            "shape": st.one_of(SIZES, JSON),
            "data_offsets": st.one_of(st.tuples(NUMBERS, NUMBERS), SIZES, JSON),
        },
    ),
)


@given(
    entries=st.lists(st.tuples(st.sampled_from(["a", "b", "__metadata__", "é"]), ENTRIES)),
    length=st.one_of(st.none(), NUMBERS),
    values=st.integers(0, 64),
    depth=st.sampled_from([0, 0, 0, 100, 10_000]),
)
@fuzzed
def test_safetensors_headers_that_lie(
    tmp_path: Path, entries: list[tuple[str, Any]], length: int | None, values: int, depth: int
) -> None:
    # Written by hand, so that a name can be there twice.
    fields = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries]
    fields += [f'"deep": {"[" * depth}{"]" * depth}'] if depth else []
    header = f"{{{', '.join(fields)}}}".encode()
    size = len(header) if length is None else length % (1 << 64)
    path = tmp_path / "x.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + header + bytes(values))
    survives(lambda: read_safetensors(path)[0])
    survives(lambda: stored_safetensors(path)[0])
    survives(lambda: read_foreign_file(path).tensors)
    survives(lambda: load_shift(path))


@given(damage=damages(), zipped=st.booleans(), nested=st.booleans())
@fuzzed
def test_damaged_checkpoints(
    tmp_path: Path, damage: Callable[[bytes], bytes], zipped: bool, nested: bool
) -> None:
    content = {"state_dict": WEIGHTS, "epoch": 3, "callbacks": [{"a": 1}]} if nested else WEIGHTS
    path = tmp_path / "x.ckpt"
    path.write_bytes(damage(saved(content, _use_new_zipfile_serialization=zipped)))
    survives(lambda: load_pickle_checkpoint(path))
    survives(lambda: load_pickle_checkpoint(path, values=False))
    survives(lambda: read_foreign_file(path).tensors)
    survives(lambda: single_file_contents(path))


@given(damage=damages())
@fuzzed
def test_damaged_pickles_in_whole_archives(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "x.ckpt"
    with zipfile.ZipFile(io.BytesIO(saved(WEIGHTS))) as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            bad.writestr(name, damage(content) if name.endswith("data.pkl") else content)
    survives(lambda: load_pickle_checkpoint(path))
    survives(lambda: read_foreign_file(path).tensors)
    survives(lambda: single_file_contents(path))


# Instructions of pickles, in any order: names, calls, states, memory.
INSTRUCTIONS = st.one_of(
    st.sampled_from(
        [
            b"(", b")", b"]", b"}", b"0", b"1", b"2", b"N", b"\x88", b"a", b"b", b"d", b"e", b"l",
            b"o", b"s", b"t", b"u", b"R", b"Q", b"\x81", b"\x92", b"\x85", b"\x86", b"\x87",
            b"\x8f", b"\x90", b"\x91", b"\x93", b"\x94", b"K\x01", b"K\x03", b"X\x01\x00\x00\x00x",
            b"X\x07\x00\x00\x00storage", b"ctorch\nFloatStorage\n", b"h\x00", b"q\x00",
            b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_tensor_v3\n",
            b"ctorch._utils\n_rebuild_parameter\n", b"ccollections\nOrderedDict\n",
            b"clightning\nModel\n", b"cposix\nsystem\n", b"ilightning\nModel\n",
            b"ctorch\nSize\n", b"P0\n", b"r\xff\xff\xff\x7f", b"\x8a\x09" + b"\x7f" * 9,
        ]
    ),
    st.binary(max_size=3),
)  # fmt: skip


@given(program=st.lists(INSTRUCTIONS, max_size=40).map(b"".join), inside=st.booleans())
@fuzzed
def test_any_pickle(tmp_path: Path, program: bytes, inside: bool) -> None:
    code = b"\x80\x02}X\x01\x00\x00\x00y" + program + b"s." if inside else program + b"."
    path = tmp_path / "x.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/data/x", bytes(16))
    survives(lambda: load_pickle_checkpoint(path))
    survives(lambda: load_pickle_checkpoint(path, values=False))
    survives(lambda: read_foreign_file(path).tensors)
    path.write_bytes(code)
    survives(lambda: load_pickle_checkpoint(path))


@given(damage=damages(), index=JSON, whole=st.booleans())
@fuzzed
def test_damaged_indices_of_shards(
    tmp_path: Path, damage: Callable[[bytes], bytes], index: Any, whole: bool
) -> None:
    component = tmp_path / "unet"
    component.mkdir(exist_ok=True)
    (component / "config.json").write_text("{}")
    names = {"a": "one.safetensors", "b": "two.safetensors"}
    for name, file in names.items():
        (component / file).write_bytes(save({name: torch.ones(2)}))
    path = component / "model.safetensors.index.json"
    good = json.dumps({"metadata": {"total_size": 16}, "weight_map": names}).encode()
    path.write_bytes(json.dumps({"weight_map": index}).encode() if whole else damage(good))
    survives(lambda: read_component(component))
    survives(lambda: read_foreign_file(component).tensors)


@given(damage=damages())
@fuzzed
def test_damaged_shifts(
    tmp_path: Path, shift: ConceptShift, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "shift.safetensors"
    save_shift(shift, path, overwrite=True)
    path.write_bytes(damage(path.read_bytes()))
    survives(lambda: load_shift(path).tensors())


@given(damage=damages(), part=st.sampled_from(["weights", "config", "metadata"]))
@settings(fuzzed, max_examples=EXAMPLES // 4)
def test_damaged_adapters(
    tmp_path: Path, base: Path, damage: Callable[[bytes], bytes], part: str
) -> None:
    module = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    pair = {"lora_A": torch.ones(1, 8), "lora_B": torch.ones(8, 1)}
    weights = {f"base_model.model.{module}.{name}.weight": t for name, t in pair.items()}
    config = json.dumps({"r": 1, "lora_alpha": 1, "target_modules": ["to_k"]}).encode()
    metadata = {"lora_adapter_metadata": config.decode()} if part == "metadata" else None
    content = save(weights, metadata)
    folder = tmp_path / "adapter"
    folder.mkdir(exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(
        content if part == "config" else damage(content)
    )
    (folder / "adapter_config.json").write_bytes(damage(config) if part == "config" else config)
    survives(lambda: read_foreign(folder, base).deltas)


@pytest.fixture(scope="module")
def damaged_base(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a base, of which one file at a time is damaged."""
    weight_shapes(base)  # imports what it needs
    return Path(shutil.copytree(base, tmp_path_factory.mktemp("damaged") / "base"))


@given(
    damage=damages(),
    name=st.sampled_from(
        ["model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"]
    ),
)
@settings(fuzzed, max_examples=EXAMPLES // 8)
def test_damaged_configurations(
    base: Path, damaged_base: Path, damage: Callable[[bytes], bytes], name: str
) -> None:
    good = (base / name).read_bytes()
    (damaged_base / name).write_bytes(damage(good))
    try:
        survives(lambda: read_checkpoint(damaged_base))
        with suppress(ShiftregError):
            shapes = weight_shapes(damaged_base)
            sort_single_file(Path("x"), {}, shapes, damaged_base)
    finally:
        (damaged_base / name).write_bytes(good)
