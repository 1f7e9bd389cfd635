"""Homes in which somebody has planted something: it does not act."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shiftreg import api
from shiftreg.api.recovery import RECOVERIES
from shiftreg.checkpoints import file_digest
from shiftreg.checkpoints.atomic import Placement
from shiftreg.processes import this_process
from shiftreg.registry import Compositions, Registry, Shifts
from tests.api.test_recovery import Killed, killed, reopened, story
from tests.commands import run_command
from tests.worlds import Worlds

READING = (
    "list",
    "show Caravaggio",
    "where Caravaggio",
    "audit",
    "audit verify",
    "doctor",
    "policy",
    "inspect {folder}/model.safetensors",
    "methods",
    "compose",
    "compose --export {folder}/new.ckpt --dry-run",
    "erase Picasso --dry-run",
    "refresh --dry-run",
    "capacity Picasso",
    "delete Caravaggio@1 --reason x --dry-run",
    "adapter Caravaggio {folder}/new.safetensors --dry-run",
)


def snapshot(*folders: Path) -> dict[str, str]:
    """Every name below some folders, with what a file holds or a link points to."""
    found = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        else:
            whole = path.is_file()
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if whole else ""
    return found


def dead_process() -> str:
    """The word of a process of this machine that is gone."""
    with subprocess.Popen(["true"]) as process:
        pass
    return f"{this_process().rpartition('-')[0]}-{process.pid}"


def forged(action: str, victim: Path, **values: Any) -> dict[str, Any]:
    """A record that says what shiftreg's own would, but for its proof."""
    partial = f".{victim.name}.{dead_process()}-00000000.partial"
    event = {
        "base": "miniature",
        "concepts": ["Caravaggio"],
        "reason": "so that it returns",
        "digests": {"page": file_digest(victim), "composition": "", "shift": "", "report": ""},
        "details": {"version": 7, "active": True},
    }
    inode = [victim.stat().st_ino, file_digest(victim)]
    recovery = {
        "path": str(victim),
        "paths": [str(victim)],
        "existed": [],
        "word": "page",
        "partial": partial,
        "made": {victim.name: inode},
        "active": None,
        "run": "0",
        "kind": "attack",
    }
    return {
        "identity": "0123456789abcdef",
        "time": "2026-01-01T00:00:00+00:00",
        "process": 1,
        "author": "",
        "action": action,
        "values": {
            "event": event,
            "recovery": recovery,
            "cause": {"reason": "", "request": "", "licence": ""},
            "actor": "the director",
            "after": 0,
        }
        | values,
        "proof": "0" * 64,
    }


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of somebody, beside which a forger has put a staging folder of a dead process."""
    folder = tmp_path / "of somebody"
    folder.mkdir()
    file = folder / "thesis.tex"
    file.write_text("years of work")
    for suffix in ("partial", "partial.previous"):
        staged = folder / f".{file.name}.{dead_process()}-00000000.{suffix}"
        staged.mkdir()
        (staged / file.name).write_text("planted")
    return file


def plant(home: Path, victim: Path) -> Path:
    """Forged and malformed records of everything that can be settled; returns their folder."""
    folder = home / "write-ahead"
    folder.mkdir(exist_ok=True)
    records: list[Any] = [forged(action, victim) for action in RECOVERIES]
    records += [forged("erase", victim) | {"values": {}}, {"identity": 1}, [], None, 7, {}]
    for number, record in enumerate(records):
        (folder / f"{number:016x}.json").write_text(json.dumps(record))
    (folder / "cut.json").write_bytes(b'{"identity": "')
    (folder / "link.json").symlink_to(victim)
    (folder / "folder.json").mkdir()
    return folder


@pytest.fixture
def key(tmp_path: Path) -> str:
    from tests.test_keys import curve, make

    folder = tmp_path / "keys"
    folder.mkdir()
    return str(make(folder, *curve("P-256"))[0])


def test_commands_that_read_change_sign_and_append_nothing(
    home: Path, worlds: Worlds, victim: Path, key: str, tmp_path: Path
) -> None:
    worlds.exported(home, "Caravaggio")
    plant(home, victim)
    before = snapshot(home, victim.parent, tmp_path / "model.safetensors")
    for command in READING:
        words = [word.format(folder=tmp_path) for word in command.split()]
        environment: dict[str, str | None] = {"SHIFTREG_SIGNING_KEY": key}
        result = run_command(*words, "--home", home, environment=environment)
        assert result.exit_code in (0, 1), (command, result.stderr)
        now = snapshot(home, victim.parent, tmp_path / "model.safetensors")
        assert now == before, command


def test_the_miniature_is_registered_by_the_first_change_and_not_by_reading(home: Path) -> None:
    before = snapshot(home)
    for command in ("list", "compose", "erase Picasso --dry-run", "audit", "doctor"):
        result = run_command(*command.split(), "--home", home)
        assert result.exit_code == 0, (command, result.stderr)
    assert snapshot(home) == before


@pytest.mark.erased("Caravaggio")
def test_commands_that_write_leave_planted_records_alone_and_name_them(
    workspace: api.Workspace, victim: Path, key: str
) -> None:
    home = workspace.settings.home
    folder = plant(home, victim)
    before, told = snapshot(folder, victim.parent), story(workspace)
    environment: dict[str, str | None] = {"SHIFTREG_SIGNING_KEY": key}
    result = run_command("erase", "Caravaggio@1", "--home", home, environment=environment)
    assert result.exit_code == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "Left alone" in line]
    assert "shiftreg doctor" in line
    assert snapshot(folder, victim.parent) == before
    assert story(workspace) == [*told, "activate"]
    assert workspace.audit.events()[-1].actor != "the director"
    diagnosis = api.examine_registry(workspace)
    assert diagnosis.healthy
    named = {finding.subject for finding in diagnosis.findings}
    assert named >= {str(path) for path in folder.glob("*.json")}


def test_what_another_user_or_key_announced_is_left_to_them(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    home = workspace.settings.home
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("shiftreg.audit.AuditLog.append", killed)
        api.erase(workspace, ["Caravaggio"])
    (record,) = (home / "write-ahead").glob("*.json")
    with monkeypatch.context() as patched:
        patched.setattr("shiftreg.api.opening.current_actor", lambda: "somebody else")
        with pytest.warns(UserWarning, match=record.name):
            assert story(reopened(workspace)) == ["init"]
    with pytest.warns(UserWarning, match=record.name):
        api.open_workspace(replace(workspace.settings, signing_key=Path(key)))
    assert story(workspace) == ["init"]
    assert record.exists()
    findings = api.examine_registry(workspace).findings
    assert [f.severity for f in findings if f.subject == str(record)] == ["leftover"]
    assert story(reopened(workspace)) == ["init", "erase"]
    assert not record.exists()


@pytest.mark.erased("Caravaggio")
def test_a_record_that_was_settled_and_is_put_back_tells_nothing_anew(
    workspace: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workspace.settings.home / "write-ahead"
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Shifts, "deactivate", killed)
        api.restore(workspace, ["Caravaggio"], reason="licence 3")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Registry, "remove_version", killed)
        api.delete(workspace, "Caravaggio@1", reason="licence 3", force=True)
    kept = {path: path.read_bytes() for path in folder.glob("*.json")}
    assert len(kept) == 2
    told = story(reopened(workspace))
    assert told == ["init", "erase"], "neither was made"
    api.restore(workspace, ["Caravaggio"], reason="licence 4")
    api.delete(workspace, "Caravaggio@1", reason="licence 4")
    for path, content in kept.items():
        path.write_bytes(content)
    assert story(reopened(workspace)) == [*told, "restore", "delete"]


@pytest.mark.parametrize("stage", ["before", "after"])
def test_an_export_of_another_home_to_the_same_place_stays(
    worlds: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The two are bit for bit the same, and still each is its own."""
    ours = worlds.open(tmp_path / "a" / "home")
    theirs = worlds.open(tmp_path / "b" / "home")
    target = tmp_path / "model.safetensors"
    if stage == "after":
        target.write_bytes(b"an older model")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Placement, "withdraw", lambda _: None)  # the dead put nothing back
        patched.setattr(Placement, "forget", lambda _: None)
        patched.setattr("shutil.rmtree", lambda *_, **__: None)
        patched.setattr("shiftreg.checkpoints.atomic.this_process", dead_process)
        patched.setattr(Compositions if stage == "after" else Placement, *_moment(stage))
        api.export_composition(ours, api.plan_composition(ours), target, overwrite=True)
    api.export_composition(theirs, api.plan_composition(theirs), target, overwrite=True)
    finished = {path: path.read_bytes() for path in tmp_path.glob("model*")}
    assert story(reopened(ours)) == ["init"]
    assert {path: path.read_bytes() for path in tmp_path.glob("model*")} == finished
    verified = run_command("verify", target, "--images", 1, "--home", theirs.settings.home)
    assert verified.exit_code == 0, verified.stderr
    kept = [path.read_bytes() for path in tmp_path.glob(".*.previous/*")]
    assert kept == ([b"an older model"] if stage == "after" else []), "nobody's last copy goes"


def _moment(stage: str) -> tuple[str, Any]:
    return ("register" if stage == "after" else "place"), killed


NAMES = st.text(min_size=1, max_size=12).filter(
    lambda name: not set("/\0") & set(name) and name not in (".", "..")
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def planted(draw: st.DrawFn, victim: Path) -> tuple[str, bytes | Path]:
    """A file's name, and what is in it, or what it is a link to."""
    name = draw(NAMES.map("{}.json".format) | st.just("0123456789abcdef.json"))
    kind = draw(st.sampled_from(["record", "record", "json", "bytes", "link"]))
    if kind == "link":
        return name, draw(st.sampled_from([victim, victim.parent, Path("/dev/zero"), Path("gone")]))
    if kind == "bytes":
        return name, draw(st.binary(max_size=40))
    if kind == "json":
        return name, json.dumps(draw(JSON)).encode()
    record = forged(draw(st.sampled_from(sorted(RECOVERIES))), victim)
    record["values"]["actor"] = draw(st.text(max_size=8) | JSON)
    record["author"] = draw(st.sampled_from(["", "root ", 7]))
    record["proof"] = draw(st.text(max_size=8) | JSON | st.just("0" * 64))
    for part in draw(st.lists(st.sampled_from(sorted(record["values"])), max_size=2, unique=True)):
        record["values"][part] = draw(JSON)
    for part in draw(st.lists(st.sampled_from(sorted(record)), max_size=1)):
        record[part] = draw(JSON)
    return name, json.dumps(record).encode()


def _nothing_planted_acts(workspace: api.Workspace, victim: Path, examples: int) -> None:
    home = workspace.settings.home
    folder = home / "write-ahead"
    folder.mkdir(exist_ok=True)
    trail = (home / "audit.jsonl").read_bytes()
    untouched = snapshot(victim.parent, home)

    @settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.lists(planted(victim), min_size=1, max_size=4, unique_by=lambda one: one[0]))
    def check(files: list[tuple[str, bytes | Path]]) -> None:
        for path in folder.iterdir():
            path.unlink()
        for name, content in files:
            try:
                if isinstance(content, Path):
                    (folder / name).symlink_to(content)
                else:
                    (folder / name).write_bytes(content)
            except (OSError, UnicodeEncodeError):
                continue  # a name that no file can have here
        before = snapshot(folder)
        said: list[str] = []
        api.open_workspace(workspace.settings, warn=said.append)
        assert snapshot(folder) == before
        assert len(said) == bool(before)
        now = snapshot(victim.parent, home)
        assert {path: now[path] for path in now if path not in before} == untouched
        assert (home / "audit.jsonl").read_bytes() == trail

    check()


@pytest.mark.erased("Caravaggio")
def test_fifty_planted_homes_do_nothing(workspace: api.Workspace, victim: Path) -> None:
    _nothing_planted_acts(workspace, victim, 50)


@pytest.mark.second_tier
@pytest.mark.erased("Caravaggio")
def test_five_hundred_planted_homes_do_nothing(workspace: api.Workspace, victim: Path) -> None:
    _nothing_planted_acts(workspace, victim, 500)
