"""The service over HTTP: an ASGI application around `Live`.

Everything that a call waits for happens on the event loop, one after the other; so a request has waited since the loop
last came round before it was read, and once that is longer ago than the deadline, it is answered "pass" unseen. What
takes long (reasons on request, a new bundle, the state at start) happens in threads, a few at a time.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import math
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

try:
    import anyio
    import msgspec
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from callsieve.serving.bundle.bundle import BundleError
from callsieve.serving.live.live import FutureEventError, Live
from callsieve.serving.live.swap import Swap
from callsieve.serving.scorer.verdict import Verdict

from . import schema
from .api_keys import ApiKeys
from .endpoint import (
    JSON,
    AtOnce,
    Endpoint,
    HTTPError,
    LogAccess,
    Receive,
    Scope,
    Send,
    http_exception_response,
    in_thread,
    no_access_log,
    read_body,
)
from .metrics import metrics, status
from .request_queue import Turns
from .wire import OBSERVE, SCORE

LONG_SECONDS, LOAD_SECONDS = 2.0, 60.0  # for reasons on request, and for a bundle
EXPLAINING = 2  # reasons at once
BEAT = 0.004  # seconds between two looks at how late the loop is
_LOG = logging.getLogger("callsieve.serving")
_STARTING = "the service is starting"
_CASE = re.compile(r"[0-9a-f]{16}")
App = Callable[[Scope, Receive, Send], Awaitable[None]]
_T = TypeVar("_T")


class Service:
    """What the endpoints share.

    Args:
        begin: makes the live state; called in a thread, for it may read much.
        bundle: folder of the bundle that is put in service at start and at each reload.

    Attributes:
        live: the state, None until it is read back.
        failure: why it could not be read back.
        beat: `time.monotonic()` when the event loop last came round.
        answers: answers by status code.
        ended: called if the state could not be read back: the process is then to end.
        noted: told each answer of an endpoint, for a log of accesses.
        stopped: called when no more will come: uvicorn then ends the process by the signal that it got.
    """

    def __init__(self, begin: Callable[[], Live], judge: Swap, bundle: Path, keys: ApiKeys) -> None:
        self.judge, self.bundle, self.keys = judge, bundle, keys
        self.live: Live | None = None
        self.failure: Exception | None = None
        self.began = self.beat = time.monotonic()
        self.answers: Counter[int] = Counter()
        self.explaining, self.loading = anyio.CapacityLimiter(EXPLAINING), anyio.CapacityLimiter(1)
        self._begin = begin
        self.ended: Callable[[], object] = lambda: None
        self.noted: LogAccess = no_access_log
        self.stopped: Callable[[], object] = lambda: None

    @property
    def why(self) -> str:
        """Why calls are not judged; "" if they are."""
        if self.live is None:
            return _STARTING
        return "" if self.judge.ready else f"no bundle: {self.judge.refusal}"

    def start(self) -> None:
        """Read back the state and open the bundle, beside the loop."""
        threading.Thread(target=self._start, name="start", daemon=True).start()

    def stop(self) -> None:
        """Write down everything."""
        if self.live is not None:
            self.live.close()
        self.stopped()

    def known(self) -> Live:
        """The live state. Raises: HTTPError: while there is none."""
        if self.live is None:
            raise HTTPError(503, _STARTING)
        return self.live

    def _start(self) -> None:
        try:
            self.judge.load(self.bundle)
        except (BundleError, ValueError, OSError) as error:
            _LOG.error("bundle refused, calls pass: %s", error)
        try:
            self.live = self._begin()
        except Exception as error:
            self.failure = error
            self.ended()


class Application:
    """An ASGI application; what is in `at_once`, by path, is posted to and asked without a way through the router.

    That way would cost a call that waits as much as its key does.
    """

    def __init__(self, at_once: dict[str, AtOnce], rest: App, answers: Counter[int]) -> None:
        """Args: answers: by status code, for the server to count those in that no endpoint gave."""
        self.at_once, self.turns, self.answers, self._rest = at_once, Turns(), answers, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI wants it."""
        asked = self.at_once.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (asked or self._rest)(scope, receive, send)


def application(service: Service) -> Application:
    """The ASGI application; it reads back the state when it is started and writes it down when it is stopped."""
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    policy = {"content-security-policy": _policy(page), "cache-control": "no-store"}
    document = msgspec.json.encode(schema.openapi())

    async def show_page(_request: Request) -> Response:
        return Response(page, media_type="text/html", headers=policy)

    async def show_document(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def is_live(_request: Request) -> Response:
        return Response(msgspec.json.encode(schema.Health(ok=True, why="")), media_type="application/json")

    async def is_ready(_request: Request) -> Response:
        health = schema.Health(ok=not service.why, why=service.why)
        return Response(msgspec.json.encode(health), 200 if health.ok else 503, media_type="application/json")

    def endpoint(path: str, method: str, right: str, work: Callable[..., Awaitable[Any]], kind: str = JSON) -> Route:
        return Route(path, Endpoint(service, right, partial(work, service), kind), methods=[method])

    at_once = {
        SCORE: AtOnce(service, "score", partial(_score, service), JSON),
        OBSERVE: AtOnce(service, "score", partial(_observe, service), JSON),
    }
    rest = Starlette(
        routes=[
            *(Route(path, each, methods=["POST"]) for path, each in at_once.items()),
            endpoint(schema.REPORT, "POST", "report", _report),
            endpoint(schema.EXPLAIN, "GET", "explain", _explain),
            endpoint(schema.STATUS, "GET", "admin,audit", _status),
            endpoint(schema.RELOAD, "POST", "admin", _reload),
            endpoint(schema.METRICS, "GET", "admin,audit", _metrics, "text/plain; version=0.0.4; charset=utf-8"),
            Route(schema.LIVE, is_live),
            Route(schema.READY, is_ready),
            Route(schema.OPENAPI, show_document),
            Route(schema.PAGE, show_page),
        ],
        exception_handlers={HTTPException: http_exception_response},
        lifespan=partial(_lifespan, service),
    )

    return Application(at_once, rest, service.answers)


@asynccontextmanager
async def _lifespan(service: Service, _app: Starlette) -> AsyncIterator[None]:
    beating = asyncio.create_task(_beat(service))
    service.start()
    yield
    beating.cancel()
    service.stop()


async def _beat(service: Service) -> None:
    while True:
        service.beat = time.monotonic()
        await asyncio.sleep(BEAT)


def _score(service: Service, body: bytes, since: float) -> Verdict:
    live = service.live
    if live is None:
        return Verdict("pass", math.nan, "", None, None, (), f"no score: {_STARTING}", "", "", "")
    if time.monotonic() > since + live.deadline:
        return live.shed()
    return live.attempt(_read(schema.read_call, body), since)


def _observe(service: Service, body: bytes, _since: float) -> schema.Nothing:
    _read(service.known().end, _read(schema.read_call, body))
    return schema.Nothing()


async def _report(service: Service, _scope: Scope, receive: Receive) -> schema.Nothing:
    body = await read_body(receive)
    _read(service.known().report, _read(schema.read_report, body))
    return schema.Nothing()


async def _explain(service: Service, scope: Scope, _receive: Receive) -> Verdict:
    asked = parse_qs(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
    if asked.keys() != {"case"} or not _CASE.fullmatch(case := ",".join(asked["case"])):
        raise HTTPError(400, "expected ?case= with 16 digits of 0-9 a-f, as a verdict has them")
    verdict = await in_thread(service.known().explain, case, seconds=LONG_SECONDS, places=service.explaining)
    if verdict is None:
        raise HTTPError(404, "no verdict of this case is remembered")
    return verdict


async def _reload(service: Service, _scope: Scope, _receive: Receive) -> schema.Reloaded:
    load = service.judge.load
    try:
        scorer = await in_thread(load, service.bundle, seconds=LOAD_SECONDS, places=service.loading)
    except (BundleError, ValueError, OSError) as error:
        raise HTTPError(409, f"refused, the last good bundle stays: {error}") from None
    return schema.Reloaded(scorer.bundle.model_id, scorer.bundle.epoch)


async def _status(service: Service, _scope: Scope, _receive: Receive) -> dict[str, Any]:
    told = {"ready": not service.why, "why": service.why, "uptime": time.monotonic() - service.began}
    return told | status(service.live, service.judge)


async def _metrics(service: Service, _scope: Scope, _receive: Receive) -> bytes:
    return metrics(service.live, service.judge, service.answers)


def _read(work: Callable[[Any], _T], given: object) -> _T:
    """Turns a request away for what `work` says is wrong with it."""
    try:
        return work(given)
    except FutureEventError as error:
        raise HTTPError(409, str(error)) from None
    except (ValueError, OverflowError) as error:
        raise HTTPError(400, str(error)) from None


def _policy(page: str) -> str:
    """The page's own script and style, and this service: nothing else may run or be asked."""
    hashed = {
        kind: base64.b64encode(
            hashlib.sha256(page.partition(f"<{kind}>")[2].partition(f"</{kind}>")[0].encode()).digest()
        )
        for kind in ("script", "style")
    }
    script, style = (f"'sha256-{hashed[kind].decode()}'" for kind in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
