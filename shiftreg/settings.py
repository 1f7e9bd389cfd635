"""Where things are: flag, then environment, then project file, then default."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

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
    """

    home: Path
    base: str
    tracking_uri: str | None


def load_settings(
    home: Path | None = None, base: str | None = None, tracking_uri: str | None = None
) -> Settings:
    """Settles each value: argument, ``SHIFTREG_*`` variable, ``shiftreg.toml``, default.

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
    )


def _read_project_file() -> dict[str, str]:
    if not PROJECT_FILE.is_file():
        return {}
    try:
        project = tomllib.loads(PROJECT_FILE.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{PROJECT_FILE} is not valid TOML: {error}.") from error
    if unknown := sorted(set(project) - set(_KEYS)):
        raise InvalidInputError(
            f"{PROJECT_FILE} has the unknown key '{unknown[0]}'. Known keys: {', '.join(_KEYS)}."
        )
    return project
