"""HTTP/1.1 for the service, on uvicorn's protocol: clients that send or read slowly are hung up on, and short questions
answered at once.

A question that comes whole, in one piece, to an endpoint that waits for nothing is answered as soon as it is read: a
task, an event and a timer for each, as uvicorn has them, cost as much as half a verdict. All else goes uvicorn's way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

try:
    from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from .endpoint import CLOSE, AtOnce, Scope
from .request_queue import Turns

PATIENCE = 10.0  # seconds for a request to come in, from its first byte or from the connection, and for an answer to go
HEAD = 1 << 16  # bytes of a request's head
PIECE = 1 << 14  # bytes that are read between two looks at how long a head is and how many requests wait
SELDOM = 60.0  # seconds between two lines about clients that say the same

_NOBODY: tuple[str, None] = ("", None)


class Seldom(logging.Filter):
    """Of what clients without a key can have written as often as they like, one line a minute. They are counted."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """As of `logging.Filter`."""
        if record.levelno != logging.WARNING:
            return True
        now = time.monotonic()
        if now < self._next.get(record.msg, now):
            return False
        self._next[record.msg] = now + SELDOM
        return True


logging.getLogger("uvicorn.error").addFilter(Seldom())


class Together:
    """A transport that sends the head of an answer together with its body: one system call and one packet."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""
        self.full = False  # nothing more is to be read for now, whoever would like to

    def resume_reading(self) -> None:
        """As of `asyncio.Transport`."""
        if not self.full:
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """As of `asyncio.Transport`; a head waits for what is written next, and no longer than for the loop's turn."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def write_whole(self, data: bytes) -> None:
        """An answer that has its body with it."""
        self._flush()
        self._transport.write(data)

    def is_closing(self) -> bool:
        """As of `asyncio.Transport`."""
        return self._transport.is_closing()

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

    _look: asyncio.TimerHandle
    _since: float | None = None  # when the request began that is not all here yet
    _idle: float | None = None  # when a request was answered at once, and none has come since
    _stuck: float | None = None  # since when the client has not taken what was written
    _head: int | None = 0
    _asked: AtOnce | None = None  # who answers the request that is not all here yet, if it comes whole
    _whole: AtOnce | None = None  # who answers the one that is here and waits for its turn
    _body, _came = b"", 0.0
    _rest = b""  # what has come, and waits until what was asked before is answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As of `asyncio.Protocol`."""
        self._out = Together(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, self._out))
        known: Mapping[str, AtOnce] = getattr(self.app, "at_once", {})
        self._turns: Turns = getattr(self.app, "turns", Turns())
        answers: Counter[int] | None = getattr(self.app, "answers", None)
        self._answers = Counter() if answers is None else answers
        self._at_once = {path.encode(): (path, each) for path, each in known.items()}
        self._since = self.loop.time()
        self._look_later(PATIENCE)

    def connection_lost(self, exc: Exception | None) -> None:
        """As of `asyncio.Protocol`."""
        self._look.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """As of `asyncio.Protocol`."""
        self._stuck = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """As of `asyncio.Protocol`."""
        self._stuck = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """As of `asyncio.Protocol`."""
        if self._rest:
            self._rest += data  # of what had been read when reading ended
            return
        for begin in range(0, len(data), PIECE):
            if self.pipeline:  # one client's questions, each with all it takes to answer it, could fill memory
                self._rest, self._out.full = data[begin:], True
                self._out.pause_reading()
                return
            self._read(data[begin : begin + PIECE])
            if self.transport.is_closing():
                return
        if self._asked is not None:
            self._asked = None  # the rest is still to come: no matter for once
            super().on_headers_complete()
            super().on_body(self._body)

    def _read(self, piece: bytes) -> None:
        super().data_received(piece)
        if self._head is not None:  # one that is not all here yet; how much of the piece came before it nobody knows
            self._head += len(piece)
            if self._head > HEAD + PIECE:
                self.transport.close()

    def on_response_complete(self) -> None:
        """An answer has gone the long way."""
        super().on_response_complete()
        if self._rest:
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Read what waited, if nothing has to go before it."""
        if not self._rest or self.pipeline or self.transport.is_closing():
            return
        if self._since is not None:
            self._since = self.loop.time()  # it was not the client that was slow
        rest, self._rest, self._out.full = self._rest, b"", False
        self.flow.resume_reading()
        self._out.resume_reading()
        self.data_received(rest)

    def send_400_response(self, msg: str) -> None:
        """The answer to what is no HTTP."""
        self._answers[400] += 1
        super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """A request begins."""
        self.take_turn()  # one that came before it goes first
        self._head, self._since, self._idle = 0, self.loop.time(), None
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._head, self._body = None, b""
        path, self._asked = self._at_once.get(self.url, _NOBODY)
        if self._asked is not None and self._is_plain():
            self.scope["path"] = path
        else:
            self._asked = None
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body is there."""
        if self._asked is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._since = None
        if self._asked is None:
            super().on_message_complete()
        else:
            self._whole, self._came, self._asked = self._asked, self._asked.beat, None
            self._turns.wait(self, self.loop)

    def take_turn(self) -> None:
        """Answer the question that waits, if one does."""
        asked, self._whole = self._whole, None
        if asked is not None:
            self._answer(asked)

    def shutdown(self) -> None:
        """As uvicorn wants it: what was asked before is answered."""
        self.take_turn()
        super().shutdown()

    def _is_plain(self) -> bool:
        """Whether a request asks for no more of HTTP than an answer, and nothing else has to go before it."""
        parser, limit = self.parser, self.limit_concurrency
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.transport.is_closing()
            and (limit is None or len(self.connections) < limit)
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _answer(self, asked: AtOnce) -> None:
        code, headers, body = asked.answer(cast(Scope, self.scope), self._body, self._came)
        if self.transport.is_closing():
            return
        lines = [STATUS_LINE[code]]
        for name, value in (*self.server_state.default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
        self._out.write_whole(b"".join((*lines, b"\r\n", body)))
        self.server_state.total_requests += 1
        self._idle = self.loop.time()
        if CLOSE in headers:
            self.transport.close()

    def _look_later(self, seconds: float) -> None:
        self._look = self.loop.call_later(seconds, self._hang_up_if_late)

    def _hang_up_if_late(self) -> None:
        """One timer for all requests of a connection: it looks again when the one that is on its way would be late."""
        now = self.loop.time()
        if self._stuck is None and self.transport.is_closing():
            self._stuck = now  # it closes when the client has taken the rest
        if self._stuck is not None:
            left = self._stuck + PATIENCE - now
        elif self._since is not None:
            left = self._since + PATIENCE - now
        elif self._idle is not None:
            left = self._idle + self.timeout_keep_alive - now
        else:
            left = PATIENCE
        if left > 0:
            self._look_later(min(left, PATIENCE))
        else:
            self.transport.abort()  # to close would wait for a client that takes nothing
