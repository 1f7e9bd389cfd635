from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from shiftreg.engines import ProcessPool, WorkerDiedError
from shiftreg.errors import InvalidInputError
from tests.engines.work import Heard, die_if_odd, die_once, sleep_long, square, who


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_are_other_processes_and_share_the_tasks() -> None:
    heard = Heard()
    with ProcessPool(2) as pool:
        pool.run(range(4), who, heard)
    pids = {pid for pid, _, _ in heard.results.values()}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_workers_have_the_threads_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    heard = Heard()
    with ProcessPool(1, threads=3) as pool:
        pool.run([0], who, heard)
    assert heard.results[0][1:] == ("3", "PASSIVE")
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OMP_WAIT_POLICY" not in os.environ


def test_a_worker_that_dies_is_replaced_and_its_task_done_again(tmp_path: Path) -> None:
    heard = Heard()
    with ProcessPool(2) as pool:
        pool.run([tmp_path / "a", tmp_path / "b"], die_once, heard)
    assert heard.results == {0: "survived", 1: "survived"}
    assert sorted(heard.starts) == [0, 0, 1, 1]


def test_a_task_whose_workers_always_die_fails_and_the_others_are_done() -> None:
    heard = Heard()
    with ProcessPool(2) as pool:
        pool.run([0, 1, 2], die_if_odd, heard)
    assert heard.results == {0: 0, 2: 2}
    assert isinstance(heard.errors[1], WorkerDiedError)
    assert "died 3 times" in str(heard.errors[1])
    assert heard.starts.count(1) == 3


def test_a_worker_that_dies_while_it_has_nothing_to_do_is_replaced() -> None:
    heard, again = Heard(), Heard()
    with ProcessPool(1) as pool:
        pool.run([0], who, heard)
        os.kill(heard.results[0][0], signal.SIGKILL)
        pool.run([3], square, again)
    assert again.results == {0: 9}


def test_an_interrupt_ends_the_workers() -> None:
    class Interrupting(Heard):
        def reported(self, number: int, report: Any) -> None:
            super().reported(number, report)
            raise KeyboardInterrupt

    heard = Interrupting()
    with ProcessPool(2) as pool, pytest.raises(KeyboardInterrupt):
        pool.run([0, 1], sleep_long, heard)
    assert not any(is_alive(pid) for _, pid in heard.reports)


def test_closing_ends_the_workers() -> None:
    heard = Heard()
    with ProcessPool(1) as pool:
        pool.run([0], who, heard)
    assert not is_alive(heard.results[0][0])


def test_workers_end_with_the_process_that_asked(tmp_path: Path) -> None:
    """Killed, it cannot say good-bye: workers see that nobody listens any more."""
    import subprocess
    import sys

    script = (
        "from pathlib import Path\n"
        "from shiftreg.engines import ProcessPool\n"
        "from tests.engines.work import Heard, who\n"
        "class Writing(Heard):\n"
        "    def finished(self, number, result):\n"
        f"        Path({str(tmp_path / 'pid')!r}).write_text(str(result[0]))\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPool(1)\n"
        "    pool.run([0], who, Writing())\n"
        "    input()\n"
    )
    (tmp_path / "script.py").write_text(script)
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))},
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    worker = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(worker)


def test_fewer_than_one_worker_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least 1 worker, not 0"):
        ProcessPool(0)


def test_work_may_be_given_from_another_thread() -> None:
    heard = Heard()
    with ProcessPool(1) as pool:
        thread = threading.Thread(target=pool.run, args=([2], square, heard))
        thread.start()
        thread.join()
    assert heard.results == {0: 4}
