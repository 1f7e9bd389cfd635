"""Where things are: flag, then environment, then project file, then default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftreg.errors import InvalidInputError

PROJECT_FILE = Path("shiftreg.toml")
_KEYS = ("home", "base", "tracking_uri")


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        home: Folder of the registry, the artifacts and the audit trail.
        base: Name of the base that commands work on.
        tracking_uri: An MLflow server, or None for SQLite in ``home``.
        gates: Limits of a verification that the project sets; see ``verification.Gates``.
    """

    home: Path
    base: str
    tracking_uri: str | None
    gates: Mapping[str, float] = field(default_factory=dict)


def load_settings(
    home: Path | None = None, base: str | None = None, tracking_uri: str | None = None
) -> Settings:
    """Settles each value: argument, ``SHIFTREG_*`` variable, ``shiftreg.toml``, default.

    Gates come from the table ``[gates]`` of ``shiftreg.toml`` alone.

    Raises:
        InvalidInputError: The project file is not valid TOML, or has unknown keys.
    """
    project = _read_project_file()
    given = {"home": home, "base": base, "tracking_uri": tracking_uri}
    chosen = {
        key: given[key] or os.environ.get(f"SHIFTREG_{key.upper()}") or project.get(key)
        for key in _KEYS
    }
    return Settings(
        home=Path(chosen["home"] or ".shiftreg").expanduser().absolute(),
        base=str(chosen["base"] or "miniature"),
        tracking_uri=str(chosen["tracking_uri"]) if chosen["tracking_uri"] else None,
        gates=project.get("gates", {}),
    )


def _read_project_file() -> dict[str, Any]:
    if not PROJECT_FILE.is_file():
        return {}
    try:
        project = tomllib.loads(PROJECT_FILE.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{PROJECT_FILE} is not valid TOML: {error}.") from error
    known = (*_KEYS, "gates")
    if unknown := sorted(set(project) - set(known)):
        raise InvalidInputError(
            f"{PROJECT_FILE} has the unknown key '{unknown[0]}'. Known keys: {', '.join(known)}."
        )
    if not isinstance(project.get("gates", {}), dict):
        raise InvalidInputError(f"{PROJECT_FILE}: gates is a table, [gates], of names and limits.")
    return project
