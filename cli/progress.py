"""Progress of long work: a bar with the stage, the time left, and the numbers of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from .console import message_console, safe

if TYPE_CHECKING:
    from shiftreg.api.values import Observer, Progress


@contextmanager
def watched(*, quiet: bool = False) -> Iterator[Observer]:
    """An observer that draws a bar on stderr, and clears it at the end.

    Args:
        quiet: Draw nothing, as when stderr is not a terminal.
    """
    console = message_console()
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        yield _look_away
        return
    with bars(console) as display:
        yield Watcher(display)


def bars(console: Console) -> Bars:
    """The display: stage, bar, done of total, numbers, time left."""
    return Bars(
        _Field("stage", "bold"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        _Field("numbers", "cyan"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    )


class _Field(ProgressColumn):
    """A field of the task as plain text: a stage may hold a concept's name."""

    def __init__(self, field: str, style: str) -> None:
        super().__init__()
        self._field, self._style = field, style

    def render(self, task: Task) -> Text:
        return Text(safe(task.fields.get(self._field, "")), style=self._style)


class Watcher:
    """An observer with one bar per lane, for its current stage."""

    def __init__(self, display: Bars) -> None:
        self._display = display
        self._bars = {"": display.add_task("", total=None, stage="starting")}
        self._stages = {"": ""}

    def __call__(self, progress: Progress) -> None:
        """Shows how far the work is."""
        lane = progress.lane
        if progress.stage != self._stages.get(lane):
            self._remove(lane)
            # One thing of several: its name, unless the stage says it.
            stage = progress.stage if lane in progress.stage else f"{lane}: {progress.stage}"
            self._bars[lane] = self._display.add_task("", stage=stage)
            self._stages[lane] = progress.stage
        self._display.update(
            self._bars[lane],
            total=progress.total,
            completed=progress.done,
            numbers=numbers(progress),
        )
        if lane and progress.done >= progress.total:
            self._remove(lane)

    def _remove(self, lane: str) -> None:
        if lane in self._bars:
            self._display.remove_task(self._bars.pop(lane))
            del self._stages[lane]


def numbers(progress: Progress) -> str:
    """The numbers of a step: "loss 0.123, momentum average 0.2"."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" for name, value in progress.values.items()
    )


def _look_away(_progress: Progress) -> None:
    """An observer that shows nothing."""
