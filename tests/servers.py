"""A team's server as it is deployed: PostgreSQL, and before it MLflow with its authentication.

``python -m tests.servers`` starts one to try things on, until Ctrl-C.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

START_SECONDS = 180
STOP_SECONDS = 3
UNTIL_WE_DIE = ("setpriv", "--pdeathsig=TERM")
"""Linux ends the server even if we are killed."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PYTHONWARNINGS": "ignore",
    # Jobs, which nobody submits here, would take eight processes more.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}

WHOLE_ON_SERVER = os.environ.get("SHIFTREG_TESTS_ON") == "server"
"""Whether tests that name no server are to work on the team's, too."""

START = Path(__file__).parents[1] / "examples" / "team" / "start.sh"


class PostgreSQL:
    """A PostgreSQL that can be stopped, and started again with what it kept.

    Attributes:
        address: Of its databases, which lacks but a name at its end.
    """

    def __init__(
        self, address: str, command: Sequence[str | Path], log: Path, answers: Callable[[], bool]
    ) -> None:
        """Keeps what it takes to start one; use :func:`postgresql`."""
        self.address = address
        self._command, self._log, self._answers = command, log, answers
        self._running = ExitStack()

    def start(self) -> None:
        """Returns when it answers."""
        started = _process(self._command, self._log, signal.SIGINT)
        _wait(self._answers, self._running.enter_context(started), self._log)

    def stop(self) -> None:
        """Ends it, whoever is connected; what was not committed is lost."""
        self._running.close()


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        uri: Where, without a password.
        database: Where PostgreSQL keeps what it is told, for who looks behind the server's back.
        password: Of its user "admin".
        folder: Of the artifacts and the log.
        postgresql: That database's server, where it is the server's own.
    """

    uri: str
    database: str
    password: str = field(repr=False)
    folder: Path
    postgresql: PostgreSQL | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment has to say to reach it."""
        return {
            "SHIFTREG_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }

    def empty(self) -> None:
        """Takes away all that was registered, so that the next test finds a new server."""
        import psycopg2

        connection = psycopg2.connect(self.database.replace("+psycopg2", ""))
        with connection, connection.cursor() as cursor:
            cursor.execute("TRUNCATE registered_models, runs, experiment_tags CASCADE")
            cursor.execute("DELETE FROM experiments WHERE experiment_id <> 0")
        connection.close()

    @property
    def log(self) -> str:
        """What the server has printed."""
        return (self.folder / "mlflow.log").read_text(errors="replace")


def postgresql_programs() -> Path | None:
    """The folder of PostgreSQL's programs: Debian's newest, or that of the PATH."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(debian, key=lambda path: float(path.parents[1].name), default=None)
    found = newest or shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@contextmanager
def postgresql(programs: Path, databases: Sequence[str]) -> Iterator[PostgreSQL]:
    """A PostgreSQL of its own, on a socket in a temporary folder; gone at the end."""
    with _folder() as folder:
        data, log, port = folder / "data", folder / "postgresql.log", free_port()
        as_user = _lower_user(folder)
        password = folder / "password"
        word = secrets.token_hex(16)
        password.write_text(word)
        password.chmod(0o644)  # the folder is closed
        subprocess.run(
            [
                *as_user,
                programs / "initdb",
                *("-D", data, "-U", "mlflow", "-E", "UTF8", "--no-sync"),
                *("--auth=scram-sha-256", f"--pwfile={password}"),
            ],
            check=True,
            capture_output=True,
            cwd="/",
        )
        # On loopback alone; what a crash of the machine would lose is of no interest here.
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
        server = [*as_user, programs / "postgres", "-D", data, *options]
        environment = os.environ | {"PGPASSWORD": word}
        place = ["-h", "127.0.0.1", "-p", str(port), "-U", "mlflow"]

        def answers() -> bool:
            ask = [programs / "pg_isready", *place]
            return subprocess.run(ask, check=False, capture_output=True).returncode == 0

        # The driver is named: which one a bare "postgresql" means depends on SQLAlchemy.
        address = f"postgresql+psycopg2://mlflow:{word}@127.0.0.1:{port}/"
        running = PostgreSQL(address, server, log, answers)
        running.start()
        try:
            for name in databases:
                create = [programs / "createdb", *place, name]
                subprocess.run(create, check=True, env=environment, capture_output=True)
            yield running
        finally:
            running.stop()


@contextmanager
def mlflow_server(database: str, *options: str) -> Iterator[Server]:
    """An MLflow server on loopback that lets everybody in.

    Args:
        database: That keeps runs and versions.
        *options: Further ones.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--backend-store-uri", database, *options]
    with _folder() as folder:
        port = free_port()
        command += ["--host", "127.0.0.1", "--port", str(port)]
        server = Server(f"http://127.0.0.1:{port}", database, "", folder)
        with _served(server, command, {}):
            yield server


@contextmanager
def team_server() -> Iterator[Server]:
    """PostgreSQL, and MLflow before it, started as examples/team deploys it."""
    programs = postgresql_programs()
    assert programs, "PostgreSQL is not installed"
    with postgresql(programs, ["mlflow", "users"]) as running, _folder() as folder:
        port, parts = free_port(), urlsplit(running.address)
        server = Server(
            f"http://127.0.0.1:{port}",
            f"{running.address}mlflow",
            secrets.token_urlsafe(12),
            folder,
            running,
        )
        environment = {
            "POSTGRES_HOST": f"{parts.hostname}:{parts.port}",
            "POSTGRES_PASSWORD": str(parts.password),
            "MLFLOW_AUTH_ADMIN_PASSWORD": server.password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "WORKERS": "1",
            "ARTIFACTS": str(folder / "artifacts"),
        }
        with _served(server, [str(START)], environment):
            yield server


@contextmanager
def _served(
    server: Server, command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Server]:
    """Starts a server's program and waits until it answers."""
    programs = Path(sys.executable).parent
    everything = os.environ | QUIET | environment | {"PATH": f"{programs}:{os.environ['PATH']}"}
    log = server.folder / "mlflow.log"
    started = _process([*UNTIL_WE_DIE, *command], log, signal.SIGTERM, everything, server.folder)
    with started as process:
        _wait(lambda: _is_healthy(server.uri), process, log)
        yield server


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _folder() -> Iterator[Path]:
    # Not below pytest's folders: those are closed to the user that PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="shiftreg-server-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lower_user(folder: Path) -> list[str]:
    """Gives a folder to the user that PostgreSQL may run as, and says how to become it."""
    if os.getuid() != 0:  # PostgreSQL refuses the superuser only
        return list(UNTIL_WE_DIE)
    names = [entry.pw_name for entry in pwd.getpwall()]
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return [*UNTIL_WE_DIE, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


@contextmanager
def _process(
    command: Sequence[str | Path],
    log: Path,
    stop: signal.Signals,
    environment: Mapping[str, str] | None = None,
    folder: Path = Path("/"),
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server in a session of its own, and ends all of it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        finally:
            # Its children, too: a session's group outlives its leader.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise TimeoutError(f"The server did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


def _is_healthy(uri: str) -> bool:
    # An opener of its own: the shared one keeps the proxies of whichever test used it first.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    """Starts a server and says how to reach it."""
    with team_server() as running:
        for name, value in running.environment.items():
            sys.stdout.write(f"export {name}={value}\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        main()
