"""Composing 8 of 9 shifts and writing the checkpoint, beside `cp` and beside peft."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rows.measure import Line, Setting, at_most, child, peak_megabytes, race, reset_peak, under
from rows.world import composed, shifts
from shiftreg.checkpoints import export_checkpoint, recipe_path_of

COUNT = 8  # of 9: one is left out
FOLDER = "folder"
FORMS = (("ckpt", "float32"), ("safetensors", "float16"))
BARE = "import torch; print(open('/proc/self/status').read())"


def measure(setting: Setting) -> list[Line]:
    lines = []
    for suffix, dtype in FORMS:
        lines += _beside_copying(setting, suffix, dtype)
    repeats = range(min(3, setting.repeats))
    # diffusers writes no single files: its folder is the peer of all three forms.
    fused = {
        dtype: [child(setting, "exporting", f"peft-{dtype}") for _ in repeats]
        for dtype in ("float32", "float16")
    }
    safe = {
        dtype: [child(setting, "exporting", f"peft-{dtype}-safe") for _ in repeats]
        for dtype in ("float32", "float16")
    }
    for form, dtype in ((FOLDER, "float16"), *FORMS):
        ours = [child(setting, "exporting", form) for _ in repeats]
        lines.append(
            at_most(
                1 / 3,
                f"compose and write {form}, {dtype}",
                [one["wall"] for one in ours],
                "diffusers + peft: load, fuse, save a folder",
                [one["wall"] for one in fused[dtype]],
                others={"ours": [one["processor"] for one in ours]}
                | {"peer": [one["processor"] for one in fused[dtype]]},
            )
        )
        lines.append(
            Line(
                f"compose and write {form}, {dtype}",
                [one["wall"] for one in ours],
                "the same, then `sync` and `sha256sum`: what the export replaces",
                [one["wall"] for one in safe[dtype]],
            )
        )
        memory = [one["peak"] - _bare() for one in ours]
        what = f"memory of composing and writing {form}, beyond an interpreter with torch"
        lines.append(under(500, what, memory, unit="MB"))
    return lines


def _beside_copying(setting: Setting, suffix: str, dtype: str) -> list[Line]:
    base = setting.base(dtype)
    target, copy = (setting.folder / f"{name}.{suffix}" for name in ("model", "copy"))
    reference = setting.folder / f"reference.{suffix}"
    shifts(setting, COUNT)
    if not reference.exists():
        _export(setting, dtype, reference)

    def clear() -> None:
        for path in (target, recipe_path_of(target), copy):
            path.unlink(missing_ok=True)
        # Otherwise the last one's bytes are written to the disk during the next one's turn.
        os.sync()

    def cold() -> None:
        clear()
        for path in (reference, *base.rglob("*.safetensors")):
            _evict(path)

    def cp(*more: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            subprocess.run(["cp", reference, copy], check=True)
            for further in more:
                further()

        return run

    def sync() -> None:
        subprocess.run(["sync", copy], check=True)

    def digest() -> None:
        subprocess.run(["sha256sum", copy], check=True, stdout=subprocess.DEVNULL)

    candidates = {"ours": lambda: _export(setting, dtype, target), "cp": cp(), "sync": cp(sync)}
    for path in (reference, *base.rglob("*.safetensors")):
        path.read_bytes() if setting.toy else _warm(path)
    warm = race(setting, candidates | {"sum": cp(sync, digest)}, before=clear)
    again = race(setting, candidates, before=cold)
    clear()
    size = reference.stat().st_size / 1e9
    reference.unlink()
    recipe_path_of(reference).unlink()
    what = f"compose {COUNT} of 9 and write {size:.1f} GB .{suffix}"
    peers = {
        "sync": "`cp` and `sync`, as the export does",
        "sum": "`cp`, `sync` and `sha256sum`: what the export replaces",
    }
    lines = []
    for cache, times in (("warm", warm), ("cold", again)):
        named = f"{what}, {cache} cache"
        more = {"others": {name: t.processor for name, t in times.items()}}
        lines.append(at_most(1.25, named, times["ours"].wall, "`cp`", times["cp"].wall, **more))
        lines += [
            Line(named, times["ours"].wall, peer, times[key].wall)
            for key, peer in peers.items()
            if key in times
        ]
    return lines


def _export(setting: Setting, dtype: str, target: Path) -> None:
    weights = composed(setting, dtype, COUNT)
    export_checkpoint(setting.base(dtype), weights, target, {"a": "benchmark"})


def in_child(setting: Setting, what: str) -> dict[str, Any]:
    shifts(setting, COUNT)
    suffix = f".{what}" if what in dict(FORMS) else ""
    target = setting.folder / f"in-child{suffix}"
    peft, _, dtype = what.partition("-")
    if peft == "peft":
        from rows.peers import peft_fused

        dtype, _, safe = dtype.partition("-")

        def work() -> None:
            peft_fused(setting, dtype, COUNT, target)
            if safe:
                files = [path for path in target.rglob("*") if path.is_file()]
                subprocess.run(["sync", *files], check=True)
                subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)
    else:
        dtype = dict(FORMS).get(what, "float16")

        def work() -> None:
            _export(setting, dtype, target)

    reset_peak()
    wall, processor = time.perf_counter(), time.process_time()
    work()
    result = {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "peak": peak_megabytes(),
    }
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    recipe_path_of(target).unlink(missing_ok=True)
    return result


def _bare() -> float:
    """Memory of an interpreter that has imported torch."""
    done = subprocess.run(
        [sys.executable, "-c", BARE], check=True, stdout=subprocess.PIPE, text=True
    )
    return next(
        int(line.split()[1]) / 1024 for line in done.stdout.splitlines() if line[:6] == "VmHWM:"
    )


def _warm(path: Path) -> None:
    subprocess.run(["cat", path], check=True, stdout=subprocess.DEVNULL)


def _evict(path: Path) -> None:
    """Asks the system to forget what it has of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
