"""The service as a process: uvicorn, one worker, one event loop. On SIGTERM it stops, with nothing lost."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any, cast

try:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from ..features.history import History
from ..features.intake import Intake
from ..features.pseudonyms import Key
from ..features.records import Call
from .access import read_keys
from .accesslog import AccessLog
from .app import Service, application
from .live import DEADLINE, Live
from .pauses import shorten_pauses
from .swap import Swap

PATIENCE = 10.0  # seconds for a request to come in, from its first byte or from the connection
IDLE = 65  # seconds that a connection is kept without a request
HEAD = 1 << 16  # bytes of a request's head
CONNECTIONS = 1024
_LOG = logging.getLogger("callsieve.serving")


class Together:
    """A transport that sends the head of an answer together with its body: one system call and one packet."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """As of `asyncio.Transport`; a head waits for what is written next, and no longer than for the loop's turn."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """As of `asyncio.Transport`."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            data, self._head = self._head, b""
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """HTTP for clients that finish what they begin: others are hung up on."""

    _look: asyncio.TimerHandle | None = None
    _since: float | None = None  # when the request began that is not all here yet
    _head: int | None = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As of `asyncio.Protocol`."""
        super().connection_made(cast(asyncio.Transport, Together(transport, self.loop)))
        self._since = self.loop.time()
        self._look_later(PATIENCE)

    def connection_lost(self, exc: Exception | None) -> None:
        """As of `asyncio.Protocol`."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As of `asyncio.Protocol`."""
        if self._head is not None:
            self._head += len(data)
            if self._head > HEAD:
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head, self._since = 0, self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._since = None
        super().on_message_complete()

    def _look_later(self, seconds: float) -> None:
        self._look = self.loop.call_later(seconds, self._hang_up_if_late)

    def _hang_up_if_late(self) -> None:
        """One timer for all requests of a connection: it looks again when the one that is on its way would be late."""
        left = PATIENCE if self._since is None else self._since + PATIENCE - self.loop.time()
        if left > 0:
            self._look_later(left)
        else:
            self.transport.close()


def serve(
    bundle: Path,
    judge: Swap,
    key: Key,
    keys: Path,
    state: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    zone: str = "Asia/Shanghai",
    deadline: float = DEADLINE,
    calls: int = 2_000_000,
    numbers: int = 200_000,
    compiled: bool = True,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        bundle: folder of the signed bundle; `judge` puts it in service.
        key: of the tokens of numbers.
        keys: file of the keys that clients show (`access.add_key`).
        state: folder of what must outlive the process.
        compiled: run the kernel of the history as C, if that was built.

    Raises:
        ValueError: if a file is not what it must be, or another process serves from `state`.
        OSError: if one cannot be read, or the port cannot be had.
    """

    def begin() -> Live:
        room = {"calls": calls, "numbers": numbers}
        live = Live(judge, Intake(key, zone), state, deadline=deadline, compiled=compiled, **room)
        if compiled and not live.history.compiled:
            _LOG.warning("the kernel was not built as C: the history is interpreted, some twenty times slower")
        if live.refusal is not None:
            _LOG.error("what was known before is lost: %s", live.refusal)
        _warm(judge)
        shorten_pauses()
        return live

    service = Service(begin, judge, bundle, read_keys(keys))
    accesses = AccessLog(state)
    service.noted = accesses.note
    server = configured(service, host, port)
    service.ended = lambda: setattr(server, "should_exit", True)
    server.run()
    accesses.close()
    if service.failure is not None:
        raise service.failure


def _warm(judge: Swap) -> None:
    """Have all tables read before the first call, by one that nobody keeps."""
    call = Intake(Key.generate("warm"))(Call(time.time(), "110", "110"))
    judge.explain(History(calls=1, numbers=2), call)


def configured(service: Service, host: str, port: int) -> uvicorn.Server:
    """The server of a service, not running yet."""
    return uvicorn.Server(
        uvicorn.Config(
            application(service), host, port, http=Protocol, ws="none", access_log=False, proxy_headers=False,
            server_header=False, log_level="warning", limit_concurrency=CONNECTIONS, timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=5,
        )
    )  # fmt: skip
