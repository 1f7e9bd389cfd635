"""Measuring side by side: turn by turn, in wall and processor time, and the values of the table."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

QUIET_SHARE, PATIENCE = 0.9, 20.0
TABLE = Path(__file__).parents[1] / "table.py"


@dataclass(frozen=True)
class Setting:
    """What is measured on.

    Attributes:
        folder: Bases ``<family>-<dtype>`` and scratch files lie here; much room is needed.
        family: Of ``full_size_base.FAMILIES``.
        repeats: Times that what takes seconds is done.
        patient: Whether to wait for quieter moments.
    """

    folder: Path
    family: str
    repeats: int
    patient: bool

    @property
    def toy(self) -> bool:
        return self.family == "toy"

    def base(self, dtype: str) -> Path:
        """The base's folder, made at first use."""
        folder = self.folder / f"{self.family}-{dtype}"
        if not folder.exists():
            script = TABLE.with_name("full_size_base.py")
            made = folder.with_name(f"{folder.name}.partial")
            command = [sys.executable, script, self.family, made, "--dtype", dtype]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            made.rename(folder)
        return folder


@dataclass(frozen=True)
class Times:
    """Seconds, a value a repetition."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def of(self, clock: Clock) -> list[float]:
        return self.wall if clock == "wall" else self.processor


Clock = Literal["wall", "processor"]


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes:
        what: Was measured.
        ours: Values of shiftreg.
        peer: Who it is compared with; "" for a bar alone.
        theirs: Values of the peer.
        unit: "s", "MB" or "".
        bar: In words.
        holds: Whether it is reached; None where there is none.
        note: What else to know.
        others: Further values, by name.
    """

    what: str
    ours: Sequence[float]
    peer: str = ""
    theirs: Sequence[float] = ()
    unit: str = "s"
    bar: str = ""
    holds: bool | None = None
    note: str = ""
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Ours by theirs, of the medians."""
        return median(self.ours) / median(self.theirs) if self.theirs else None


def at_most(
    limit: float, what: str, ours: Sequence[float], peer: str, theirs: Sequence[float], **more: Any
) -> Line:
    """A comparison that holds while ours is at most ``limit`` times theirs."""
    line = Line(what, ours, peer, theirs, bar=f"at most {limit:g} times", **more)
    assert line.ratio is not None
    return _judged(line, line.ratio <= limit)


def under(limit: float, what: str, ours: Sequence[float], **more: Any) -> Line:
    """A comparison with a number alone."""
    unit = more.get("unit", "s")
    line = Line(what, ours, bar=f"at most {limit:g} {unit}".strip(), **more)
    return _judged(line, median(ours) <= limit)


def _judged(line: Line, holds: bool) -> Line:
    return Line(**{**line.__dict__, "holds": holds})


def race(
    setting: Setting,
    candidates: Mapping[str, Callable[[], object]],
    *,
    repeats: int | None = None,
    before: Callable[[], object] = lambda: None,
) -> dict[str, Times]:
    """Lets candidates take turns, so that what disturbs one disturbs the others as well.

    Args:
        setting: How often, and whether to wait for quiet.
        candidates: What to time; child processes count.
        repeats: Instead of the setting's.
        before: Done before each, not timed.
    """
    times = {name: Times() for name in candidates}
    for _ in range(repeats or setting.repeats):
        for name, work in candidates.items():
            before()
            if setting.patient:
                wait_for_quiet()
            wall, processor = time.perf_counter(), _processor_time()
            work()
            times[name].wall.append(time.perf_counter() - wall)
            times[name].processor.append(_processor_time() - processor)
    return times


def per_call(work: Callable[[], object], calls: int) -> Callable[[], object]:
    """For what takes little time: many calls in a row."""

    def many() -> None:
        for _ in range(calls):
            work()

    return many


def _processor_time() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def wait_for_quiet() -> None:
    """Waits until nearly nothing else runs, but not for ever."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        idle, total = _ticks()
        time.sleep(0.5)
        later_idle, later_total = _ticks()
        if later_idle - idle > QUIET_SHARE * (later_total - total):
            return


def _ticks() -> tuple[int, int]:
    path = Path("/proc/stat")
    if not path.exists():
        return 1, 0  # nothing is known: as good as quiet
    values = [int(text) for text in path.read_text().split("\n", 1)[0].split()[1:]]
    return values[3] + values[4], sum(values)


def reset_peak() -> None:
    """Forgets how much memory this process has had."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak_megabytes() -> float:
    """The most memory that this process has had at once, mapped files included."""
    path = Path("/proc/self/status")
    if not path.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = path.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def child(setting: Setting, row: str, *arguments: str) -> Any:
    """What ``rows.<row>.in_child(setting, *arguments)`` gives in a process of its own."""
    command = [sys.executable, TABLE, "--folder", setting.folder, "--family", setting.family]
    command += ["--repeats", str(setting.repeats), "--child", row, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """What the machine has, in general terms."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cores": os.cpu_count(), "memory": f"{pages / 2**30:.0f} GiB", "system": sys.platform}
