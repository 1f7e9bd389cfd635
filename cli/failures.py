"""What a failure looks like: one red line on stderr, and an exit code."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from shiftreg.errors import ShiftregError

from .console import message_console, print_line

CHECK_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


@contextmanager
def reported(*, show_traceback: bool = False) -> Iterator[None]:
    """Turns whatever goes wrong inside into a message and an exit code.

    Args:
        show_traceback: Print where it happened, too.

    Raises:
        typer.Exit: With the code.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
        raise  # Typer's own ways to end a command
    except KeyboardInterrupt:
        _fail(
            "Interrupted: what was not finished left nothing behind. See: shiftreg list",
            show_traceback,
        )
        raise typer.Exit(INTERRUPTED) from None
    except ShiftregError as error:
        _fail(f"Error: {_one_line(error)}", show_traceback)
        raise typer.Exit(BAD_INPUT) from error
    except Exception as error:
        place = "" if show_traceback else ". Add --traceback to see where it happened."
        _fail(f"Unexpected {type(error).__name__}: {_one_line(error)}{place}", show_traceback)
        raise typer.Exit(BAD_INPUT) from error


def _fail(message: str, show_traceback: bool) -> None:
    console = message_console()
    if show_traceback:
        for line in traceback.format_exc().splitlines():
            print_line(console, line)
    print_line(console, message, style="red")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
