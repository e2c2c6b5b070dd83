"""Connections of the service: uvicorn's, which hand whole requests about a call on without ASGI.

A proxy in front of the service bounds heads and connections (`haproxy.cfg`); `call_requests.py` bounds the requests in
work, and `endpoint.py` their bodies. TLS is the work of the proxy, too.
"""

from __future__ import annotations

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

_HEAD_END = b"\r\n\r\n"
_HEADS = 16  # heads that a connection remembers; those of a client differ by the length of the body
_LONGEST = 4096  # bytes of a request that needs no ASGI, and that a connection remembers the head of


class Connection(HttpToolsProtocol):
    """uvicorn's connection.

    A request to one of `endpoints` that arrives whole becomes a `CallRequest`; its head is not parsed if it came before
    on this connection, byte for byte. The scope of all others has `arrived`: the `time.monotonic()` at which the last
    byte was read.
    """

    def __init__(
        self, *arguments: Any, limited: Limited, endpoints: Mapping[bytes, CallEndpoint], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._limited, self._endpoints = limited, endpoints
        self._endpoint: CallEndpoint | None = None  # of the request that is parsed now, while it may be a whole one
        self._body = b""  # of that request
        self._heads: dict[bytes, tuple[CallHead, int]] = {}  # heads with the length of their bodies, by their bytes
        self._is_between = True  # whether all requests so far were read to their end
        self._is_short, self._read_at = True, 0.0

    def data_received(self, data: bytes) -> None:
        """Parses data, unless it is a whole request with a head that came before."""
        self._read_at = time.monotonic()
        self._unset_keepalive_if_required()
        if self._starts_known(data):
            return
        was_between, before, self._is_short = self._is_between, self.cycle, len(data) <= _LONGEST
        self._parse(data)
        if was_between and self.cycle is not before:
            self._remember(data)

    def on_message_begin(self) -> None:
        """Begins a head."""
        super().on_message_begin()
        self._is_between = False

    def on_headers_complete(self) -> None:
        """Ends a head and starts its request, unless `_parse_without_upgrade` will parse the head again."""
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

    def _starts_known(self, data: bytes) -> bool:
        if not (self._is_between and self._is_free()):
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

    def _is_plain(self) -> bool:
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self._is_short
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
