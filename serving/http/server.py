"""The service as a process: uvicorn, one worker, one event loop. On SIGTERM it stops, with nothing lost."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

try:
    import uvicorn
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from callsieve.features.intake.intake import CACHED, Intake
from callsieve.features.keys.tokens import Key
from callsieve.features.online.history import History
from callsieve.features.records import Call
from callsieve.serving.live.gc_pauses import shorten_pauses
from callsieve.serving.live.live import DEADLINE, Live
from callsieve.serving.live.swap import Swap

from .access_log import AccessLog
from .api_keys import read_keys
from .app import Service, application
from .protocol import Protocol

IDLE = 65  # seconds that a connection is kept without a request
CONNECTIONS = 1024
_LOG = logging.getLogger("callsieve.serving")


def serve(
    bundle: Path,
    judge: Swap,
    key: Key,
    keys: Path,
    state: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    zone: str = "Asia/Shanghai",
    deadline: float = DEADLINE,
    calls: int = 2_000_000,
    numbers: int = 200_000,
    compiled: bool = True,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        bundle: folder of the signed bundle; `judge` puts it in service.
        key: of the tokens of numbers.
        keys: file of the keys that clients show (`access.add_key`).
        state: folder of what must outlive the process.
        compiled: run the kernel of the history as C, if that was built.

    Raises:
        ValueError: if a file is not what it must be, or another process serves from `state`.
        OSError: if one cannot be read, or the port cannot be had.
    """

    def begin() -> Live:
        room = {"calls": calls, "numbers": numbers}
        intake = Intake(key, zone, cached=max(numbers, CACHED))
        live = Live(judge, intake, state, deadline=deadline, compiled=compiled, **room)
        if compiled and not live.memory.history.compiled:
            _LOG.warning("the kernel was not built as C: the history is interpreted, some twenty times slower")
        if live.memory.refusal is not None:
            _LOG.error("what was known before is lost: %s", live.memory.refusal)
        _warm(judge)
        shorten_pauses()
        return live

    service = Service(begin, judge, bundle, read_keys(keys))
    accesses = AccessLog(state)
    service.noted, service.stopped = accesses.note, accesses.close
    server = configured(application(service), host, port)
    service.ended = lambda: setattr(server, "should_exit", True)
    server.run()
    if service.failure is not None:
        raise service.failure


def _warm(judge: Swap) -> None:
    """Have all tables read before the first call, by one that nobody keeps."""
    call = Intake(Key.generate("warm"))(Call(time.time(), "110", "110"))
    judge.explain(History(calls=1, numbers=2), call)


def configured(app: Any, host: str, port: int) -> uvicorn.Server:
    """The server of an ASGI application, not running yet."""
    return uvicorn.Server(
        uvicorn.Config(
            app, host, port, http=Protocol, ws="none", access_log=False, proxy_headers=False,
            server_header=False, log_level="warning", limit_concurrency=CONNECTIONS, timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=5,
        )
    )  # fmt: skip
