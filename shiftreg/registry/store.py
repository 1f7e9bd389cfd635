"""The connection to MLflow: a database of our own by default, or a team's server."""

from __future__ import annotations

import errno
import functools
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from filelock import FileLock, Timeout

from shiftreg.errors import InvalidInputError, StorageError
from shiftreg.registry.failures import translated_errors
from shiftreg.registry.server import LIMITS, check_address, greet, is_server, separate_credentials
from shiftreg.settings import without_secret

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_SECONDS = 60.0
CONFLICTS = (
    # SQLite: two transactions had read, and both want to write. Waiting inside one would not help.
    "database is locked",
    # MLflow numbers a new version by reading the highest, and gives up when others were quicker.
    "Giving up after",
)
LOCK_SECONDS = 600
BUSY_SECONDS = 20.0

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    **LIMITS,
}


@dataclass(frozen=True)
class Store:
    """An open registry: where it is, and the client that speaks to it.

    Attributes:
        client: MLflow's client, which tries again where others were writing.
        home: Folder for our own files, absolute.
        uri: Tracking URI, without user and password.
        is_own: Whether it is the database in ``home``.
        is_read_only: Whether nothing can be written in ``home``.
    """

    client: MlflowClient
    home: Path
    uri: str
    is_own: bool
    is_read_only: bool = False

    def artifacts(self, name: str) -> str | None:
        """Where a new experiment keeps its files; None lets a server choose."""
        return None if is_server(self.uri) else (self.home / "artifacts" / name).as_uri()


def connect(home: Path, tracking_uri: str | None = None, *, reading: bool = False) -> Store:
    """Opens the registry, and creates it if there is none.

    Args:
        tracking_uri: An MLflow tracking server to use in place of the database in ``home``. A
            user and password in it are handed to MLflow, and left out of everything that is shown.
        reading: Whether a home that cannot be written will do.

    Raises:
        StorageError: The folder, the database or the server refuses.
        InvalidInputError: The folder's name cannot be part of a database's address, or the
            address of the server cannot be read.
    """
    home = Path(home).expanduser().resolve()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    uri = tracking_uri or f"sqlite:///{home}/registry.db"
    check_address(uri)
    if is_server(uri):
        uri = separate_credentials(uri)
    with translated_errors(uri):
        if is_server(uri):
            greet(uri)
        is_read_only = _is_read_only(home)
        has_all = bool(tracking_uri) or (home / "registry.db").exists()
        if is_read_only and not (reading and has_all):
            raise StorageError(
                f"The registry's folder {home} is read-only, so that nothing can be registered. "
                "Change its permissions, or choose another with SHIFTREG_HOME."
            )
        if not tracking_uri:
            _prepare_database(home / "registry.db", is_read_only or (reading and has_all))

        from mlflow import MlflowClient

        client = patient(MlflowClient(uri, registry_uri=uri))
        return Store(client, home, without_secret(uri), not tracking_uri, is_read_only)


def patient(client: MlflowClient) -> MlflowClient:
    """MLflow's client, whose methods try again where somebody else was writing.

    Both conflicts are raised after the transaction was rolled back, so that nothing is done twice.
    """
    return cast("MlflowClient", _Patient(client))


class _Patient:
    def __init__(self, client: MlflowClient) -> None:
        from tenacity import Retrying, retry_if_exception, wait_random_exponential

        self._client = client
        self._retrying = Retrying(
            retry=retry_if_exception(lambda error: any(sign in str(error) for sign in CONFLICTS)),
            stop=lambda state: (state.seconds_since_start or 0.0) > PATIENCE_SECONDS,
            wait=wait_random_exponential(0.02, max=1.0),
            reraise=True,
        )

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return functools.partial(self._retrying, value) if callable(value) else value


def _is_read_only(home: Path) -> bool:
    """Whether nothing can be written in a folder, which is made if there is none."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        return True
    database = home / "registry.db"
    return not all(os.access(path, os.W_OK) for path in (home, database) if path.exists())


class Section:
    """One kind of what a registry keeps, and all that is done with it.

    Every method raises :class:`~shiftreg.errors.StorageError` when the database or the server
    refuses, and :class:`~shiftreg.errors.IntegrityError` when what it reads was tampered with.
    """

    def __init__(self, store: Store) -> None:
        """Uses an open registry; asks nothing of it yet."""
        self.store = store


def translates_errors(method: Callable[P, T]) -> Callable[P, T]:
    """Applies :func:`translated_errors` to a method of a :class:`Section`."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        section = args[0]
        assert isinstance(section, Section)
        with translated_errors(section.store.uri):
            return method(*args, **kwargs)

    return wrapper


def paged(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """All that one of MLflow's searches finds, page by page."""
    token: str | None = None
    while True:
        page = search(*arguments, page_token=token, **options)
        yield from page
        if not (token := page.token):
            return


def _prepare_database(path: Path, reading: bool) -> None:
    """Checks the database, and creates it if there is none, one process at a time."""
    # The database's address gives both characters a meaning, which differs between versions.
    if set("?%") & set(str(path)):
        raise InvalidInputError(
            f"The folder of a registry cannot have '?' or '%' in its path: {path.parent}. "
            "Choose another with SHIFTREG_HOME."
        )
    if reading:
        return _check_database(path, reading)
    try:
        with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
            if not path.exists() or path.stat().st_size == 0:
                _create_database(path)
            return _check_database(path, reading)
    except Timeout as error:
        raise StorageError(
            f"The registry {path} stayed locked for {LOCK_SECONDS} s: another process is creating "
            "it. Wait for it to end and try again."
        ) from error


def _create_database(path: Path) -> None:
    """Runs MLflow's migrations beside ``path``, and puts the result there in one step."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # A crash leaves a folder that nobody reads, never half a database under the real name.
    with tempfile.TemporaryDirectory(prefix=".creating-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        root = (path.parent / "artifacts").as_uri()
        store = SqlAlchemyStore(f"sqlite:///{draft}", root)  # type: ignore[no-untyped-call]  # MLflow's
        store.engine.dispose()
        os.replace(draft, path)


def _check_database(path: Path, reading: bool) -> None:
    """Refuses what MLflow would retry for minutes, or fill with its own tables."""
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not reading:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    if "alembic_version" not in tables:
        raise StorageError(
            f"{path} is another program's database, and not a registry. "
            "Move it away, or choose another folder with SHIFTREG_HOME."
        )
