from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shiftreg import api
from shiftreg.api.report.report import ReportResult
from shiftreg.api.values import Progress
from shiftreg_cli.main import app


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, values: Any, home: Path) -> list[dict[str, Any]]:
    """What the use case was called with; it answers with a page on which one check failed."""
    made: list[dict[str, Any]] = []

    def write_report(workspace: object, path: Path, **options: Any) -> ReportResult:
        options.pop("observe")(Progress("generating", 1, 2))
        made.append({"path": path, **options})
        path.write_text("page")
        return ReportResult(
            plan=values.plan,
            path=path,
            digest="d" * 64,
            file=options["file"],
            passed=not options["selection"].without,
            checks=30,
            failed=1 if options["selection"].without else 0,
            images=16,
            run_id="run",
        )

    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(api, "open_workspace", lambda settings, **_: "workspace")
    monkeypatch.setattr(api, "write_report", write_report)
    return made


def test_a_report_is_written_where_it_is_asked_for(calls: list[dict[str, Any]]) -> None:
    result = CliRunner().invoke(app, ["report", "--out", "page.html", "--images", "2", "--force"])
    assert result.exit_code == 0
    assert calls == [
        {
            "path": Path("page.html"),
            "file": None,
            "selection": api.Selection(),
            "images": 2,
            "classifier": None,
            "overwrite": True,
        }
    ]
    assert "All 30 checks passed" in result.stdout
    assert "page.html" in result.stdout
    assert "composition fedcba987654" in result.stdout


def test_a_failed_check_is_said_and_gives_exit_code_1(calls: list[dict[str, Any]]) -> None:
    result = CliRunner().invoke(app, ["report", "--without", "Picasso"])
    assert result.exit_code == 1
    assert "1 of 30 checks failed: see the page" in result.stdout
    assert "report.html" in result.stdout


def test_a_report_on_a_file_prints_one_json_document(calls: list[dict[str, Any]]) -> None:
    Path("model.ckpt").write_bytes(b"model")
    result = CliRunner().invoke(app, ["report", "model.ckpt", "--json"])
    document = json.loads(result.stdout)
    assert (document["file"], document["failed"]) == ("model.ckpt", 0)
    assert calls[0]["file"] == Path("model.ckpt")


@pytest.mark.parametrize(
    "arguments",
    [["missing.ckpt"], ["--images", "0"], ["--only", "A", "--without", "B"]],
)
def test_bad_input_gives_exit_code_2(calls: list[dict[str, Any]], arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["report", *arguments]).exit_code == 2
    assert calls == []
