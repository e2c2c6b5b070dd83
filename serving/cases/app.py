"""Cases over HTTP, in a process beside the scorers: a desk takes appeals, persons decide, scorers are told.

Who decides is who holds the key: its name in the file of keys goes into the store. Nothing that is answered holds a
token, but for persons who decide.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
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
SECONDS, AT_ONCE = 10.0, 4  # for one request, and requests in the database at once
EVERY = 0.2  # seconds between two looks at what scorers wrote down
REMIND = 60.0  # seconds between two lines that say the same of looks that fail
_LOG = logging.getLogger("callsieve.serving")


class AppealIn(msgspec.Struct, forbid_unknown_fields=True):
    """An appeal by whom the number of the case belongs to; the desk has made sure of that."""

    case: str
    ground: str = "other"
    words: str = ""


class DecisionIn(msgspec.Struct, forbid_unknown_fields=True):
    """What a person decided: the verdict is "upheld" or "overturned"."""

    case: str
    outcome: str
    why: str


class CaseService:
    """What the endpoints share.

    Args:
        folders: live states of scorers on this machine.
        clock: Unix ms.
        decided: told each decision, for a log.
        log_access: called for each answer.
        on_stop: called when no more requests will come: uvicorn then ends the process by the signal that it got.
    """

    def __init__(
        self,
        store: CaseStore,
        folders: Sequence[Path],
        keys: ApiKeys,
        clock: Callable[[], int],
        decided: Callable[[Mapping[str, Any]], object] = lambda _said: None,
        log_access: LogAccess = no_access_log,
        on_stop: Callable[[], object] = lambda: None,
    ) -> None:
        self.store, self.folders, self.keys, self.clock = store, tuple(folders), keys, clock
        self.decided, self.log_access, self.on_stop = decided, log_access, on_stop
        self.answers: Counter[int] = Counter()
        self.places = anyio.CapacityLimiter(AT_ONCE)

    def look(self) -> None:
        """Take in what scorers wrote down, and have them know who is unlisted."""
        for folder in self.folders:
            import_verdicts(self.store, folder)
            publish_cleared(self.store, folder, self.clock())

    def told(self, case: str) -> dict[str, Any]:
        """What a desk may know of a case."""
        found, rules = self.store.find(case, self.clock()), self.store.rules
        return {
            "case": case,
            "action": found.evidence.action,
            "at": found.evidence.at,
            "appeals": [{name: one[name] for name in ("at", "due", "state")} for one in found.appeals],
            "notice": {language: notice(found, rules, language) for language in LANGUAGES},
        }

    def appeal(self, said: AppealIn) -> dict[str, Any]:
        """Take an appeal."""
        told = self.store.appeal(said.case, said.ground, said.words, self.clock())
        return {name: told[name] for name in ("case", "at", "due", "state")}

    def decide(self, given: tuple[DecisionIn, str]) -> dict[str, Any]:
        """Enter a decision, and tell the scorers before the answer goes out."""
        said, person = given
        told = self.store.decide(said.case, said.outcome, person, said.why, self.clock())
        # First the log: a scorer that cannot be told now is told later, but nobody would make up for the entry.
        self.decided({"case": said.case, "outcome": said.outcome, "person": person, "why": said.why,
                      "state": told["state"]})  # fmt: skip
        self.look()
        return {name: told[name] for name in ("case", "state", "needs")}

    def waiting(self, _none: None) -> dict[str, Any]:
        """The queue."""
        return {"appeals": [asdict(one) for one in self.store.waiting(self.clock())]}


def case_application(service: CaseService) -> Starlette:
    """The ASGI application; while it runs, it looks after its scorers."""

    def route(path: str, method: str, right: str, work: Callable[..., Awaitable[Any]]) -> Route:
        return Route(path, Endpoint(service, right, partial(work, service), JSON), methods=[method])

    return Starlette(
        routes=[
            route(CASE, "GET", "appeal", _show),
            route(APPEAL, "POST", "appeal", _appeal),
            route(APPEALS, "GET", "decide", _queue),
            route(DECIDE, "POST", "decide", _decide),
        ],
        exception_handlers={HTTPException: http_exception_response},
        lifespan=partial(_lifespan, service),
    )


@asynccontextmanager
async def _lifespan(service: CaseService, _app: Starlette) -> AsyncIterator[None]:
    looking = asyncio.create_task(_keep_looking(service))
    yield
    looking.cancel()
    service.on_stop()


async def _keep_looking(service: CaseService) -> None:
    known, again = "", 0.0  # what was told of looks that fail, and from when on it is told again
    while True:
        try:
            await anyio.to_thread.run_sync(service.look)
            known = ""
        except Exception as error:  # a database that is away comes back
            if (kind := type(error).__name__) != known or time.monotonic() > again:
                _LOG.error("scorers are not told: %s", kind)
                known, again = kind, time.monotonic() + REMIND
        await asyncio.sleep(EVERY)


async def _show(service: CaseService, scope: Scope, _receive: Receive) -> dict[str, Any]:
    asked = parse_qs(scope["query_string"].decode("ascii", "replace"))
    return await _done(service, service.told, ",".join(asked.get("case", [])))


async def _appeal(service: CaseService, _scope: Scope, receive: Receive) -> dict[str, Any]:
    return await _done(service, service.appeal, _read(await read_body(receive), AppealIn))


async def _queue(service: CaseService, _scope: Scope, _receive: Receive) -> dict[str, Any]:
    return await _done(service, service.waiting, None)


async def _decide(service: CaseService, scope: Scope, receive: Receive) -> dict[str, Any]:
    said = _read(await read_body(receive), DecisionIn)
    return await _done(service, service.decide, (said, scope["holder"]))


def _read(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        names = ", ".join(kind.__struct_fields__)
        raise HTTPError(400, f"expected a JSON object of texts: {names}") from None


async def _done(service: CaseService, work: Callable[[Any], dict[str, Any]], given: object) -> dict[str, Any]:
    try:
        return await in_thread(work, given, seconds=SECONDS, limit=service.places)
    except CaseError as error:
        raise HTTPError(409, str(error)) from None
