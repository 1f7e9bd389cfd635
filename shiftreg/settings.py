"""Where things are: flag, then environment, then project file, then default."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftreg.errors import InvalidInputError

PROJECT_FILE = Path("shiftreg.toml")
_KEYS = ("home", "base", "tracking_uri", "signing_key", "verifying_key")
_TABLES = {"gates": "names and limits", "policy": "requirements of a release"}

# A password that nobody has encoded may hold any sign: it goes up to the last @ of a word, unless
# what follows the colon is a port, so that the @ is one of a path.
_SECRET = re.compile(
    r"""(\w://) (?: [^/?#\s'"]*@ | [^/?#\s'":@]* : (?! \d+ (?:[/?#]|$) ) \S*@ )""", re.VERBOSE
)


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        home: Folder of the registry, the artifacts and the audit trail.
        base: Name of the base that commands work on.
        tracking_uri: An MLflow server, or None for SQLite in ``home``.
        gates: Limits of a verification that the project sets; see ``verification.Gates``.
        policy: What every release must hold; see ``verification.Policy``.
        signing_key: PEM file of the private key that signs.
        verifying_key: PEM file of the public key that signatures are checked by.
    """

    home: Path
    base: str
    tracking_uri: str | None = field(repr=False)  # a password may be in it
    gates: Mapping[str, float] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    signing_key: Path | None = None
    verifying_key: Path | None = None


def load_settings(
    home: Path | None = None,
    base: str | None = None,
    tracking_uri: str | None = None,
    *,
    signing_key: Path | None = None,
    verifying_key: Path | None = None,
) -> Settings:
    """Settles each value: argument, ``SHIFTREG_*`` variable, ``shiftreg.toml``, default.

    Gates and policy come from the tables ``[gates]`` and ``[policy]`` of ``shiftreg.toml`` alone.

    Raises:
        InvalidInputError: The project file is not valid TOML, or has unknown keys.
    """
    project = _read_project_file()
    given = {
        "home": home,
        "base": base,
        "tracking_uri": tracking_uri,
        "signing_key": signing_key,
        "verifying_key": verifying_key,
    }
    chosen = {
        key: given[key] or os.environ.get(f"SHIFTREG_{key.upper()}") or project.get(key)
        for key in _KEYS
    }
    return Settings(
        home=Path(chosen["home"] or ".shiftreg").expanduser().absolute(),
        base=str(chosen["base"] or "miniature"),
        tracking_uri=str(chosen["tracking_uri"]) if chosen["tracking_uri"] else None,
        gates=project.get("gates", {}),
        policy=project.get("policy", {}),
        signing_key=_path(chosen["signing_key"]),
        verifying_key=_path(chosen["verifying_key"]),
    )


def cache_folder() -> Path:
    """Where this user's commands keep what they would only compute again.

    Beside no registry: what lies in a registry's folder may be somebody else's.
    """
    if own := os.environ.get("SHIFTREG_CACHE"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser().absolute() / "shiftreg"


def _path(value: object) -> Path | None:
    return Path(str(value)).expanduser().absolute() if value else None


def _read_project_file() -> dict[str, Any]:
    if not PROJECT_FILE.is_file():
        return {}
    try:
        project = tomllib.loads(PROJECT_FILE.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{PROJECT_FILE} is not valid TOML: {error}.") from error
    known = (*_KEYS, *_TABLES)
    if unknown := sorted(set(project) - set(known)):
        raise InvalidInputError(
            f"{PROJECT_FILE} has the unknown key '{unknown[0]}'. Known keys: {', '.join(known)}."
        )
    for table, content in _TABLES.items():
        if not isinstance(project.get(table, {}), dict):
            raise InvalidInputError(f"{PROJECT_FILE}: {table} is a table, [{table}], of {content}.")
    return project


def without_secret(text: str) -> str:
    """An address, or a text with addresses, without the user and password in them."""
    return _SECRET.sub(r"\1", text)
