"""A network between a client and a server, which fails when a test says so."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.servers import free_port


@dataclass
class _Cut:
    """Where something fails: at the nth request that begins so, before or after its answer."""

    request: bytes
    nth: int
    answered: bool
    meanwhile: Callable[[], None] | None


class Link:
    """Passes on what a client says to a server, until it is cut; then nobody answers.

    Attributes:
        uri: Where the client finds the server.
    """

    def __init__(self, uri: str) -> None:
        self._there = ("127.0.0.1", int(urlsplit(uri).port or 80))
        self._here = ("127.0.0.1", free_port())
        self.uri = f"http://127.0.0.1:{self._here[1]}"
        self._cut: _Cut | None = None
        self._open: set[socket.socket] = set()
        self._changing = threading.Lock()
        self.mend()

    def cut_at(
        self,
        request: str,
        *,
        nth: int = 1,
        answered: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Fails at a request: before it reaches the server, or when that has answered it.

        Args:
            request: How it begins.
            nth: Of those.
            answered: Whether the server hears it, and its answer is lost.
            meanwhile: What fails instead, before the server hears it; the network then holds.
        """
        self._cut = _Cut(request.encode(), nth, answered, meanwhile)

    def cut(self) -> None:
        """Fails now: whoever is connected is cut off, nobody else gets through."""
        with self._changing:
            self._cut = None
            self.is_up = False
            # What waits in accept() is woken by this, not by closing.
            for one in {self._listener, *self._open}:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._open.clear()

    def mend(self) -> None:
        """Works (again)."""
        with self._changing:  # who asks hears of a cut before all of it is done
            self._listener = socket.create_server(self._here)
            self.is_up = True
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._there)
                self._open |= {client, server}
                waits = threading.Event()
                for one in ((client, server, True, waits), (server, client, False, waits)):
                    threading.Thread(target=self._pass_on, args=one, daemon=True).start()

    def _pass_on(
        self, source: socket.socket, target: socket.socket, asks: bool, waits: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if asks and (met := self._met(data)):
                    if met.meanwhile:
                        met.meanwhile()
                    elif met.answered:
                        waits.set()
                    else:
                        break
                elif not asks and waits.is_set():
                    break
                target.sendall(data)
            else:
                target.shutdown(socket.SHUT_WR)
                return
            self.cut()

    def _met(self, data: bytes) -> _Cut | None:
        if self._cut is None or not data.startswith(self._cut.request):
            return None
        self._cut.nth -= 1
        return self._cut if self._cut.nth == 0 else None
