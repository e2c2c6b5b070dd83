"""A bound on the requests in work, and requests about one call, which are answered without ASGI.

Such a request needs no task and no messages if it arrives whole. The event loop answers these requests in the order in
which they arrived over all connections, with one write each. Requests that arrive in parts, or behind another one on
their connection, go through ASGI.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection
from typing import Any

try:
    from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from .endpoint import CLOSE, HEADERS, JSON, CallHead

_LOG = logging.getLogger("uvicorn.error")  # `server.py` lets each of its warnings pass once a minute
_BUSY = b'{"error":"too many requests are in work"}'
_JSON = (b"content-type", JSON.encode())
_BUSY_HEADERS = [_JSON, (b"content-length", b"%d" % len(_BUSY)), CLOSE]


class Limited:
    """An ASGI application that answers 503 above a number of requests in work, except on some paths."""

    def __init__(self, app: Any, always: Collection[str], most: int) -> None:
        """Wraps an application."""
        self._app, self._always, self._most, self._working = app, always, most, 0
        self._waiting: deque[CallRequest] = deque()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request, or runs the lifespan of the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] not in self._always and self._is_full():
            await send({"type": "http.response.start", "status": 503, "headers": _BUSY_HEADERS})
            await send({"type": "http.response.body", "body": _BUSY})
            return
        self._working += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._working -= 1

    def start(self, request: CallRequest) -> None:
        """Answers a request in its turn; with 503 if too many requests are in work."""
        if self._is_full():
            request.keep_alive = False
            asyncio.get_running_loop().call_soon(request.send, 503, _BUSY)
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        self._waiting.append(request)

    def _answer(self) -> None:
        try:
            while self._waiting:
                self._waiting.popleft().answer()
        finally:
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._answer)

    def _is_full(self) -> bool:
        if self._working + len(self._waiting) < self._most:
            return False
        _LOG.warning("more requests in work than fit: others are answered 503")
        return True


class CallRequest:
    """A request about one call, in place of uvicorn's `RequestResponseCycle`, whose attributes it has."""

    __slots__ = ("_arrived", "_connection", "body", "disconnected", "head", "keep_alive", "response_complete")
    message_event = asyncio.Event()  # for `connection_lost`; nothing waits for it

    def __init__(self, connection: HttpToolsProtocol, head: CallHead, body: bytes, arrived: float) -> None:
        self._connection, self.head, self.body, self._arrived = connection, head, body, arrived
        self.keep_alive = head.keep_alive
        self.disconnected = self.response_complete = False

    def answer(self) -> None:
        """Scores or observes the call, also if the client has gone, and sends the answer."""
        self.send(*self.head.endpoint.answer(self.head, self.body, self._arrived))

    def send(self, code: int, body: bytes) -> None:
        """Sends an answer, unless the connection is closing."""
        connection = self._connection
        if connection.transport.is_closing():
            return
        closes = CLOSE in HEADERS.get(code, ()) or not self.keep_alive
        start = _first_lines(code, connection.server_state.default_headers, closes=closes)
        connection.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (start, len(body), body))
        self.response_complete = True
        if closes:
            connection.transport.close()
        connection.on_response_complete()


_FIRST_LINES: dict[tuple[int, bool], tuple[list[tuple[bytes, bytes]], bytes]] = {}


def _first_lines(code: int, defaults: list[tuple[bytes, bytes]], *, closes: bool) -> bytes:
    known = _FIRST_LINES.get((code, closes))
    if known is not None and known[0] is defaults:
        return known[1]
    of_code = [header for header in HEADERS.get(code, ()) if header != CLOSE]
    headers = [*defaults, _JSON, *of_code, *([CLOSE] if closes else ())]
    lines = STATUS_LINE[code] + b"".join([b"%b: %b\r\n" % header for header in headers])
    _FIRST_LINES[code, closes] = defaults, lines
    return lines
