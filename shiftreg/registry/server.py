"""A team's server: its address without secrets, and whether it can be worked with."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shiftreg.errors import InvalidInputError, StorageError
from shiftreg.settings import without_secret

GREETING_SECONDS = 10
USERNAME = "MLFLOW_TRACKING_USERNAME"
QUESTION = "/api/2.0/mlflow/experiments/search"
LIMITS = {
    # MLflow waits for minutes by default. A server that is away should be named within seconds.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}


def is_server(uri: str) -> bool:
    """Whether an address is that of a tracking server, and not of a database."""
    return urlsplit(uri).scheme in ("http", "https")


def check_address(uri: str) -> None:
    """Refuses an address that cannot be read as one, without quoting it: it may hold a password.

    Raises:
        InvalidInputError: It has no scheme, is a server's with signs that are not encoded, or is
            that of another SQLite database in each folder.
    """
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:  # a bracket that is not closed, a port that is not a number
        parts = urlsplit("")
    is_whole = bool(re.match(r"\w[\w+.-]*://", uri)) and bool(parts.scheme)
    if is_whole and is_server(uri):
        # An @ behind the server's name is of a password that was cut in two.
        rest = f"{parts.query}{parts.fragment}" or re.search(r"\s", uri) or "@" in parts.path
        is_whole = bool(parts.hostname) and not rest
    if not is_whole:
        raise InvalidInputError(
            "The address of the registry cannot be read; it is not shown, since a password may be "
            "in it. It is https://SERVER:PORT, without '?', '#' or space. In a user's name or "
            "password these are encoded, as are '/' and '@' (%3F, %23, %20, %2F, %40); or name "
            "both by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
    file = parts.path[1:]
    if parts.scheme.partition("+")[0] == "sqlite" and not Path(file).is_absolute():
        raise InvalidInputError(
            f"The address '{uri}' has a relative path: from another folder it would be another, "
            f"empty registry. Give the absolute one: {parts.scheme}:///{Path(file).absolute()}"
        )


def separate_credentials(uri: str) -> str:
    """Moves user and password from a server's address to where MLflow looks for them.

    MLflow would quote the address in its errors, and so the password.

    Returns:
        The address without them.
    """
    parts = urlsplit(uri)
    if parts.username is not None:
        os.environ[USERNAME] = unquote(parts.username)
    if parts.password is not None:
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return without_secret(uri).rstrip("/")


def greet(uri: str) -> None:
    """Asks a server for its version, once and without patience.

    Raises:
        StorageError: Something else answers, or an MLflow that we cannot speak to.
        MlflowException: Nobody answers, or without the encryption that was asked for.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request
    from mlflow.version import VERSION

    credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]  # MLflow's
    limits = {"max_retries": 0, "timeout": GREETING_SECONDS, "raise_on_status": False}
    answer = http_request(credentials, "/version", "GET", **limits)  # type: ignore[no-untyped-call]  # MLflow's
    if answer.status_code in (401, 403):  # a proxy before MLflow has an authentication of its own
        raise StorageError(
            f"The server {uri} refused: {answer.status_code} {answer.reason}. Check user and "
            "password: MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD."
        )
    version = answer.text.strip()
    if answer.status_code != 200 or not re.fullmatch(r"\d+\.\d+[\w.+-]*", version):
        raise StorageError(
            f"{uri} answers, but not as an MLflow server does ({answer.status_code}). "
            "Check SHIFTREG_TRACKING_URI, and its path if a proxy is before the server."
        )
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise StorageError(
            f"The server {uri} runs MLflow {version}, and this is MLflow {VERSION}: they must "
            "have the same major version. Upgrade the older one."
        )


def account(uri: str) -> str | None:
    """The name that a server checks a password for; None if it checks none.

    Without authentication the variable of that name is a claim of anybody's, and so no answer.
    """
    name = os.environ.get(USERNAME)
    if not name or not is_server(uri):
        return None
    from mlflow.utils import rest_utils
    from mlflow.utils.credentials import get_default_host_creds

    # The certificates that MLflow would use, without the password.
    own = get_default_host_creds(uri)  # type: ignore[no-untyped-call]  # MLflow's
    nobody = rest_utils.MlflowHostCreds(  # type: ignore[no-untyped-call]  # MLflow's
        uri,
        ignore_tls_verification=own.ignore_tls_verification,
        server_cert_path=own.server_cert_path,
        client_cert_path=own.client_cert_path,
    )
    answer = rest_utils.http_request(  # type: ignore[no-untyped-call]  # MLflow's
        nobody, QUESTION, "POST", json={"max_results": 1}, raise_on_status=False
    )
    return name if answer.status_code in (401, 403) else None


def require_proxied_artifacts(uri: str, location: str) -> None:
    """Refuses an experiment whose files would be written to the client's own disk.

    Raises:
        StorageError: In a folder, as servers do that were started without ``--serve-artifacts``.
    """
    if is_server(uri) and urlsplit(location).scheme in ("", "file"):
        raise StorageError(
            f"The server {uri} keeps files in {location}, a folder of its own machine, which "
            "clients cannot reach. Start it with --serve-artifacts and without "
            "--default-artifact-root, and register the base under a new name."
        )
