"""The service over HTTP: a Starlette application around `Live`.

Verdicts are computed on the event loop, one after the other. If a request has waited for its deadline since its last
byte was read, the answer is "pass" and the call is not scored. Slow work (reasons on request, a new bundle, the state
at start) runs in a few threads.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
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

from callsieve.features.files.dates import now_ms
from callsieve.serving.bundle.bundle import BundleError
from callsieve.serving.live.health import Health, health
from callsieve.serving.live.live import FutureEventError, Live
from callsieve.serving.live.service_log import LOOK_EVERY, StateLog
from callsieve.serving.live.swap import Swap
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Verdict, no_verdict

from . import answers, schema
from .api_keys import ApiKeys
from .endpoint import (
    JSON,
    CallEndpoint,
    Endpoint,
    HTTPError,
    LogAccess,
    Receive,
    Scope,
    encode,
    http_exception_response,
    in_thread,
    no_access_log,
    read_body,
    spend,
)
from .metrics import metrics
from .openapi import LINES, TEXT, openapi

EXPLAIN_SECONDS, LOAD_SECONDS = 2.0, 60.0  # time limits for reasons on request and for loading a bundle
EXPLAINING, BATCHES = 2, 4  # maximum of concurrent requests for reasons, and of concurrent batches
_LOG = logging.getLogger("callsieve.serving")
_STARTING = "the service is starting"
_CASE = re.compile(r"[0-9a-f]{16}")
_T = TypeVar("_T")
Work = Callable[..., Awaitable[Any]]


class Service:
    """State that the endpoints share.

    Attributes:
        live: the state; None until it is restored.
        failure: why the state could not be restored.
        lost: events that the disk had refused when the service stopped.
        answers: answers by status code.
    """

    def __init__(
        self,
        open_live: Callable[[], Live],
        scorers: Swap,
        bundle: Path,
        keys: ApiKeys,
        *,
        log_access: LogAccess = no_access_log,
        on_stop: Callable[[], object] = lambda: None,
        on_failure: Callable[[], object] = lambda: None,
    ) -> None:
        self.scorers, self.bundle, self.keys = scorers, bundle, keys
        self.live: Live | None = None
        self.failure: Exception | None = None
        self.lost = 0
        self.started = time.monotonic()
        self.answers: Counter[int] = Counter()
        self.batches = 0  # in work
        self.explaining, self.loading = anyio.CapacityLimiter(EXPLAINING), anyio.CapacityLimiter(1)
        self._open_live = open_live
        self._shared: tuple[Verdict | None, bytes] = None, b""
        self.log_access, self._on_stop, self._on_failure = log_access, on_stop, on_failure

    @property
    def health(self) -> Health:
        """Whether calls should come here now."""
        return health(self.live, self.scorers, now_ms())

    def start(self) -> None:
        """Loads the bundle and restores the state, in a thread beside the loop."""
        threading.Thread(target=self._start, name="start", daemon=True).start()

    def stop(self) -> None:
        """Writes everything to disk, and counts what the disk refuses."""
        if self.live is not None:
            self.lost = self.live.close()
        self._on_stop()

    def load(self, bundle: Path) -> Scorer:
        """Puts a bundle in service, logs it, and returns its scorer. Raises: as `Swap.load`."""
        try:
            scorer = self.scorers.load(bundle)
        except (BundleError, ValueError, OSError) as error:
            remains = "the last good one stays in service" if self.scorers.ready else "calls pass"
            _LOG.error("bundle refused, %s: %s", remains, error)
            raise
        _LOG.info("model %s in service, valid until %s", scorer.bundle.model_id, scorer.bundle.valid_until)
        return scorer

    def try_to_load(self) -> None:
        """Puts the bundle of the folder in service; a refusal is only logged."""
        with suppress(BundleError, ValueError, OSError):
            self.load(self.bundle)

    def require_live(self) -> Live:
        """Returns the live state. Raises: HTTPError: 503 while there is none."""
        if self.live is None:
            raise HTTPError(503, _STARTING)
        return self.live

    def encoded_once(self, verdict: Verdict) -> bytes:
        """Returns a verdict as JSON; encodes it only if it is not the last one: calls that are shed share one."""
        if verdict is not self._shared[0]:
            self._shared = verdict, encode(verdict)
        return self._shared[1]

    async def log_changes(self) -> None:
        """Logs changes of the service's state, until cancelled."""
        log = StateLog()
        while True:
            log.look(self.live, self.scorers)
            await asyncio.sleep(LOOK_EVERY)

    def _start(self) -> None:
        self.try_to_load()
        try:
            self.live = self._open_live()
        except Exception as error:
            self.failure = error
            self._on_failure()


def call_endpoints(service: Service) -> dict[str, CallEndpoint]:
    """Returns the endpoints about one call by path, for `application` and for connections."""
    work = {schema.SCORE: _score, schema.OBSERVE: _observe}
    return {path: CallEndpoint(service, path, "score", partial(handler, service)) for path, handler in work.items()}


def application(service: Service) -> Starlette:
    """Returns the ASGI application. It restores the state when it starts, and writes it to disk when it stops."""
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    page_headers = {"content-security-policy": _content_security_policy(page), "cache-control": "no-store"}
    document = msgspec.json.encode(openapi())

    async def show_page(_request: Request) -> Response:
        return Response(page, media_type="text/html", headers=page_headers)

    async def show_document(_request: Request) -> Response:
        return Response(document, media_type=JSON)

    async def is_live(_request: Request) -> Response:
        return Response(msgspec.json.encode(answers.Health(ok=True, why="")), media_type=JSON)

    async def is_ready(_request: Request) -> Response:
        state = service.health
        body = answers.Readiness(ok=state.ready, status=state.status, why=state.why)
        return Response(msgspec.json.encode(body), 200 if state.ready else 503, media_type=JSON)

    def endpoint(path: str, method: str, scopes: str, handler: Work, media_type: str = JSON) -> Route:
        return Route(path, Endpoint(service, scopes, partial(handler, service), media_type), methods=[method])

    return Starlette(
        routes=[
            *(Route(path, answer, methods=["POST"]) for path, answer in call_endpoints(service).items()),
            endpoint(schema.BATCH, "POST", "score", _score_batch, LINES),
            endpoint(schema.REPORT, "POST", "report", _complaint),
            endpoint(schema.EXPLAIN, "GET", "explain", _explain),
            endpoint(schema.STATUS, "GET", "admin,audit", _status),
            endpoint(schema.RELOAD, "POST", "admin", _reload),
            endpoint(schema.METRICS, "GET", "admin,audit", _metrics, TEXT),
            Route(schema.LIVE, is_live),
            Route(schema.READY, is_ready),
            Route(schema.OPENAPI, show_document),
            Route(schema.PAGE, show_page),
        ],
        exception_handlers={HTTPException: http_exception_response},
        lifespan=partial(_lifespan, service),
    )


@asynccontextmanager
async def _lifespan(service: Service, _app: Starlette) -> AsyncIterator[None]:
    task = asyncio.create_task(service.log_changes())
    service.start()
    yield
    task.cancel()
    service.stop()


async def _score_batch(service: Service, scope: Scope, receive: Receive) -> bytes:
    """Answers each line in its turn: other requests are answered between two lines."""
    if service.batches >= BATCHES:
        raise HTTPError(503, f"{BATCHES} batches are in work")
    service.batches += 1
    try:
        lines = (await read_body(receive, schema.MAX_BATCH)).removesuffix(b"\n").split(b"\n")
        if len(lines) > schema.MAX_LINES:
            raise HTTPError(413, f"a batch must have at most {schema.MAX_LINES} lines")
        spend(scope["holder"], len(lines) - 1)
        verdicts = []
        for line in lines:
            verdicts.append(_line(service, line))
            await asyncio.sleep(0)
        return b"".join(verdicts)
    finally:
        service.batches -= 1


def _line(service: Service, line: bytes) -> bytes:
    try:
        return _score(service, line, time.monotonic()) + b"\n"
    except HTTPError as error:
        return encode(answers.Fault(str(error))) + b"\n"


def _score(service: Service, body: bytes, since: float) -> bytes:
    live = service.live
    if live is None:
        return encode(no_verdict("starting"))
    if time.monotonic() > since + live.deadline:
        return service.encoded_once(live.shed())
    call = _checked(schema.read_call, body)
    _checked(live.refuse_future, call)
    return encode(live.attempt(call, since))


def _observe(service: Service, body: bytes, _since: float) -> bytes:
    _checked(service.require_live().end, _checked(schema.read_call, body))
    return encode(answers.Nothing())


async def _complaint(service: Service, _scope: Scope, receive: Receive) -> answers.Nothing:
    body = await read_body(receive)
    _checked(service.require_live().add_complaint, _checked(schema.read_complaint, body))
    return answers.Nothing()


async def _explain(service: Service, scope: Scope, _receive: Receive) -> Verdict:
    query = parse_qs(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
    if query.keys() != {"case"} or not _CASE.fullmatch(case := ",".join(query["case"])):
        raise HTTPError(400, "expected ?case= with 16 digits of 0-9 a-f, as a verdict has them")
    explain = service.require_live().explain
    verdict = await in_thread(explain, case, seconds=EXPLAIN_SECONDS, limit=service.explaining)
    if verdict is None:
        raise HTTPError(404, "this case is neither in memory nor in the journal")
    return verdict


async def _reload(service: Service, _scope: Scope, _receive: Receive) -> answers.Reloaded:
    before = service.scorers.scorer
    try:
        scorer = await in_thread(service.load, service.bundle, seconds=LOAD_SECONDS, limit=service.loading)
    except (BundleError, ValueError, OSError) as error:
        raise HTTPError(409, f"bundle refused, the last good one stays in service: {error}") from None
    if before is not None and before.bundle.model_id == scorer.bundle.model_id and _is_mount_point(service.bundle):
        raise HTTPError(
            409,
            "the bundle's folder is a mount point and holds the model that was in service: a renamed folder does not"
            " arrive here; mount the folder of bundles and give --bundle its link `current`",
        )
    return answers.Reloaded(scorer.bundle.model_id, scorer.bundle.epoch)


async def _status(service: Service, _scope: Scope, _receive: Receive) -> answers.StatusOut:
    return answers.status_of(service.live, service.scorers, time.monotonic() - service.started)


async def _metrics(service: Service, _scope: Scope, _receive: Receive) -> bytes:
    return metrics(service.live, service.scorers, service.answers)


def _checked(work: Callable[[Any], _T], argument: object) -> _T:
    try:
        return work(argument)
    except FutureEventError as error:
        raise HTTPError(409, str(error)) from None
    except (ValueError, OverflowError) as error:
        raise HTTPError(400, str(error)) from None


def _is_mount_point(folder: Path) -> bool:
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return folder.is_mount()
    escaped = str(folder.resolve()).replace("\\", "\\134").replace(" ", "\\040")
    return escaped in (line.split(" ")[4] for line in lines)


def _content_security_policy(page: str) -> str:
    hashes = {
        kind: base64.b64encode(
            hashlib.sha256(page.partition(f"<{kind}>")[2].partition(f"</{kind}>")[0].encode()).digest()
        )
        for kind in ("script", "style")
    }
    script, style = (f"'sha256-{hashes[kind].decode()}'" for kind in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
