"""One task after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from shiftreg.engines.base import Engine, Listener, Work


class InProcess(Engine):
    """Does the tasks here, in their order."""

    def run(self, tasks: Sequence[Any], work: Work, listener: Listener) -> None:
        """See :class:`shiftreg.engines.Engine`."""
        for number, task in enumerate(tasks):
            listener.started(number)
            try:
                result = work(task, partial(listener.told, number))
            except Exception as error:  # noqa: BLE001 - told, not hidden
                listener.failed(number, error)
            else:
                listener.finished(number, result)
