"""A bound on the requests in work, and requests about one call, which are answered without ASGI.

Such a request needs no task and no messages if it arrives whole. The event loop answers these requests in the order in
which they arrived over all connections, with one write each. Requests that arrive in parts, or behind another one on
their connection, go through ASGI, and so do all requests of a service with traces.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any

try:
    from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from .endpoint import CLOSE, HEADERS, JSON, CallEndpoint

_LOG = logging.getLogger("uvicorn.error")  # `server.py` lets each of its warnings pass once a minute
_BUSY = b'{"error":"too many requests are in work"}'
_JSON = (b"content-type", JSON.encode())
_BUSY_HEADERS = [_JSON, (b"content-length", b"%d" % len(_BUSY)), CLOSE]


class Limited:
    """An ASGI application that answers 503 above a number of requests in work, except on some paths."""

    def __init__(self, app: Any, always: Collection[str], most: int) -> None:
        """Wraps an application.

        Args:
            always: paths that are always answered, such as health checks.
            most: requests in work.
        """
        self._app, self._always, self._most, self._working = app, always, most, 0

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
        loop = asyncio.get_running_loop()
        if self._is_full():
            request.keep_alive = False
            loop.call_soon(request.send, 503, _BUSY)
        else:
            self._working += 1
            loop.call_soon(self._answer, request)

    def _answer(self, request: CallRequest) -> None:
        self._working -= 1
        request.answer()

    def _is_full(self) -> bool:
        if self._working < self._most:
            return False
        _LOG.warning("more requests in work than fit: others are answered 503")
        return True


class CallRequest:
    """A request about one call, in place of uvicorn's `RequestResponseCycle`, whose attributes it has."""

    __slots__ = (
        "_arrived", "_body", "_connection", "_endpoint", "_headers", "disconnected", "keep_alive", "response_complete",
    )  # fmt: skip
    message_event = asyncio.Event()  # for `connection_lost`; nothing waits for it

    def __init__(self, connection: HttpToolsProtocol, endpoint: CallEndpoint, body: bytes, arrived: float) -> None:
        self._connection, self._endpoint, self._body, self._arrived = connection, endpoint, body, arrived
        self._headers = connection.headers
        self.keep_alive = connection.parser.should_keep_alive()
        self.disconnected = self.response_complete = False

    def answer(self) -> None:
        """Scores or observes the call, also if the client has gone, and sends the answer."""
        self.send(*self._endpoint.answer(self._headers, self._body, self._arrived))

    def send(self, code: int, body: bytes) -> None:
        """Sends an answer, unless the connection is closing."""
        connection = self._connection
        if connection.transport.is_closing():
            return
        defaults, extra = connection.server_state.default_headers, HEADERS.get(code, [])
        if CLOSE in extra:
            self.keep_alive = False
        elif not self.keep_alive:
            extra = [*extra, CLOSE]
        content = (_JSON, (b"content-length", b"%d" % len(body)))
        headers = b"".join([b"%b: %b\r\n" % header for header in (*defaults, *content, *extra)])
        connection.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[code], headers, body))
        self.response_complete = True
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()
