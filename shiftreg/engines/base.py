"""Engines: independent tasks, one function, a listener; and the one that works in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, Self

Work = Callable[[Any, Callable[[object], None]], Any]
"""Does one task: gets it and a function to report by, gives its result.

Both, task and result, are pickled where another process does the work; so is every report.
"""

ATTEMPTS = 3


class Listener(Protocol):
    """Hears of the tasks, always in the process and thread that called ``run``."""

    def started(self, number: int) -> None:
        """Work on a task begins; a second time if its worker died."""

    def reported(self, number: int, report: Any) -> None:
        """A task reports."""

    def finished(self, number: int, result: Any) -> None:
        """A task is done."""

    def failed(self, number: int, error: Exception) -> None:
        """A task raised, or its workers died too often; the others go on."""


class Engine(ABC):
    """Where tasks are done. It may be used again, and is closed at the end."""

    @abstractmethod
    def run(self, tasks: Sequence[Any], work: Work, listener: Listener) -> None:
        """Does all tasks, and returns when each has finished or failed.

        Args:
            tasks: In the order in which they are begun.
            work: A function of a module, so that other processes find it by its name.
        """

    def close(self) -> None:  # noqa: B027 - an engine may have nothing to close
        """Ends the workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class InProcess(Engine):
    """Does the tasks in this process, one after the other."""

    def run(self, tasks: Sequence[Any], work: Work, listener: Listener) -> None:
        """See :class:`shiftreg.engines.Engine`."""
        for number, task in enumerate(tasks):
            listener.started(number)
            try:
                result = work(task, partial(listener.reported, number))
            except Exception as error:  # noqa: BLE001 - reported, not hidden
                listener.failed(number, error)
            else:
                listener.finished(number, result)


class WorkerDiedError(RuntimeError):
    """The process that did a task ended without a word: killed, or out of memory."""

    def __init__(self) -> None:
        super().__init__(
            f"Its worker died {ATTEMPTS} times, perhaps for want of memory: try fewer --workers."
        )
