"""Outages for the tests of the store: a connection that is cut around a commit, a disk without space."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final
from urllib.parse import urlsplit

CHUNK: Final = 65_536


class Cut(Enum):
    """When the connection that sends a COMMIT is lost."""

    BEFORE = auto()
    """The server never sees it."""
    AFTER = auto()
    """The server has done it; the client never hears so."""


class Proxy:
    """Forwards TCP connections to a PostgreSQL server, and cuts the one that commits when told to, once."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 0)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://postgres@127.0.0.1:{self._listening.getsockname()[1]}{parts.path}"
        self.cut: Cut | None = None
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No more connections."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            threading.Thread(target=self._until_over, args=(client, server), daemon=True).start()

    def _until_over(self, client: socket.socket, server: socket.socket) -> None:
        """A side that resets its connection has ended it as well."""
        with contextlib.suppress(ConnectionError):
            self._forward(client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Until one side ends it or it is cut. Nothing is prepared yet, so a commit is to be seen as text."""
        cut: Cut | None = None
        with client, server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(CHUNK)
                    if source is client and b"COMMIT" in data:
                        cut = cut or self._cut_now()
                    if not data or _is_over(cut, data, from_server=source is server):
                        return
                    if source is client or cut is None:
                        (server if source is client else client).sendall(data)

    def _cut_now(self) -> Cut | None:
        cut, self.cut = self.cut, None
        self.cuts += cut is not None
        return cut


def _is_over(cut: Cut | None, data: bytes, *, from_server: bool) -> bool:
    """A commit may come in several pieces, so one that is to be done is forwarded until the server says that it is."""
    return cut is Cut.BEFORE or (cut is Cut.AFTER and from_server and b"COMMIT" in data)


@contextmanager
def no_space_beyond(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes: what a full disk does, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
