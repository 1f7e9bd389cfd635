"""How long `shiftreg` takes to say something, beside importing what it is made with."""

from __future__ import annotations

import os
import subprocess
import sys

from rows.measure import Line, Setting, at_most, race
from shiftreg import api, miniature
from shiftreg.settings import Settings

RUN = "import sys; from shiftreg_cli.main import run; sys.argv = ['shiftreg', *sys.argv[1:]]; run()"


def measure(setting: Setting) -> list[Line]:
    home = setting.folder / "home"
    api.register_base(api.open_workspace(Settings(home, miniature.NAME, None)))
    environment = {**os.environ, "SHIFTREG_HOME": str(home)}

    def python(*arguments: str) -> None:
        command = [sys.executable, "-c", *arguments]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

    lines = []
    for what, peer, limit in (("--help", "typer", 3), ("list", "mlflow", 1.15)):
        times = race(
            setting,
            {
                "ours": lambda what=what: python(RUN, what),
                "peer": lambda peer=peer: python(f"import {peer}"),
            },
            repeats=max(setting.repeats, 1 if setting.toy else 9),
        )
        lines.append(
            at_most(
                limit,
                f"`shiftreg {what}`",
                times["ours"].processor,
                f'`python -c "import {peer}"`',
                times["peer"].processor,
                others={name: t.wall for name, t in times.items()},
            )
        )
    return lines
