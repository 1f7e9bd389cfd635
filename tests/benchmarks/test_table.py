"""The benchmark runs from end to end on a base that is nearly empty: its numbers mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.second_tier
@pytest.mark.parametrize(
    "row", ["null_space", "srs_me_step", "closed_form", "shift_size", "switching"]
)
def test_a_row_is_measured_and_kept_in_the_table(tmp_path: Path, row: str) -> None:
    command = [sys.executable, BENCHMARKS / "table.py", "--family", "toy", "--rows", row]
    done = subprocess.run(
        [*command, "--folder", tmp_path / "bases", "--out", tmp_path / "out"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "benchmarks.json").read_text(encoding="utf-8"))
    assert results["family"] == "toy"
    (lines,) = results["rows"].values()
    assert lines
    assert all(value > 0 for line in lines for value in line["ours"])
    table = (tmp_path / "out" / "benchmarks-table.md").read_text(encoding="utf-8")
    for line in lines:
        assert f"| {line['what']} |" in table
