"""What every engine gets and tells: independent tasks, one function, and who hears of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

Work = Callable[[Any, Callable[[object], None]], Any]
"""Does one task: gets it and a function to report by, gives its result.

Both, task and result, are pickled where another process does the work; so is every report.
"""

ATTEMPTS = 3


class Listener(Protocol):
    """Who is told of the tasks, always in the process and thread that called ``run``."""

    def started(self, number: int) -> None:
        """Work on a task begins; a second time if its worker died."""
        ...

    def told(self, number: int, report: Any) -> None:
        """A task reports."""
        ...

    def finished(self, number: int, result: Any) -> None:
        """A task is done."""
        ...

    def failed(self, number: int, error: Exception) -> None:
        """A task raised, or its workers died too often; the others go on."""
        ...


class Engine(ABC):
    """Where tasks are done. It may be used again, and is closed at the end."""

    @abstractmethod
    def run(self, tasks: Sequence[Any], work: Work, listener: Listener) -> None:
        """Does all tasks, and returns when each has finished or failed.

        Args:
            tasks: In the order in which they are begun.
            work: A function of a module, so that other processes find it by its name.
            listener: Told of everything.
        """

    def close(self) -> None:  # noqa: B027 - an engine may have nothing to close
        """Ends the workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class WorkerDiedError(RuntimeError):
    """The process that did a task ended without a word: killed, or out of memory."""

    def __init__(self, attempts: int = ATTEMPTS) -> None:
        super().__init__(
            f"Its worker died {attempts} times, perhaps for want of memory: try fewer --workers."
        )
