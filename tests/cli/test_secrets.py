"""A password in the address of a server shows nowhere, whatever the server does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shiftreg_cli.main import app
from tests.servers import Server

PASSWORD = "s3cret-word"


@contextmanager
def broken_server(refuses: bool = False) -> Iterator[str]:
    """A server that says its version and then answers 500, or 401, to everything."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            greeted = self.path == "/version"
            text = "3.17.0" if greeted else f'{{"message": "see http://x:{PASSWORD}@db/"}}'
            self.send_response(200 if greeted else 401 if refuses else 500)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PATCH = do_PUT = answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        listener.server_close()


@pytest.fixture(params=["gone", "refuses", "fails"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "gone":
        yield "127.0.0.1:9"
        return
    with broken_server(refuses=request.param == "refuses") as where:
        yield where


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--json"],
        ["list", "--traceback"],
        ["restore", "Picasso", "--reason", "x", "--yes", "--traceback"],
        ["audit", "--traceback"],
        ["ui", "--traceback"],
    ],
)
def test_what_fails_says_so_without_the_password(
    address: str, arguments: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("SHIFTREG_HOME", str(home))
    monkeypatch.setenv("SHIFTREG_TRACKING_URI", f"http://ada:{PASSWORD}@{address}")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert address in result.stderr
    assert PASSWORD not in result.output
    assert_kept_nowhere(home, PASSWORD)


def test_what_works_keeps_it_nowhere_either(
    home: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
    monkeypatch.setenv("SHIFTREG_HOME", str(home))
    uri = server.uri.replace("http://", f"http://admin:{server.password}@")
    monkeypatch.setenv("SHIFTREG_TRACKING_URI", uri)
    shown = ""
    for arguments in (
        ["init", "miniature", "--steps", "1"],
        ["erase", "Picasso", "--json"],
        ["compose", "--export", str(tmp_path / "model.safetensors"), "--json"],
        ["evidence", "Picasso", str(tmp_path / "picasso.html")],
        ["audit", "--json"],
        ["doctor", "--json"],
        ["erase", "Nobody@7"],
    ):
        shown += CliRunner().invoke(app, arguments).output
    assert (tmp_path / "picasso.html").exists()
    assert server.password not in shown
    assert_kept_nowhere(tmp_path, server.password)
    assert server.password not in server.log


def assert_kept_nowhere(folder: Path, word: str) -> None:
    for path in folder.rglob("*"):
        assert not path.is_file() or word.encode() not in path.read_bytes(), path
