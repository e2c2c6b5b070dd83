"""One path of an HTTP service: API key, scope, rate, body limit, and answers that never show what the client sent."""

from __future__ import annotations

import asyncio
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

from callsieve.serving.live.gc_pauses import look_at_young_objects
from callsieve.serving.scorer.problems import places

from .answers import Fault
from .api_keys import ApiKeys, KeyHolder
from .schema import MAX_BODY

BODY_SECONDS = 10.0  # for a request's body to arrive
JSON = "application/json"
_LOG = logging.getLogger("callsieve.serving")
encode = msgspec.json.Encoder().encode
"""Returns a value as JSON, with null for NaN."""
# A client whose body is not read to its end must not be read further.
CLOSE = (b"connection", b"close")
HEADERS = {401: [(b"www-authenticate", b"Bearer"), CLOSE], 408: [CLOSE], 413: [CLOSE], 429: [(b"retry-after", b"1")]}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Scope, Receive], Awaitable[Any]]
Headers = list[tuple[bytes, bytes]]
CallWork = Callable[[bytes, float], bytes]  # of a body, and the `time.monotonic()` when its last byte was read
LogAccess = Callable[[str, str, int], object]  # name of the key, path, status code
_T = TypeVar("_T")


def no_access_log(_name: str, _path: str, _code: int) -> None:
    """Logs nothing: for a service without an access log."""


class HTTPError(Exception):
    """A refused request: a status code, and one line without content of the request."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Guarded(Protocol):
    """The parts of the service that an endpoint uses."""

    keys: ApiKeys
    answers: Counter[int]
    log_access: LogAccess


class Endpoint:
    """An ASGI application for one path: checks the API key, its scope and its rate, and sends the handler's result."""

    def __init__(self, service: Guarded, scopes: str, handler: Handler, media_type: str = JSON) -> None:
        """Creates the endpoint.

        `handler`: returns bytes, or a value that is sent as JSON. It raises `HTTPError` to refuse a request.
        """
        self._service, self._handler, self._media_type = service, handler, media_type
        self._scopes = scopes.split(",")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        path: str = scope["path"]
        scope["holder"] = holder = self._service.keys.holder(_authorization(scope["headers"]))
        try:
            self._admit(holder)
            result = await self._handler(scope, receive)
            code, body = 200, result if isinstance(result, bytes) else encode(result)
        except Exception as error:
            code, body = _failure(error, path)
        media_type = self._media_type if code == 200 else JSON
        headers = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
        self._record(holder, path, code)
        await send({"type": "http.response.start", "status": code, "headers": [*headers, *HEADERS.get(code, ())]})
        await send({"type": "http.response.body", "body": body})
        look_at_young_objects()

    def _admit(self, holder: KeyHolder | None) -> None:
        if holder is None:
            raise HTTPError(401, "expected a known key: Authorization: Bearer KEY")
        if holder.scopes.isdisjoint(self._scopes):
            raise HTTPError(403, f"the key lacks the scope {' or '.join(self._scopes)}")
        spend(holder)

    def _record(self, holder: KeyHolder | None, path: str, code: int) -> None:
        self._service.answers[code] += 1
        self._service.log_access(holder.name if holder else "", path, code)


class CallHead:
    """The head of a request about one call.

    A client sends many requests with the same head, so what follows from it is kept.

    Attributes:
        endpoint: whose path it names.
        keep_alive: whether the connection stays open after the answer.
    """

    __slots__ = ("_headers", "_holder", "_keys", "endpoint", "keep_alive")

    def __init__(self, endpoint: CallEndpoint, headers: Headers, *, keep_alive: bool) -> None:
        self.endpoint, self.keep_alive, self._headers = endpoint, keep_alive, headers
        self._keys: ApiKeys | None = None
        self._holder: KeyHolder | None = None

    def holder(self, keys: ApiKeys) -> KeyHolder | None:
        """Returns the holder of its key; None if that is unknown. Looks again if the service has other keys now."""
        if self._keys is not keys:
            self._keys, self._holder = keys, keys.holder(_authorization(self._headers))
        return self._holder


class CallEndpoint(Endpoint):
    """An endpoint about one call: its answer needs only the body, so a connection can ask for it without ASGI."""

    def __init__(self, service: Guarded, path: str, scopes: str, work: CallWork) -> None:
        """Creates the endpoint."""
        super().__init__(service, scopes, self._read)
        self._path, self._work = path, work

    def answer(self, head: CallHead, body: bytes, arrived: float) -> tuple[int, bytes]:
        """Returns the status and the body of the answer to a request. Never raises."""
        holder = head.holder(self._service.keys)
        try:
            self._admit(holder)
            code, answer = 200, self._work(body, arrived)
        except Exception as error:
            code, answer = _failure(error, self._path)
        self._record(holder, self._path, code)
        look_at_young_objects()
        return code, answer

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        body = await read_body(receive)
        return self._work(body, scope["arrived"])


def spend(holder: KeyHolder, requests: int = 1) -> None:
    """Counts requests of a key. Raises: HTTPError: 429 above its rate."""
    if not holder.spend(requests):
        raise HTTPError(429, f"more than {holder.rate} requests a second")


async def http_exception_response(_request: Request, error: Exception) -> Response:
    """Returns the answer to a request for an unknown path or method, as Starlette reports it."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    body = encode(Fault(error.detail))
    return Response(body, error.status_code, error.headers, media_type=JSON)


async def in_thread(work: Callable[[Any], _T], argument: object, *, seconds: float, limit: anyio.CapacityLimiter) -> _T:
    """Runs `work(argument)` in a thread. A hanging thread is abandoned, and keeps its slot of the limiter."""
    try:
        with anyio.fail_after(seconds):
            return await anyio.to_thread.run_sync(work, argument, abandon_on_cancel=True, limiter=limit)
    except TimeoutError:
        raise HTTPError(503, f"not done within {seconds:g} seconds") from None


async def read_body(receive: Receive, most: int = MAX_BODY) -> bytes:
    """Returns the body of a request, at most `most` bytes that arrive within BODY_SECONDS."""
    body: bytes = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise HTTPError(400, "the request broke off")
                body += message.get("body", b"")
                if len(body) > most:
                    raise HTTPError(413, f"a body must have at most {most} bytes")
                if not message.get("more_body", False):
                    return body
    except TimeoutError:
        raise HTTPError(408, f"the body did not arrive within {BODY_SECONDS:g} seconds") from None


def _failure(error: Exception, path: str) -> tuple[int, bytes]:
    if isinstance(error, HTTPError):
        return error.code, encode(Fault(str(error)))
    # The error's text could contain a number from the request; its class and its places in the code cannot.
    _LOG.error("a request to %s failed: %s %s", path, type(error).__name__, places(error.__traceback__))
    return 500, b'{"error":"the service failed"}'


def _authorization(headers: Headers) -> bytes:
    return next((value for name, value in headers if name == b"authorization"), b"")
