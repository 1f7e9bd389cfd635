"""Tasks that engines are tested with, in a module that other processes can import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Heard:
    """A listener that writes down what it hears, and in which process."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.reports: list[tuple[int, Any]] = []
        self.results: dict[int, Any] = {}
        self.errors: dict[int, Exception] = {}

    def started(self, number: int) -> None:
        self.starts.append(number)

    def reported(self, number: int, report: Any) -> None:
        self.reports.append((number, report))

    def finished(self, number: int, result: Any) -> None:
        self.results[number] = result

    def failed(self, number: int, error: Exception) -> None:
        self.errors[number] = error


def square(task: int, tell: Callable[[object], None]) -> int:
    tell(f"half of {task}")
    tell(f"all of {task}")
    return task * task


def refuse_odd(task: int, tell: Callable[[object], None]) -> int:
    if task % 2:
        raise ValueError(f"{task} is odd")
    return task


class Stubborn(Exception):  # noqa: N818 - what it is called does not matter
    """An error that cannot be copied."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("no copy")


def raise_stubborn(task: int, tell: Callable[[object], None]) -> None:
    raise Stubborn(1, 2)


def die_once(task: Path, tell: Callable[[object], None]) -> str:
    """Is killed the first time, as by a machine that is out of memory."""
    if not task.exists():
        task.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def die_if_odd(task: int, tell: Callable[[object], None]) -> int:
    if task % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def who(task: object, tell: Callable[[object], None]) -> tuple[int, str | None, str | None]:
    time.sleep(0.5)  # long enough for another worker to take the next
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), os.environ.get("OMP_WAIT_POLICY")


def which_node(task: object, tell: Callable[[object], None]) -> str:
    import ray

    time.sleep(0.5)
    return str(ray.get_runtime_context().get_node_id())


def sleep_long(task: object, tell: Callable[[object], None]) -> None:
    tell(os.getpid())
    time.sleep(600)
