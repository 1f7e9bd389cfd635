"""Homes that are made once a run, and copied for every test that wants one.

A copy takes some hundredths of a second; registering the miniature, erasing, exporting and
verifying take seconds. Processes that share the tests out make each home once between them.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from shiftreg import api
from shiftreg.registry import open_registry
from shiftreg.settings import Settings
from tests.servers import WHOLE_ON_SERVER


class Worlds:
    """Makes each world when it is first asked for."""

    def __init__(self, root: Path) -> None:
        """Keeps them below a folder that all processes of the run share."""
        self._root = root

    def empty(self, home: Path) -> Path:
        """Makes a home with a registry in which nothing is registered, and returns it."""
        self._copy("empty", open_registry, home)
        return home

    def open(
        self, home: Path, *erased: str, reason: str = "", steps: int | None = 2
    ) -> api.Workspace:
        """A workspace on the miniature, from which concepts are erased.

        Args:
            home: For the workspace; it may exist, with an empty registry.
            *erased: In one command.
            reason: Of that command.
            steps: The miniature's denoising steps: two are quick, and generate badly.
        """

        def make(home: Path) -> None:
            if not erased:
                api.register_base(opened(self.empty(home)), steps=steps)
            else:
                api.erase(self.open(home, steps=steps), erased, reason=reason)

        return self.filled(home, f"{erased} {reason} {steps}", make)

    def exported(
        self, home: Path, *erased: str, reason: str = "", name: str = "model.safetensors"
    ) -> api.Workspace:
        """The same, and beside the home lies an export of it, in the base's precision.

        The audit trail says that it was exported to another place, where it was made.

        Args:
            home: For the workspace; it may exist, with an empty registry.
            *erased: In one command.
            reason: Of that command.
            name: Of the export.
        """

        def make(home: Path) -> None:
            workspace = self.open(home, *erased, reason=reason)
            plan = api.plan_composition(workspace)
            api.export_composition(workspace, plan, home.with_name(name))

        return self.filled(home, f"{erased} {reason} {name}", make)

    def filled(self, home: Path, name: str, make: Callable[[Path], object]) -> api.Workspace:
        """A workspace in a copy of whatever a function makes; it is called once a run.

        Args:
            home: For the workspace; it may exist, with an empty registry.
            name: Of what is made.
            make: Makes a home, and what else it likes in the folder that the home is in.
        """
        if WHOLE_ON_SERVER:  # which nobody can copy, and which is empty
            make(home)
        else:
            self._copy(name, make, home)
        return opened(home)

    def _copy(self, name: str, make: Callable[[Path], object], home: Path) -> None:
        assert not (home / "audit.jsonl").exists(), f"{home} is in use: two worlds in one home"
        made = self._made(name, make)
        shutil.copytree(made.parent, home.parent, dirs_exist_ok=True, ignore=_except(made))
        shutil.copytree(made, home, dirs_exist_ok=True)
        with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
            # MLflow keeps the whole addresses of files.
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                connection.execute(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                    (made.as_uri(), home.resolve().as_uri()),
                )

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        folder = self._root.resolve() / hashlib.sha256(name.encode()).hexdigest()[:16]
        home, is_complete = folder / "all" / "home", folder / "complete"
        with FileLock(f"{folder}.lock"):
            if not is_complete.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of somebody who failed half-way
                home.mkdir(parents=True)
                make(home)
                is_complete.touch()
        return home


def opened(home: Path) -> api.Workspace:
    """A workspace on the miniature in a home that is there."""
    return api.open_workspace(Settings(home, "miniature", None))


def _except(made: Path) -> Callable[[str, list[str]], set[str]]:
    return lambda folder, names: {made.name} if Path(folder) == made.parent else set()
