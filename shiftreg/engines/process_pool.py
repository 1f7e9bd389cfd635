"""Several tasks at once, in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from shiftreg.engines.base import ATTEMPTS, Engine, Listener, Work, WorkerDiedError
from shiftreg.errors import InvalidInputError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

GRACE_SECONDS = 5.0


class ProcessPool(Engine):
    """Does tasks in workers that outlive a task and a run, and replaces those that die.

    Not ``concurrent.futures``: there, one dead worker breaks the whole pool, nobody knows whose
    task it had, and an interrupted pool is waited for.
    """

    def __init__(self, workers: int, threads: int | None = None) -> None:
        """Chooses how much at once; the processes begin with the work.

        Args:
            threads: Of each process. How sums are split among threads decides their last bit: the
                same number here as elsewhere gives the same bits. None leaves it to the libraries.

        Raises:
            InvalidInputError: Fewer than one worker.
        """
        if workers < 1:
            raise InvalidInputError(f"Work takes at least 1 worker, not {workers}.")
        self._workers, self._threads = workers, threads
        self._idle: list[_Worker] = []

    def run(self, tasks: Sequence[Any], work: Work, listener: Listener) -> None:
        """See :class:`shiftreg.engines.Engine`."""
        waiting = deque(range(len(tasks)))
        attempts: Counter[int] = Counter()
        busy: dict[Connection, _Worker] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self._workers:
                    number = waiting.popleft()
                    attempts[number] += 1
                    listener.started(number)
                    worker = self._idle.pop() if self._idle else _begin(self._threads)
                    worker.take(number, work, tasks[number])
                    busy[worker.connection] = worker
                for connection in wait([*busy]):
                    worker = busy[connection]  # type: ignore[index]
                    try:
                        kind, value = worker.answer()
                    except (EOFError, OSError):
                        busy.pop(worker.connection).end()
                        if attempts[worker.number] < ATTEMPTS:
                            waiting.appendleft(worker.number)
                        else:
                            listener.failed(worker.number, WorkerDiedError())
                        continue
                    if kind == "reported":
                        listener.reported(worker.number, value)
                        continue
                    self._idle.append(busy.pop(worker.connection))
                    notify = listener.finished if kind == "finished" else listener.failed
                    notify(worker.number, value)
        finally:
            for worker in busy.values():
                worker.end()

    def close(self) -> None:
        """Ends the workers."""
        while self._idle:
            self._idle.pop().end()


@dataclass
class _Worker:
    """A process, the way to it, and the task that it has."""

    process: SpawnProcess
    connection: Connection
    number: int = -1

    def take(self, number: int, work: Work, task: Any) -> None:
        """Gives it a task."""
        self.number = number
        # One that died while it was idle is noticed when it is asked for its answer.
        with suppress(BrokenPipeError):
            self.connection.send_bytes(_packed((work, task)))

    def answer(self) -> tuple[str, Any]:
        """What it says next.

        Raises:
            EOFError: It died.
        """
        answer: tuple[str, Any] = _unpacked(self.connection.recv_bytes())
        return answer

    def end(self) -> None:
        """Ends it, whatever it does: nothing that it has not reported is kept."""
        self.connection.close()
        self.process.terminate()
        self.process.join(GRACE_SECONDS)
        self.process.kill()
        self.process.join()


def _begin(threads: int | None) -> _Worker:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    with _environment(threads):
        process.start()
    theirs.close()  # so that its end shows here
    return _Worker(process, ours)


def thread_settings(threads: int | None) -> dict[str, str]:
    """Variables for a worker of so many threads; None leaves that to the libraries."""
    # Threads that wait without spinning leave the processor to the other workers.
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if threads else ()
    return dict.fromkeys(names, str(threads)) | {"OMP_WAIT_POLICY": "PASSIVE"}


@contextmanager
def _environment(threads: int | None) -> Iterator[None]:
    """What a new process finds: libraries read it when they are loaded, and not later."""
    wanted = thread_settings(threads)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _serve(connection: Connection) -> None:
    """The life of a worker: tasks in, answers out, until nobody is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends the others
    # By an exception: what libraries hold of the system is given back, where it can be in time.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    def send(kind: str, value: Any) -> None:
        connection.send_bytes(_packed((kind, value)))

    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            work, task = _unpacked(connection.recv_bytes())
            try:
                result = work(task, lambda report: send("reported", report))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # noqa: BLE001 - reported, not hidden
                send("failed", portable(error))
            else:
                send("finished", result)


def portable(error: Exception) -> Exception:
    """The error, or one that says the same, such as another process can read."""
    trace = traceback.format_exc()
    try:
        _unpacked(_packed(error))
    except Exception:  # noqa: BLE001 - whatever keeps it from being copied
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"In a worker:\n{trace}")
    return error


def _packed(value: Any) -> bytes:
    # Bytes, and not Connection.send: with that, torch lends its memory instead of copying it, and
    # what a worker lent is gone when it ends.
    return pickle.dumps(value)


def _unpacked(content: bytes) -> Any:
    return pickle.loads(content)  # noqa: S301 - from a process of ours, by a pipe of ours
