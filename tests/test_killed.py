"""Kill -9 at random moments: afterwards the registry is as before or as after, never between."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shiftreg import api
from shiftreg.settings import Settings

KILLS = int(os.environ.get("SHIFTREG_KILLS", "7"))  # 200 are a long afternoon's work
COMMANDS = (
    ("erase", "Caravaggio"),
    ("compose", "--export", "{folder}/model.ckpt", "--force"),
    ("restore", "Caravaggio", "--reason", "a licence"),
    ("erase", "Caravaggio@1"),
    ("compose", "--export", "{folder}/model", "--force"),
    ("refresh",),
    ("verify", "--images", "1"),
)


@pytest.mark.slow
def test_no_kill_leaves_the_registry_in_between(workspace: api.Workspace, tmp_path: Path) -> None:
    home = workspace.settings.home
    api.erase(workspace, ["Caravaggio", "Picasso"])
    chance = random.Random(os.environ.get("SHIFTREG_SEED", "4711"))
    environment = os.environ | {"SHIFTREG_HOME": str(home)}
    ended = 0
    for number in range(KILLS):
        words = [word.format(folder=tmp_path) for word in COMMANDS[number % len(COMMANDS)]]
        command = [sys.executable, "-c", "from shiftreg_cli.main import run; run()", *words]
        with subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            # The work begins after some seconds of imports; most kills should meet it.
            deadline = time.monotonic() + chance.triangular(1, 20, 8)
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                ended += 1
        workspace = api.open_workspace(Settings(home, "miniature", None))
        diagnosis = api.examine_registry(workspace, repair=True)
        assert diagnosis.healthy, (words, diagnosis.findings)
        assert diagnosis.findings == (), (words, diagnosis.findings)
        assert not list(tmp_path.glob(".*")), words
        assert not any((home / "intents").glob("*")), words
    assert ended < KILLS, "at least one command was killed"
