"""The commands of the audit trail, on trails and names of any kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import RenderableType
from typer.testing import CliRunner, Result

from shiftreg.api.trail.evidence import EvidenceResult
from shiftreg.api.trail.exports import ConceptExports, Export
from shiftreg.audit import AuditLog, AuditReport, Cause, FileEvents
from shiftreg_cli import audit, trace
from shiftreg_cli.main import app

HOSTILE = "Cara\x1b[31mvag\u202egio\x07"


@pytest.fixture
def log(home: Path, monkeypatch: pytest.MonkeyPatch, database: Path) -> AuditLog:
    """The trail in the home that commands work on."""
    monkeypatch.setenv("COLUMNS", "160")
    home.mkdir()
    (home / "registry.db").write_bytes(database.read_bytes())
    monkeypatch.setenv("SHIFTREG_HOME", str(home))
    return AuditLog(FileEvents(home / "audit.jsonl"), Cause(request="C-17"))


def start(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments])


def test_the_timeline_is_a_table_or_json_or_csv(log: AuditLog) -> None:
    assert start().output.strip() == "No events."
    log.append("erase", base="miniature", concepts=["Caravaggio"], reason="the heirs asked")
    log.append("restore", base="miniature", concepts=["Picasso"], actor="ben")
    shown = start("--concept", "Caravaggio").output
    assert "request C-17; the heirs asked" in shown
    assert "ben" not in shown
    document = json.loads(start("--json", "--actor", "ben").output)
    assert [event["action"] for event in document["items"]] == ["restore"]
    lines = start("--csv").output.splitlines()
    assert lines[0].startswith("sequence,time,actor")
    assert len(lines) == 3


def test_options_of_the_timeline_do_not_go_with_a_subcommand(log: AuditLog) -> None:
    result = start("--json", "verify")
    assert result.exit_code == 2
    assert "--json goes after 'verify'" in result.output


def test_a_trail_that_holds_exits_0_and_one_that_does_not_1(log: AuditLog, home: Path) -> None:
    log.append("erase", base="miniature", reason="before")
    head = log.append("restore", base="miniature").digest
    result = start("verify", "--head", head)
    assert (result.exit_code, "The trail holds: 2 events" in result.output) == (0, True)
    file = home / "audit.jsonl"
    file.write_text(file.read_text().replace("before", "behind"))
    result = start("verify")
    assert result.exit_code == 1
    assert "line 1: edited" in result.output
    assert "The trail is DAMAGED" in result.output
    document = json.loads(start("verify", "--json").output)
    assert document["valid"] is False
    assert document["problems"][0].startswith("line 1: edited")


def test_a_checkpoint_is_written_once_and_proven(log: AuditLog, tmp_path: Path) -> None:
    assert start("checkpoint", str(tmp_path / "head.json")).exit_code == 2  # no events yet
    log.append("erase", base="miniature")
    assert "nobody" in start("checkpoint", str(tmp_path / "head.json")).output
    assert start("checkpoint", str(tmp_path / "head.json")).exit_code == 2
    log.append("restore", base="miniature")
    assert start("verify", "--checkpoint", str(tmp_path / "head.json")).exit_code == 0
    (tmp_path / "home" / "audit.jsonl").write_text("")
    result = start("verify", "--checkpoint", str(tmp_path / "head.json"))
    assert result.exit_code == 1
    assert start("verify", "--key", str(tmp_path / "none.pub")).exit_code == 2


def test_no_output_holds_what_a_terminal_would_obey(log: AuditLog) -> None:
    log.append(
        "erase", base="miniature", concepts=[HOSTILE], reason=HOSTILE + "\r\nnew", actor=HOSTILE
    )
    for arguments in ([], ["--csv"], ["--json"], ["verify"], ["--concept", HOSTILE]):
        output = start(*arguments).output
        assert not set(output) & {"\x1b", "\u202e", "\x07", "\r"}, arguments
    assert "\\x1b[31m" in start("--csv").output


def test_renderings_show_hostile_names_as_text(draw: Callable[[RenderableType], str]) -> None:
    export: dict[str, Any] = dict.fromkeys(Export.__dataclass_fields__, HOSTILE)
    values = (
        trace.render_exports(
            ConceptExports(HOSTILE, HOSTILE, HOSTILE, (Export(**export | {"in_trail": False}),))
        ),
        trace.render_evidence(
            EvidenceResult(HOSTILE, Path(HOSTILE), HOSTILE, 1, 1, HOSTILE, (HOSTILE,))
        ),
        audit.render_trail(AuditReport(False, 1, HOSTILE, (HOSTILE,), (HOSTILE,))),
    )
    for value in values:
        drawn = draw(value)
        assert "\\x1b[31m" in drawn
        assert not set(drawn) & {"\x1b", "\u202e", "\x07"}
