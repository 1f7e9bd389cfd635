"""What front ends need beside the values: their JSON, and the command of MLflow's pages."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from shiftreg.errors import InvalidInputError
from shiftreg.settings import Settings, without_secret

SCHEMA_VERSION = 1


def ui_command(settings: Settings, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """The command that serves MLflow's pages over the registry."""
    if settings.tracking_uri:
        raise InvalidInputError(
            f"The registry is on the server {without_secret(settings.tracking_uri)}: "
            "open it in a browser."
        )
    store = f"sqlite:///{settings.home / 'registry.db'}"
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store]
    return [*command, "--host", host, "--port", str(port)]


def to_json(value: Any) -> dict[str, Any]:
    """A value as one JSON document, with the version of its schema."""
    plain = _plain(value)
    return {"schema_version": SCHEMA_VERSION} | (
        plain if isinstance(plain, dict) else {"items": plain}
    )


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    return str(value) if isinstance(value, Path) else value
