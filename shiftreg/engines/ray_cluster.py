"""Several tasks at once, on the machines of a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from shiftreg.engines.base import ATTEMPTS, Engine, Listener, Work, WorkerDiedError
from shiftreg.engines.process_pool import portable, thread_settings
from shiftreg.errors import MissingExtraError, StorageError

POLL_SECONDS = 0.1
KNOCK_SECONDS = 10.0


class RayCluster(Engine):
    """Does tasks wherever the cluster has a free processor; shiftreg is installed on each machine.

    The cluster is the one that this process is connected to, or that ``RAY_ADDRESS`` names, or one
    that begins and ends with the work on this machine.
    """

    def __init__(self, workers: int | None = None, threads: int | None = None) -> None:
        """Chooses how much at once; the cluster is asked when the work begins.

        Args:
            workers: Tasks at once; as many as the cluster has processors by default.
            threads: Of each task; see ``ProcessPool``.

        Raises:
            MissingExtraError: Ray is not installed.
        """
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(
                "The engine 'ray' needs Ray. Install it: pip install 'shiftreg[ray]'"
            ) from error
        self._workers, self._threads = workers, threads
        self._is_ours = False

    def run(self, tasks: Sequence[Any], work: Work, listener: Listener) -> None:
        """See :class:`shiftreg.engines.Engine`.

        Raises:
            StorageError: The cluster cannot be reached.
        """
        import ray
        from ray.util.queue import Queue

        if not ray.is_initialized():
            _connect()
            self._is_ours = True
        mailbox = Queue(actor_options={"num_cpus": 0})
        options: dict[str, Any] = {"num_cpus": 1, "max_retries": 0}
        if self._threads:
            options["runtime_env"] = {"env_vars": thread_settings(self._threads)}
        remote = ray.remote(**options)(_do)
        at_once = self._workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = deque(range(len(tasks)))
        attempts: Counter[int] = Counter()
        under_way: dict[Any, int] = {}
        try:
            while waiting or under_way:
                while waiting and len(under_way) < at_once:
                    number = waiting.popleft()
                    attempts[number] += 1
                    under_way[remote.remote(work, number, tasks[number], mailbox)] = number
                ready, _ = ray.wait([*under_way], timeout=POLL_SECONDS)
                _deliver(mailbox, listener)  # what a task reported before it ended comes first
                for reference in ready:
                    number = under_way.pop(reference)
                    try:
                        kind, value = ray.get(reference)
                    except ray.exceptions.RayError:
                        if attempts[number] < ATTEMPTS:
                            waiting.appendleft(number)
                        else:
                            listener.failed(number, WorkerDiedError())
                        continue
                    if kind == "finished":
                        listener.finished(number, value)
                    else:
                        listener.failed(number, value)
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)
            mailbox.shutdown(force=True)

    def close(self) -> None:
        """Leaves the cluster, if it was joined for this."""
        if self._is_ours:
            import ray

            ray.shutdown()
            self._is_ours = False


def _connect() -> None:
    import ray

    address = os.environ.get("RAY_ADDRESS")
    try:
        _knock(address or "")
        ray.init(
            address=address,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise StorageError(
            f"The Ray cluster at '{address or 'this machine'}' cannot be reached: {error}. Check "
            "RAY_ADDRESS, or choose another --engine."
        ) from error


def _knock(address: str) -> None:
    """Whether anybody is there at "host:port": Ray itself asks for minutes, and ends the process.

    Raises:
        OSError: Nobody is.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def _do(work: Work, number: int, task: Any, mailbox: Any) -> tuple[str, Any]:
    """Does a task on some machine of the cluster."""
    mailbox.put((number, "started", None))
    notify: Callable[[object], None] = lambda report: mailbox.put((number, "reported", report))  # noqa: E731
    try:
        return "finished", work(task, notify)
    except Exception as error:  # noqa: BLE001 - reported, not hidden
        return "failed", portable(error)


def _deliver(mailbox: Any, listener: Listener) -> None:
    from ray.util.queue import Empty

    with suppress(Empty):
        while True:
            number, kind, report = mailbox.get_nowait()
            if kind == "started":
                listener.started(number)
            else:
                listener.reported(number, report)
