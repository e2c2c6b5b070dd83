"""Bounds on connections: no client without a key can keep the service from answering others.

httptools parses requests, at a third of the cost of h11, but puts no bound on a head or on requests sent ahead of their
turn. So a connection feeds it small pieces, and stops when a head is too long or a request has to wait. This does not
need a proxy in front of the service.

A connection whose request head does not arrive within HEAD_SECONDS is closed. If there are too many connections, a new
one replaces the oldest idle connection, and first those that never sent a request. `call_requests.py` limits the
requests in work. TLS is the work of a proxy.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Mapping
from typing import Any

try:
    import httptools
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from .call_requests import CallRequest, Limited
from .endpoint import CallEndpoint, CallHead

HEAD_SECONDS = 10.0  # for a request's first line and headers to arrive
MAX_CONNECTIONS = 1024
MAX_HEAD = 16_384  # bytes of a request's first line and headers
_PIECE = 4096  # bytes that are parsed at once; a request that waits takes a hundred times the memory of its bytes
_MOST_AHEAD = 1 << 20  # bytes that a client may send ahead of the answers; more closes the connection
_LOG = logging.getLogger("uvicorn.error")  # `server.py` lets each of its warnings pass once a minute
_HEAD_END = b"\r\n\r\n"
_HEADS = 16  # heads that a connection remembers; those of a client differ by the length of the body
_FILES = 4 * MAX_CONNECTIONS  # open files that the process asks for; connections take at most half


class Connections:
    """Idle connections of a server, the longest idle first.

    Attributes:
        most: the number of connections above which a new connection replaces an idle one.
        unused: idle connections that never sent a request head. `used`: those between two requests.
    """

    def __init__(self, most: int = MAX_CONNECTIONS) -> None:
        self.most = most
        self.unused: dict[Connection, None] = {}
        self.used: dict[Connection, None] = {}

    def make_room(self, connections: int) -> None:
        """Closes the oldest idle connection, if there is one and there are too many connections."""
        if connections <= self.most:
            return
        _LOG.warning("more connections than fit: each new one replaces the longest idle one")
        for idle in (self.unused, self.used):
            if idle:
                next(iter(idle)).abandon()
                return


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with bounds on the time and size of a head, and on requests ahead of their turn.

    A request to one of `endpoints` that arrives whole becomes a `CallRequest`; its head is not parsed if it came before
    on this connection, byte for byte. The scope of all others has `arrived`: the `time.monotonic()` at which the last
    byte was read.
    """

    def __init__(
        self,
        *arguments: Any,
        idle: Connections,
        limited: Limited,
        endpoints: Mapping[bytes, CallEndpoint],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._idle, self._limited, self._endpoints = idle, limited, endpoints
        self._endpoint: CallEndpoint | None = None  # of the request that is parsed now, while it may be a whole one
        self._body = b""  # of that request
        self._head_timer: asyncio.TimerHandle | None = None
        self._heads: dict[bytes, tuple[CallHead, int]] = {}  # heads with the length of their bodies, by their bytes
        self._is_between = True  # whether all requests so far were read to their end
        self._head = -1  # bytes so far of a head that is not complete; -1 outside a head
        self._read_at = 0.0
        self._rest = b""  # bytes that are not parsed yet, because a request waits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time limit of the first head."""
        super().connection_made(transport)
        self._idle.make_room(len(self.connections))
        self._idle.unused[self] = None
        self._limit_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._leave_idle()
        self._unset_keepalive_if_required()
        self._rest = b""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses data. Starts the time limit of a head with its first byte, and ends it when the head is complete."""
        self._read_at = time.monotonic()
        if self._starts_known(data):
            self._leave_idle()
            return
        if len(data) <= _PIECE and not self._rest:
            was_between, before = self._is_between, self.cycle
            self._parse(data)
            if was_between and self.cycle is not before:
                self._remember(data)
        else:
            self._rest += data
            self._parse_rest()
        if self.cycle is None or self.cycle.response_complete:
            self._limit_head()
        else:
            self._leave_idle()

    def on_message_begin(self) -> None:
        """Begins a head."""
        super().on_message_begin()
        self._head, self._is_between = 0, False

    def on_headers_complete(self) -> None:
        """Ends a head and starts its request, unless `_parse_without_upgrade` will parse the head again."""
        self._head = -1
        if self.parser.should_upgrade():
            return
        if (endpoint := self._endpoints.get(self.url)) is not None and self._is_plain():
            self._endpoint, self._body = endpoint, b""
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Takes a part of a body."""
        if self._endpoint is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Notes when the whole request was read, or queues a request about a call."""
        if self.parser.should_upgrade():
            return
        self._is_between = True
        if self._endpoint is None:
            self.scope["arrived"] = self._read_at  # type: ignore[typeddict-unknown-key]
            super().on_message_complete()
            return
        head = CallHead(self._endpoint, self.headers, keep_alive=self.parser.should_keep_alive())
        self._endpoint = None
        self._start(head, self._body)

    def on_response_complete(self) -> None:
        """Makes the connection idle, unless the next request has arrived already."""
        if self.timeout_keep_alive_task is None or self.pipeline or self.transport.is_closing():
            super().on_response_complete()
        else:  # the timer of an earlier answer still runs
            self.server_state.total_requests += 1
            self.flow.resume_reading()
        if self._rest:
            self.loop.call_soon(self._parse_rest)
        elif self.cycle.response_complete and not self.transport.is_closing():
            self._idle.used[self] = None

    def timeout_keep_alive_handler(self) -> None:
        """Closes a connection on which nothing was read for long; otherwise looks again when that could be so."""
        self.timeout_keep_alive_task = None
        left = self._read_at + self.timeout_keep_alive - time.monotonic()
        if not self.cycle.response_complete:
            return  # its answer starts the timer again
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _starts_known(self, data: bytes) -> bool:
        if not (self._is_between and self._is_free()) or self._rest:
            return False
        length = data.find(_HEAD_END) + len(_HEAD_END)
        head, body_length = self._heads.get(data[:length], (None, 0))
        if head is None or len(data) != length + body_length:
            return False
        self._start(head, data[length:])
        return True

    def _remember(self, data: bytes) -> None:
        request, length = self.cycle, data.find(_HEAD_END) + len(_HEAD_END)
        if isinstance(request, CallRequest) and len(data) == length + len(request.body):
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[data[:length]] = request.head, len(request.body)

    def _start(self, head: CallHead, body: bytes) -> None:
        request = CallRequest(self, head, body, self._read_at)
        self.cycle = request  # type: ignore[assignment]
        self._limited.start(request)

    def _parse(self, piece: bytes) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_without_upgrade(piece[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse("invalid HTTP request")
            return
        if self._endpoint is not None:  # the rest of the body is still to come
            self._endpoint = None
            super().on_headers_complete()
            super().on_body(self._body)
        if self._head >= 0:
            self._head += len(piece)
            if self._head > MAX_HEAD:
                self._refuse(f"expected a head of at most {MAX_HEAD} bytes")

    def _is_plain(self) -> bool:
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.expect_100_continue
            and self._is_free()
        )

    def _is_free(self) -> bool:
        return not self.flow.write_paused and (self.cycle is None or self.cycle.response_complete)

    def _parse_without_upgrade(self, body: bytes) -> None:
        """Parses a head again without its header `Upgrade`: httptools would take the body for another protocol.

        Clients such as that of Java propose HTTP/2 in their first request, and go on with HTTP/1.1.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse("no CONNECT here")
            return
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._parse(b"\r\n".join([b"%b %b HTTP/1.1" % (method, self.url), *lines, b"", body]))

    def _refuse(self, why: str) -> None:
        self.logger.warning("a connection was refused: %s", why)
        self.send_400_response(why)

    def _parse_rest(self) -> None:
        rest, at = self._rest, 0
        while at < len(rest) and not self.pipeline and not self.transport.is_closing():
            self._parse(rest[at : at + _PIECE])
            at += _PIECE
        self._rest = b"" if self.transport.is_closing() else rest[at:]
        if len(self._rest) > _MOST_AHEAD:
            self.abandon()
        elif self._rest:
            self.flow.pause_reading()

    def abandon(self) -> None:
        """Closes the connection at once."""
        self._leave_idle()
        self.connections.discard(self)
        self.transport.abort()

    def _limit_head(self) -> None:
        if self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.abandon)

    def _leave_idle(self) -> None:
        self._idle.unused.pop(self, None)
        self._idle.used.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def connection_limit() -> int:
    """Raises the limit of open files where that is allowed, and returns how many connections fit into it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)
