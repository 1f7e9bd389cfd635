"""What is said of servers that cannot be worked with, by servers that really are so."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shiftreg.errors import InvalidInputError, StorageError
from shiftreg.registry import BaseRecord, open_registry, server
from shiftreg.registry.server import separate_credentials
from shiftreg.settings import without_secret
from tests.servers import mlflow_server


@contextmanager
def answering(status: int, text: str) -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        listener.server_close()


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (200, "2.22.0", "runs MLflow 2.22.0, and this is MLflow 3.* same major version"),
        (200, "4.0.1", "Upgrade the older one"),
        (200, "<html>Welcome</html>", "not as an MLflow server does"),
        (404, "", "not as an MLflow server does"),
        (401, "", "MLFLOW_TRACKING_USERNAME"),
        (403, "", "MLFLOW_TRACKING_PASSWORD"),
        (503, "", "not as an MLflow server does"),
    ],
)
def test_a_server_that_cannot_be_worked_with_is_refused_at_once(
    tmp_path: Path, status: int, text: str, message: str
) -> None:
    with answering(status, text) as uri, pytest.raises(StorageError, match=message):
        open_registry(tmp_path, uri)


def test_a_server_that_is_down_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"127.0.0.1:9 refused: it cannot be reached.*runs"):
        open_registry(tmp_path, "http://127.0.0.1:9")


def test_a_server_without_tls_is_told_from_one_that_is_down(tmp_path: Path) -> None:
    with answering(200, "3.17.0") as uri, pytest.raises(StorageError, match="does not speak TLS"):
        open_registry(tmp_path, uri.replace("http:", "https:"))


def test_a_server_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "GREETING_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StorageError, match=r"does not answer in time.*HTTP_REQUEST_TIMEOUT"):
            open_registry(tmp_path, uri)


def test_a_name_alone_in_the_address_leaves_the_password_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    assert separate_credentials("https://ada@host/mlflow/") == "https://host/mlflow"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "ada"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "s3cret"


@pytest.mark.parametrize("password", ["s3/cret", "s3#cret", "s3?cret", "s3[cret"])
def test_an_address_that_its_password_breaks_is_refused_unseen(
    tmp_path: Path, password: str
) -> None:
    with pytest.raises(InvalidInputError, match="%2F") as refusal:
        open_registry(tmp_path, f"http://ada:{password}@127.0.0.1:9")
    assert "s3" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://ada:s3cret@host:5000/mlflow", "http://host:5000/mlflow"),
        ("postgresql://ada:s3cret@host/db", "postgresql://host/db"),
        ("postgresql://ada:s3/cr'et@host/db", "postgresql://host/db"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host:5000/a@b", "https://host:5000/a@b"),
        ("sqlite:////home/a:b@c/registry.db", "sqlite:////home/a:b@c/registry.db"),
        ("Max retries: http://a:b@c/ and http://d:e@f/", "Max retries: http://c/ and http://f/"),
    ],
)
def test_secrets_are_taken_out_of_addresses(uri: str, shown: str) -> None:
    assert without_secret(uri) == shown


def test_user_and_password_in_an_address_reach_mlflow_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert separate_credentials("http://ada:s3%40cret@host:5000/") == "http://host:5000"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "ada"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "s3@cret"
    with pytest.raises(StorageError) as refusal:
        open_registry(tmp_path, "http://ada:s3cret@127.0.0.1:9")
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("location", ["/srv/mlruns/1", "file:///srv/mlruns/1"])
def test_files_that_a_server_keeps_in_a_folder_of_its_own_are_refused(location: str) -> None:
    with pytest.raises(StorageError, match="--serve-artifacts"):
        server.require_proxied_artifacts("http://host", location)
    server.require_proxied_artifacts("http://host", "mlflow-artifacts:/1")
    server.require_proxied_artifacts("http://host", "s3://bucket/1")
    server.require_proxied_artifacts("sqlite:////a/b.db", location)


@pytest.mark.second_tier
def test_a_base_is_not_registered_where_its_record_would_be_unreachable(
    tmp_path: Path, home: Path, record: BaseRecord
) -> None:
    address = f"sqlite:///{home}/registry.db"  # migrated already, which saves half a minute
    with mlflow_server(address, "--no-serve-artifacts") as bare:
        registry = open_registry(tmp_path / "client", bare.uri)
        with pytest.raises(StorageError, match="--serve-artifacts"):
            registry.bases.save(record)


@pytest.mark.parametrize(
    "uri",
    [
        "http://admin:s3c/ret@127.0.0.1:9",
        "http://admin:s3c#ret@127.0.0.1:9",
        "http://admin:s3c?ret@127.0.0.1:9",
        "http://admin:1/s3cret@127.0.0.1:9",  # which leaves a port
        "http://admin:s3c ret@127.0.0.1:9",
        "http://admin:s3cret@[::1",
        "http://admin:s3cret@127.0.0.1:port",
        "http://127.0.0.1:9/?token=s3cret",
        "admin:s3cret@127.0.0.1",
        "s3cret@127.0.0.1:9",
    ],
)
def test_an_address_that_cannot_be_read_is_not_shown(uri: str, tmp_path: Path) -> None:
    with pytest.raises((InvalidInputError, StorageError)) as raised:
        open_registry(tmp_path, uri)
    assert "s3c" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite", "SQLite"])
def test_a_database_that_would_be_another_one_in_each_folder_is_refused(
    scheme: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    with pytest.raises(InvalidInputError, match="relative path") as caught:
        open_registry(home / "own", f"{scheme}:///registry.db")
    assert not (home / "own").exists()
    address = str(caught.value).split()[-1]
    assert address == f"{scheme.lower()}:///{home}/registry.db"
    (home / "below").mkdir()
    monkeypatch.chdir(home / "below")
    assert open_registry(home / "own", address).bases.all() == ()
    assert not list((home / "below").iterdir())


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///./reg.db"])
def test_a_database_without_a_whole_path_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Give the absolute one: sqlite:////"):
        open_registry(tmp_path, uri)


def test_a_password_with_any_sign_is_left_out_of_texts() -> None:
    said = "Invalid url: http://admin:s3c/r@t@host:9/version and sqlite:////home/a@b/registry.db"
    assert without_secret(said) == (
        "Invalid url: http://host:9/version and sqlite:////home/a@b/registry.db"
    )
