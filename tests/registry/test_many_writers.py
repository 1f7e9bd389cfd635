"""Several processes at once, on both back ends; benchmarks/concurrency.py says what must hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Server

pytestmark = pytest.mark.second_tier
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "concurrency.py"


def many_writers(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--seconds", "4", "--processes", "4", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)
    assert counts["problems"] == []
    assert counts["erase"] > 0
    assert counts["restore"] > 0


def test_many_writers_of_one_home_lose_and_contradict_nothing() -> None:
    many_writers()


def test_many_writers_on_a_server_lose_and_contradict_nothing(server: Server) -> None:
    many_writers("--tracking-uri", server.uri)
