"""An endpoint of a service over HTTP: who may ask, how much, what is turned away, and what a fault shows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeVar

try:
    import anyio
    import msgspec
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from . import schema
from .access import Keys
from .wire import MAX_BODY

_LOG = logging.getLogger("callsieve.serving")
JSON = "application/json"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Work = Callable[[Scope, Receive], Awaitable[Any]]
Noted = Callable[[str, str, int], object]  # who holds the key, the path, the status of the answer
_T = TypeVar("_T")


def unnoted(_who: str, _what: str, _code: int) -> None:
    """Of a service that keeps no log of accesses."""


class Turned(Exception):  # noqa: N818 - it names what happened to the request
    """A request that is turned away: a status, and one line that shows nothing of it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Guarded(Protocol):
    """What an endpoint asks of its service."""

    keys: Keys
    answers: Counter[int]
    noted: Noted


class Endpoint:
    """One path: key, scope and rate are checked, and `work` gives the answer. No fault shows what was sent."""

    def __init__(self, service: Guarded, rights: str, work: Work, kind: str) -> None:
        """Args: rights: scopes with commas between, any of which will do."""
        self._service, self._rights, self._work, self._kind = service, rights, work, kind.encode()
        self._any_of = frozenset(rights.split(","))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI wants it."""
        code, more, kind = 200, _NO_HEADERS, self._kind
        try:
            self._admit(scope)
            found = await self._work(scope, receive)
            body = found if isinstance(found, bytes) else msgspec.json.encode(found)
        except Turned as turned:
            code, body = turned.code, msgspec.json.encode(schema.Fault(str(turned)))
            more, kind = _HEADERS.get(code, _NO_HEADERS), JSON.encode()
        except Exception as error:
            # The error's text could hold what the request held; its kind cannot.
            _LOG.error("a request failed: %s", type(error).__name__)
            code, body, kind = 500, b'{"error":"the service failed"}', JSON.encode()
        self._service.answers[code] += 1
        self._service.noted(scope.get("holder", ""), scope["path"], code)
        length = str(len(body)).encode()
        headers = [(b"content-type", kind), (b"content-length", length), *more]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _admit(self, scope: Scope) -> None:
        holder = self._service.keys.holder(_authorization(scope))
        if holder is None:
            raise Turned(401, "expected a known key: Authorization: Bearer KEY")
        scope["holder"] = holder.name
        if self._any_of.isdisjoint(holder.scopes):
            raise Turned(403, f"the key lacks the scope {self._rights.replace(',', ' or ')}")
        if not holder.spend():
            raise Turned(429, f"more than {holder.rate} requests a second")


# A client whose body is not read to its end is not heard any more.
_CLOSE = (b"connection", b"close")
_NO_HEADERS: list[tuple[bytes, bytes]] = []
_HEADERS = {401: [(b"www-authenticate", b"Bearer"), _CLOSE], 413: [_CLOSE], 429: [(b"retry-after", b"1")]}


async def refused(_request: Request, error: Exception) -> Response:
    """The answer to a request that no endpoint is there for."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as it is registered
    body = msgspec.json.encode(schema.Fault(error.detail))
    return Response(body, error.status_code, error.headers, media_type="application/json")


async def beside(work: Callable[[Any], _T], given: object, *, seconds: float, places: anyio.CapacityLimiter) -> _T:
    """Work in a thread of its own. One that hangs is left alone, and holds one of a few places."""
    try:
        with anyio.fail_after(seconds):
            return await anyio.to_thread.run_sync(work, given, abandon_on_cancel=True, limiter=places)
    except TimeoutError:
        raise Turned(503, f"not done within {seconds:g} seconds") from None


async def body_of(receive: Receive) -> bytes:
    """A request's body, which must be short. (`server.Protocol` hangs up on clients that take long over it.)"""
    whole: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Turned(400, "the request broke off")
        whole += message.get("body", b"")
        if len(whole) > MAX_BODY:
            raise Turned(413, f"a body must have at most {MAX_BODY} bytes")
        if not message.get("more_body", False):
            return whole


def _authorization(scope: Scope) -> bytes:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((value for name, value in headers if name == b"authorization"), b"")
