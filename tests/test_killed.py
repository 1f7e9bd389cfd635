"""Kill -9 at random moments: afterwards the registry is as before or as after, never between.

Two hundred times, with a line of JSON for each kill, that says where it met the command:

    SHIFTREG_KILLS=200 SHIFTREG_KILLS_LOG=kills.jsonl python -m pytest tests/test_killed.py
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from shiftreg import api
from shiftreg.audit import AuditEvent
from shiftreg.settings import Settings

KILLS = int(os.environ.get("SHIFTREG_KILLS", "7"))  # 200 are half an hour's work
LOG = os.environ.get("SHIFTREG_KILLS_LOG")
COMMANDS = (
    "erase Caravaggio",
    "compose --export {folder}/model.ckpt --force",
    "restore Caravaggio --reason licence --yes",
    "erase Caravaggio@1",
    "compose --export {folder}/model --force",
    "refresh",
    "verify --images 1",
    # All others that write, to the registry or elsewhere.
    "adapter Picasso {folder}/lora.safetensors --force",
    "import {folder}/given.safetensors --concept Monet",
    "decouple Monet",
    "init --steps 2",
    "attack Picasso --images 1 --attack ring-a-bell",
    "evaluate --images 2 --wordings none",
    "report --out {folder}/report.html --images 1 --force",
    "evidence Picasso {folder}/picasso.html --force",
    "compose --export {folder}/signed.safetensors --sign --signing-key {folder}/key.pem --force",
    "audit checkpoint {folder}/head.json --force",
    "doctor --repair",
    "compose --export {folder}/model.ckpt --only Picasso --dtype float32 --force",
    "generate Picasso --count 1 --out {folder}/grid.png --force",
    "paint {folder}/prompts.csv {folder}/painted --force",
    "classifier train --images 2 --epochs 1 --concept Picasso --out {folder}/c.safetensors --force",
    "capacity Rembrandt --plot {folder}/capacity.png --force",
    "erase Munch Rembrandt",
    "delete Monet@1 --reason licence --force --yes",
    "delete --composition 1 --reason licence --force --yes",
)


@pytest.mark.slow
def test_no_kill_leaves_the_registry_in_between(workspace: api.Workspace, tmp_path: Path) -> None:
    home, folder = workspace.settings.home, tmp_path / "files"
    _prepare(workspace, folder)
    chance = random.Random(os.environ.get("SHIFTREG_SEED", "4711"))
    ended = 0
    for number in range(KILLS):
        words = [word.format(folder=folder) for word in COMMANDS[number % len(COMMANDS)].split()]
        before = workspace.audit.events()
        met = _killed(words, home, folder, chance)
        ended += met == "had ended"
        workspace = api.open_workspace(Settings(home, "miniature", None))
        diagnosis = api.examine_registry(workspace, repair=True)
        _note(words, met, workspace.audit.events()[len(before) :], diagnosis.repaired)
        assert diagnosis.healthy, (words, diagnosis.findings)
        # A shift that was deleted by force is missing where it was exported: that is said.
        found = [finding for finding in diagnosis.findings if finding.severity != "note"]
        assert found == [], (words, found)
        assert not list(folder.glob(".*")), words
        assert not any((home / "intents").glob("*")), words
    assert ended < KILLS, "at least one command was killed"


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
    api.export_adapter(workspace, api.plan_adapter(workspace, given, ["Picasso"]))
    api.import_shift(workspace, api.read_import(workspace, given, "Monet"))
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
            return "had ended"
    if process.returncode != -signal.SIGKILL:
        return "had ended"
    if any((home / "intents").glob("*.json")):
        return "announced"
    return "had written" if _state(home, folder) != state else "had written nothing"


def _state(*folders: Path) -> dict[str, int]:
    """What lies in folders, but for locks, which are taken for reading, too."""
    found = {}
    for folder in (*folders, folders[0] / "intents"):
        for entry in os.scandir(folder) if folder.is_dir() else ():
            with suppress(FileNotFoundError):  # a draft that has its name by now
                if not entry.name.endswith(".lock") and entry.is_file():
                    found[entry.path] = entry.stat().st_mtime_ns
    return found


def _note(words: list[str], met: str, told: tuple[AuditEvent, ...], repaired: object) -> None:
    if LOG:
        completed = any("completed" in event.details for event in told)
        line = {
            "command": " ".join(words[:2]),
            "met": met,
            "afterwards": "completed" if completed else "after" if told else "before",
            "events": [event.action for event in told],
            "repaired": repaired,
        }
        with Path(LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
