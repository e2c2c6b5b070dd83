"""HTTP service for cases, in a process beside the scorers: a desk sends appeals, and reviewers send decisions.

The name of the API key identifies the reviewer and is stored with the decision. Answers contain caller tokens only for
keys that may decide.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from callsieve.serving.http.api_keys import ApiKeys
from callsieve.serving.http.endpoint import (
    JSON,
    Endpoint,
    HTTPError,
    LogAccess,
    Receive,
    Scope,
    http_exception_response,
    in_thread,
    no_access_log,
    read_body,
)

from .feed import import_verdicts, publish_cleared
from .notice import LANGUAGES, notice
from .store import CaseError, CaseStore

CASE, APPEAL, APPEALS, DECIDE = "/v1/case", "/v1/appeal", "/v1/appeals", "/v1/decide"
TIMEOUT = 10.0  # seconds for one request
MAX_DATABASE_REQUESTS = 4  # at a time
SYNC_INTERVAL = 0.2  # seconds between two exchanges with the scorers
ERROR_INTERVAL = 60.0  # seconds between two log lines about the same failure
Answer = dict[str, object]
"""An answer of the service, which is sent as JSON."""
_LOG = logging.getLogger("callsieve.serving")


class AppealIn(msgspec.Struct, forbid_unknown_fields=True):
    """An appeal. The desk has checked that the appellant owns the number of the case."""

    case: str
    ground: str = "other"
    words: str = ""


class DecisionIn(msgspec.Struct, forbid_unknown_fields=True):
    """A reviewer's decision on an appeal; `outcome` is "upheld" or "overturned"."""

    case: str
    outcome: str
    why: str


class CaseService:
    """The state that the endpoints share. `clock`: returns the time in Unix ms."""

    def __init__(
        self,
        store: CaseStore,
        folders: Sequence[Path],
        keys: ApiKeys,
        clock: Callable[[], int],
        on_decision: Callable[[Mapping[str, str]], object] = lambda _decision: None,
        log_access: LogAccess = no_access_log,
        on_stop: Callable[[], object] = lambda: None,
    ) -> None:
        self.store, self.folders, self.keys, self.clock = store, tuple(folders), keys, clock
        self.on_decision, self.log_access, self.on_stop = on_decision, log_access, on_stop
        self.answers: Counter[int] = Counter()
        self.database_limit = anyio.CapacityLimiter(MAX_DATABASE_REQUESTS)

    def sync(self) -> None:
        """Imports new verdicts of all scorers, and writes the list of cleared callers for each scorer."""
        for folder in self.folders:
            import_verdicts(self.store, folder)
            publish_cleared(self.store, folder, self.clock())

    def show(self, case_id: str) -> Answer:
        """Returns what a desk may know of a case."""
        case, rules = self.store.find(case_id, self.clock()), self.store.rules
        return {
            "case": case_id,
            "action": case.record.action,
            "at": case.record.at,
            "appeals": [{"at": appeal.at, "due": appeal.due, "state": appeal.state} for appeal in case.appeals],
            "notice": {language: notice(case, rules, language) for language in LANGUAGES},
        }

    def appeal(self, request: AppealIn) -> Answer:
        """Stores an appeal."""
        appeal = self.store.appeal(request.case, request.ground, request.words, self.clock())
        return {"case": appeal.case, "at": appeal.at, "due": appeal.due, "state": appeal.state}

    def decide(self, request: DecisionIn, person: str) -> Answer:
        """Stores a decision, and updates the scorers before the answer is sent."""
        appeal = self.store.decide(request.case, request.outcome, person, request.why, self.clock())
        # The log comes first: a failed update of a scorer is repeated later, a missing log entry is not.
        self.on_decision({
            "case": request.case, "outcome": request.outcome, "person": person, "why": request.why,
            "state": appeal.state,
        })  # fmt: skip
        self.sync()
        return {"case": appeal.case, "state": appeal.state, "needs": appeal.needs}

    def open_appeals(self) -> Answer:
        """Returns the review queue."""
        return {"appeals": self.store.open_appeals(self.clock())}


def case_application(service: CaseService) -> Starlette:
    """Returns the ASGI application. While it runs, it exchanges files with the scorers."""

    def route(path: str, method: str, right: str, work: Callable[..., Awaitable[Any]]) -> Route:
        return Route(path, Endpoint(service, right, partial(work, service), JSON), methods=[method])

    return Starlette(
        routes=[
            route(CASE, "GET", "appeal", _show),
            route(APPEAL, "POST", "appeal", _appeal),
            route(APPEALS, "GET", "decide", _open_appeals),
            route(DECIDE, "POST", "decide", _decide),
        ],
        exception_handlers={HTTPException: http_exception_response},
        lifespan=partial(_lifespan, service),
    )


@asynccontextmanager
async def _lifespan(service: CaseService, _app: Starlette) -> AsyncIterator[None]:
    syncing = asyncio.create_task(_sync_forever(service))
    _LOG.info("start: cases of %d scorers", len(service.folders))
    yield
    syncing.cancel()
    service.on_stop()
    _LOG.info("stop: appeals and decisions are in the store")


async def _sync_forever(service: CaseService) -> None:
    last_error, log_again = "", 0.0  # class of the last logged failure, and when the same failure is logged again
    while True:
        try:
            await anyio.to_thread.run_sync(service.sync)
            last_error = ""
        except Exception as error:  # for example the database is down; it is tried again
            if (kind := type(error).__name__) != last_error or time.monotonic() > log_again:
                _LOG.error("scorers are not updated: %s", kind)
                last_error, log_again = kind, time.monotonic() + ERROR_INTERVAL
        await asyncio.sleep(SYNC_INTERVAL)


async def _show(service: CaseService, scope: Scope, _receive: Receive) -> Answer:
    query = parse_qs(scope["query_string"].decode("ascii", "replace"))
    return await _run(service, service.show, ",".join(query.get("case", [])))


async def _appeal(service: CaseService, _scope: Scope, receive: Receive) -> Answer:
    return await _run(service, service.appeal, _decode(await read_body(receive), AppealIn))


async def _open_appeals(service: CaseService, _scope: Scope, _receive: Receive) -> Answer:
    return await _run(service, lambda _none: service.open_appeals(), None)


async def _decide(service: CaseService, scope: Scope, receive: Receive) -> Answer:
    request = _decode(await read_body(receive), DecisionIn)
    return await _run(service, partial(service.decide, person=scope["holder"].name), request)


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        names = ", ".join(kind.__struct_fields__)
        raise HTTPError(400, f"expected a JSON object of texts: {names}") from None


async def _run(service: CaseService, work: Callable[[Any], Answer], argument: object) -> Answer:
    """Runs database work in a thread."""
    try:
        return await in_thread(work, argument, seconds=TIMEOUT, limit=service.database_limit)
    except CaseError as error:
        raise HTTPError(409, str(error)) from None
