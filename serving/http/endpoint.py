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
from .api_keys import ApiKeys
from .wire import MAX_BODY

_LOG = logging.getLogger("callsieve.serving")
JSON = "application/json"
_encode = msgspec.json.Encoder().encode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Work = Callable[[Scope, Receive], Awaitable[Any]]
LogAccess = Callable[[str, str, int], object]  # who holds the key, the path, the status of the answer
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]
_T = TypeVar("_T")


def no_access_log(_who: str, _what: str, _code: int) -> None:
    """Of a service that keeps no log of accesses."""


class HTTPError(Exception):
    """A request that is turned away: a status, and one line that shows nothing of it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Guarded(Protocol):
    """What an endpoint asks of its service."""

    keys: ApiKeys
    answers: Counter[int]
    noted: LogAccess


class Endpoint:
    """One path: key, scope and rate are checked, and `work` gives the answer. No fault shows what was sent."""

    def __init__(self, service: Guarded, rights: str, work: Work, kind: str) -> None:
        """Args: rights: scopes with commas between, any of which will do."""
        self._service, self._rights, self._work, self._kind = service, rights, work, kind.encode()
        self._any_of = frozenset(rights.split(","))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI wants it."""
        try:
            self._admit(scope)
            answer = self._answer(await self._work(scope, receive))
        except Exception as error:
            answer = _fault(error)
        code, headers, body = self._note(scope, answer)
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, found: Any) -> Answer:
        body = found if isinstance(found, bytes) else _encode(found)
        return 200, [(b"content-type", self._kind), (b"content-length", b"%d" % len(body))], body

    def _note(self, scope: Scope, answer: Answer) -> Answer:
        self._service.answers[answer[0]] += 1
        self._service.noted(scope.get("holder", ""), scope["path"], answer[0])
        return answer

    def _admit(self, scope: Scope) -> None:
        holder = self._service.keys.holder(_authorization(scope))
        if holder is None:
            raise HTTPError(401, "expected a known key: Authorization: Bearer KEY")
        scope["holder"] = holder.name
        if self._any_of.isdisjoint(holder.scopes):
            raise HTTPError(403, f"the key lacks the scope {self._rights.replace(',', ' or ')}")
        if not holder.spend():
            raise HTTPError(429, f"more than {holder.rate} requests a second")


class Timed(Guarded, Protocol):
    """What one that answers at once asks of its service too: `time.monotonic()` when its loop last came round."""

    beat: float


class AtOnce(Endpoint):
    """One that waits for nothing but the body."""

    def __init__(self, service: Timed, rights: str, work: Callable[[bytes, float], Any], kind: str) -> None:
        """Args: work: gives the answer to a body, told since when it may have waited."""
        super().__init__(service, rights, self._read, kind)
        self._timed, self._of_body = service, work

    async def _read(self, _scope: Scope, receive: Receive) -> Any:
        return self._of_body(await read_body(receive), self.beat)

    @property
    def beat(self) -> float:
        """Since when what comes in now may have waited."""
        return self._timed.beat

    def answer(self, scope: Scope, body: bytes, since: float) -> Answer:
        """The same as from `__call__`, for a server that has the whole body: status, headers, body."""
        try:
            self._admit(scope)
            answer = self._answer(self._of_body(_short(body), since))
        except Exception as error:
            answer = _fault(error)
        return self._note(scope, answer)


# A client whose body is not read to its end is not heard any more.
CLOSE = (b"connection", b"close")
_HEADERS = {401: [(b"www-authenticate", b"Bearer"), CLOSE], 413: [CLOSE], 429: [(b"retry-after", b"1")]}


def _fault(error: Exception) -> Answer:
    if isinstance(error, HTTPError):
        code, body = error.code, _encode(schema.Fault(str(error)))
    else:
        # The error's text could hold what the request held; its kind cannot.
        _LOG.error("a request failed: %s", type(error).__name__)
        code, body = 500, b'{"error":"the service failed"}'
    told = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(body))]
    return code, [*told, *_HEADERS.get(code, ())], body


async def http_exception_response(_request: Request, error: Exception) -> Response:
    """The answer to a request that no endpoint is there for."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as it is registered
    body = _encode(schema.Fault(error.detail))
    return Response(body, error.status_code, error.headers, media_type="application/json")


async def in_thread(work: Callable[[Any], _T], given: object, *, seconds: float, places: anyio.CapacityLimiter) -> _T:
    """Work in a thread of its own. One that hangs is left alone, and holds one of a few places."""
    try:
        with anyio.fail_after(seconds):
            return await anyio.to_thread.run_sync(work, given, abandon_on_cancel=True, limiter=places)
    except TimeoutError:
        raise HTTPError(503, f"not done within {seconds:g} seconds") from None


async def read_body(receive: Receive) -> bytes:
    """A request's body, which must be short. (`protocol.Protocol` hangs up on clients that take long over it.)"""
    whole: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise HTTPError(400, "the request broke off")
        whole = _short(whole + message.get("body", b""))
        if not message.get("more_body", False):
            return whole


def _short(body: bytes) -> bytes:
    if len(body) > MAX_BODY:
        raise HTTPError(413, f"a body must have at most {MAX_BODY} bytes")
    return body


def _authorization(scope: Scope) -> bytes:
    headers: Headers = scope["headers"]
    for name, value in headers:
        if name == b"authorization":
            return value
    return b""
