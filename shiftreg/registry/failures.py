"""What a database or server refuses, as an error with its cause and a remedy."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from shiftreg.errors import ShiftregError, StorageError
from shiftreg.settings import without_secret

STORES = ("mlflow", "sqlalchemy", "alembic", "requests", "urllib3")
# What MLflow's errors say of a thing.
MISSING, TAKEN = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
DENIED = "PERMISSION_DENIED"  # as users hear of what is missing, too
# What the message holds (a regular expression), what to do about it (``{uri}`` is the registry's
# address), and what to say in place of a message that is not for people.
REMEDIES = (
    (
        "error code 401|401 Client Error|UNAUTHENTICATED",
        "Check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
        "it does not know this user, or not by this password",
    ),
    (
        "error code 403|403 Client Error|PERMISSION_DENIED",
        "Ask who runs the server: erasing needs the permission EDIT, restoring MANAGE.",
        "this user may not do that",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "Name the file of its authority with MLFLOW_TRACKING_SERVER_CERT_PATH.",
        "its TLS certificate is not one that this machine trusts",
    ),
    (
        "SSLError|SSLEOFError|WRONG_VERSION_NUMBER",
        "Check http or https in SHIFTREG_TRACKING_URI, and the port.",
        "it does not speak TLS",
    ),
    (
        "disabled due to the mlflow server running|--no-serve-artifacts|--serve-artifacts",
        "Start the server with --serve-artifacts.",
        "it does not pass files on",
    ),
    (
        "timeout exception|timed out|Read timed out",
        "Try again, or allow it more seconds with MLFLOW_HTTP_REQUEST_TIMEOUT.",
        "it does not answer in time",
    ),
    (
        "Connection refused|NameResolutionError|NewConnectionError|Failed to resolve|unreachable",
        "Check that the server runs and that SHIFTREG_TRACKING_URI names it.",
        "it cannot be reached",
    ),
    ("database is locked", "Another process is writing to it: try again in a moment.", ""),
    ("readonly database", "Check the permissions of the folder and its files.", ""),
    ("disk is full|No space left", "Free some space and try again.", ""),
    ("out-of-date database schema", "Copy it to a safe place, then: mlflow db upgrade {uri}", ""),
    ("malformed", "Put a backup in its place; `sqlite3 FILE .recover` may save the rest.", ""),
    (
        "not a database",
        "Put a backup in its place, or choose another folder with SHIFTREG_HOME.",
        "",
    ),
    ("API request", "Check that the server runs and that SHIFTREG_TRACKING_URI names it.", ""),
    ("Permission denied", "Check the permissions of the folder and its files.", ""),
)


@contextmanager
def translated_errors(uri: str) -> Iterator[None]:
    """Turns what MLflow and the system raise into :class:`StorageError`, with a remedy."""
    try:
        yield
    except ShiftregError:
        raise
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError | sqlite3.Error) and package not in STORES:
            raise
        text, uri = without_secret(str(error)), without_secret(uri)
        known = (remedy for remedy in REMEDIES if re.search(remedy[0], text))
        _, advice, instead = next(known, ("", "", ""))
        # MLflow quotes whole SQL statements after the first line.
        cause = (text.splitlines() or [type(error).__name__])[0].rstrip(".")
        advice = advice.format(uri=uri)
        raise StorageError(
            f"The registry {uri} refused: {instead or cause}. {advice}".rstrip()
        ) from error


class Suppressed:
    """Passes over an error of MLflow's with one of these codes, in a block."""

    def __init__(self, *codes: str) -> None:
        self._codes = codes

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        return getattr(error, "error_code", None) in self._codes
