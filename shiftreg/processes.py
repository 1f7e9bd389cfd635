"""Whose something is: the machine and the process, so that leftovers of dead ones are known."""

from __future__ import annotations

import hashlib
import os
import socket


def this_process() -> str:
    """A short word for this machine and this process, such as "3f2a90c1-4711"."""
    return f"{_machine()}-{os.getpid()}"


def is_gone(word: str) -> bool:
    """Whether :func:`this_process` said so in a process of this machine that lives no more.

    Of another machine's nothing is known, and a number that is in use again counts as the old one:
    both are taken to live.
    """
    machine, _, number = word.rpartition("-")
    if machine != _machine() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
