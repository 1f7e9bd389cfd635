"""Kill -9 at random moments: afterwards the registry is as before or as after, never between.

Two hundred times, with a table in JSON that says for each command where the kills met it, and what
was found afterwards:

    SHIFTREG_KILLS=200 SHIFTREG_KILLS_TABLE=kills.json python -m pytest tests/test_killed.py

A short run takes some of the commands, by a seed that is printed; SHIFTREG_SEED takes it again.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image
from safetensors import SafetensorError, safe_open

from shiftreg import api, miniature
from shiftreg.settings import Settings
from tests.commands import every_command

KILLS = int(os.environ.get("SHIFTREG_KILLS", "7"))  # 200 are half an hour's work
TABLE = os.environ.get("SHIFTREG_KILLS_TABLE")
SEED = os.environ.get("SHIFTREG_SEED") or str(secrets.randbelow(10**6))
COMMANDS = (
    "erase Caravaggio",
    "compose --export {folder}/model.ckpt --force",
    "restore Caravaggio --reason licence --yes",
    "erase Caravaggio@1",
    "compose --export {folder}/model --force",
    "refresh",
    "samples Caravaggio --count 1",
    "verify --images 1",
    # All others that write, to the registry or elsewhere.
    "adapter Picasso {folder}/lora.safetensors --force",
    "import {folder}/given.safetensors --concept Monet",
    "import {folder}/given.safetensors --concept Monet --decouple",
    "decouple Monet",
    "init --steps 2",
    "init {folder}/single.safetensors --config {config} --name single --steps 2",
    "attack Picasso --images 1 --attack ring-a-bell",
    "evaluate --images 2 --paraphrases none",
    "report --out {folder}/report.html --images 1 --force",
    "evidence Picasso {folder}/picasso.html --force",
    "compose --export {folder}/signed.safetensors --sign --signing-key {folder}/key.pem --force",
    "audit checkpoint {folder}/head.json --force",
    "doctor --repair",
    "compose --export {folder}/model.ckpt --only Picasso --dtype float32 --force",
    "generate Picasso --count 1 --out {folder}/grid.png --force",
    "generate --csv {folder}/prompts.csv --out {folder}/generated --force",
    "classifier train --images 2 --epochs 1 --concept Picasso --out {folder}/c.safetensors --force",
    "capacity Rembrandt --plot {folder}/capacity.png --force",
    "erase Munch Rembrandt",
    "erase Cezanne --method srs-me --set iterations=3 --set pool_size=4 --set batch_size=2",
    "delete Monet@{monet} --reason licence --force --yes",
    "delete --composition {composition} --reason licence --force --yes",
)


def test_each_command_that_writes_to_the_registry_is_killed() -> None:
    """Those that leave an event take a licence for it."""
    writing = {
        name
        for name, command in every_command().items()
        if any(option.name == "licence" for option in command.params)
    }
    killed = {" ".join(command.split()[:length]) for command in COMMANDS for length in (1, 2)}
    assert writing - killed == set()


@pytest.mark.second_tier
def test_no_kill_leaves_the_registry_in_between(workspace: api.Workspace, tmp_path: Path) -> None:
    home, folder = workspace.settings.home, tmp_path / "files"
    _prepare(workspace, folder)
    chance = random.Random(SEED)
    sys.stdout.write(f"SHIFTREG_SEED={SEED}\n")  # which pytest shows of a test that fails
    table: dict[str, Counter[str]] = {}
    for command in _sampled(KILLS, chance):
        places = _places(workspace, folder)
        words = [word.format_map(places) for word in command.split()]
        sys.stdout.write(f"{' '.join(words)}\n")
        before = workspace.audit.events()
        met = _killed(words, home, folder, chance)
        # Opening it settles every write-ahead record; nothing else is needed to be before or after.
        workspace = api.open_workspace(Settings(home, "miniature", None))
        assert not any((home / "write-ahead").glob("*"))
        told = workspace.audit.events()[len(before) :]
        completed = any("completed" in event.details for event in told)
        afterwards = "completed" if completed else "after" if told else "before"
        table.setdefault(command, Counter()).update([met, afterwards])
        _keep(table)
        assert _torn(folder) == []
        found = {f.severity for f in api.examine_registry(workspace).findings}
        # Hidden files and open runs of the dead lie in nobody's way. A shift that was deleted by
        # force is missing where it was exported: that is said.
        assert found <= {"leftover", "note"}, api.examine_registry(workspace).findings
        diagnosis = api.examine_registry(workspace, repair=True)
        assert {finding.severity for finding in diagnosis.findings} <= {"note"}, diagnosis.findings
        assert len(workspace.audit.events()) == len(before) + len(told), diagnosis.repaired
        assert not list(folder.glob(".*"))
    ended = sum(counts["had ended"] + counts["was refused"] for counts in table.values())
    assert ended < KILLS, "at least one command was killed"


def _sampled(number: int, chance: random.Random) -> list[str]:
    """All commands as often as they go into a number, and for the rest of it some, in order."""
    rounds, rest = divmod(number, len(COMMANDS))
    some = sorted(chance.sample(range(len(COMMANDS)), rest))
    return [*COMMANDS * rounds, *(COMMANDS[index] for index in some)]


def _places(workspace: api.Workspace, folder: Path) -> dict[str, object]:
    """What commands name: files, and the newest of what can be deleted."""
    versions = [version.version for version in workspace.versions("Monet")]
    compositions = [entry.version for entry in workspace.registry.compositions.all("miniature")]
    return {
        "folder": folder,
        "config": miniature.BASE_FOLDER,
        "monet": max(versions, default=1),
        "composition": max(compositions, default=1),
    }


def _prepare(workspace: api.Workspace, folder: Path) -> None:
    """Something to work on for each command."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    folder.mkdir()
    api.erase(workspace, ["Caravaggio", "Picasso"])
    given = folder / "given.safetensors"
    api.export_adapter(
        workspace, api.plan_adapter(workspace, given, api.Selection(only=["Picasso"]))
    )
    api.import_shift(workspace, api.read_import(workspace, given, "Monet"))
    single = folder / "single.safetensors"
    api.export_composition(workspace, api.plan_composition(workspace), single)
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (folder / "key.pem").write_bytes(key)
    (folder / "prompts.csv").write_text("prompt,evaluation_seed\na house,1\na tree,2\n")


def _killed(words: list[str], home: Path, folder: Path, chance: random.Random) -> str:
    """Runs a command, kills it at a random moment, and says what it was doing.

    A quarter of the kills comes at any moment of imports, work and writing; the others soon after
    it began to write.
    """
    moment, after = chance.uniform(0.5, 12), chance.expovariate(1 / 0.4)
    waits_for_writing = chance.random() < 0.75
    state = _state(home, folder)
    began, wrote = time.monotonic(), 0.0
    with subprocess.Popen(
        [sys.executable, "-c", "from shiftreg_cli.main import run; run()", *words],
        env=os.environ | {"SHIFTREG_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while process.poll() is None:
            now = time.monotonic()
            if not wrote and waits_for_writing and _state(home, folder) != state:
                wrote = now
            if (wrote and now - wrote > after) if waits_for_writing else now - began > moment:
                os.killpg(process.pid, signal.SIGKILL)
                break
            time.sleep(0.005)
        else:
            return "had ended" if process.returncode in (0, 1) else "was refused"
    if process.returncode != -signal.SIGKILL:
        return "had ended"
    if any((home / "write-ahead").glob("*.json")):
        return "recorded ahead"
    return "had written" if _state(home, folder) != state else "had written nothing"


def _state(*folders: Path) -> dict[str, int]:
    """What lies in folders, but for locks, which are taken for reading, too."""
    found = {}
    home = folders[0]
    for folder in (*folders, home / "write-ahead", home / "bases"):
        for entry in os.scandir(folder) if folder.is_dir() else ():
            with suppress(FileNotFoundError):  # a draft that has its name by now
                is_work = entry.is_file() or folder.name == "bases"
                if not entry.name.endswith(".lock") and is_work:
                    found[entry.path] = entry.stat().st_mtime_ns
    return found


def _torn(folder: Path) -> list[Path]:
    """The files with a name of their own, and so for somebody to use, that are not whole."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    shown = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return [name for name in shown if not _is_whole(folder / name)]


def _is_whole(path: Path) -> bool:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return bool(file.keys())
        if path.suffix == ".ckpt":
            return zipfile.ZipFile(path).testzip() is None
        if path.suffix == ".png":
            Image.open(path).load()
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".html":
            return path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile):
        return False
    return path.stat().st_size > 0


def _keep(table: Mapping[str, Counter[str]]) -> None:
    """Writes the table; after each kill, so that a run that fails leaves one, too."""
    if TABLE:
        rows = {"seed": SEED, "kills": sum(sum(row.values()) for row in table.values()) // 2}
        commands = {command: dict(sorted(row.items())) for command, row in table.items()}
        text = json.dumps(rows | {"commands": commands}, indent=2)
        Path(TABLE).write_text(f"{text}\n", encoding="utf-8")
