"""What a failure looks like: one red line on stderr, and an exit code."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from shiftreg.errors import ShiftregError

from .console import message_console, print_line

CHECK_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130
INTERRUPTION = "Interrupted: unfinished work left nothing behind. See: shiftreg list"


@contextmanager
def reported(*, show_traceback: bool = False) -> Iterator[None]:
    """Turns any failure inside into a message and an exit code.

    Args:
        show_traceback: Also print where it happened.

    Raises:
        typer.Exit: With the code.
    """
    with _noticed_interrupt() as interrupted:
        try:
            yield
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise  # Typer's own ways to end a command
        except (KeyboardInterrupt, Exception) as error:
            if interrupted.is_set() or isinstance(error, KeyboardInterrupt):
                message, code = INTERRUPTION, INTERRUPTED
            elif isinstance(error, ShiftregError):
                message, code = f"Error: {_one_line(error)}", BAD_INPUT
            else:
                place = "" if show_traceback else ". Add --traceback to see where it happened."
                message = f"Unexpected {type(error).__name__}: {_one_line(error)}{place}"
                code = BAD_INPUT
            _fail(message, show_traceback)
            raise typer.Exit(code) from error


@contextmanager
def _noticed_interrupt() -> Iterator[threading.Event]:
    """Remembers Ctrl-C: libraries turn a KeyboardInterrupt into errors of their own."""
    interrupted = threading.Event()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals never arrive there
        yield interrupted
        return
    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def fail_unless(passed: bool) -> None:
    """Ends a command whose check failed.

    Raises:
        typer.Exit: With the code for that.
    """
    if not passed:
        raise typer.Exit(CHECK_FAILED)


def _fail(message: str, show_traceback: bool) -> None:
    from shiftreg.settings import without_secret

    console = message_console()
    if show_traceback:
        for line in traceback.format_exc().splitlines():
            print_line(console, without_secret(line))
    print_line(console, without_secret(message), style="red")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
