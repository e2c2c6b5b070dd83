"""The service as a process: uvicorn, one worker, one event loop.

On SIGTERM or SIGINT it stops, and writes everything to disk; if the disk refuses events, it says how many are lost and
fails. On SIGHUP it reads the API keys and the bundle again.

`call_requests.py` and `endpoint.py` limit the requests in work, and a request's body (size and time). The service
listens on the loopback interface by default; a reverse proxy in front of it must limit connections, heads, and clients
that do not read their answers (`haproxy.cfg`). The proxy also ends TLS, and spreads callers over several processes. One
on the same machine reaches the service by a Unix socket (`uds`), so no port is open.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

try:
    import uvicorn
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from callsieve.features.intake.intake import Intake
from callsieve.features.intake.number_memory import CACHE_SIZE
from callsieve.features.keys.tokens import Key
from callsieve.serving.live.gc_pauses import shorten_pauses
from callsieve.serving.live.live import DEADLINE, Live
from callsieve.serving.live.memory import LIMITS, Limits
from callsieve.serving.live.service_log import report_stop
from callsieve.serving.live.swap import Swap

from .access_log import AccessLog
from .api_keys import read_keys
from .app import Service, application, call_endpoints
from .call_requests import Limited
from .connections import Connection
from .endpoint import CallEndpoint
from .schema import LIVE, READY

IDLE = 65  # seconds until a connection without a request is closed
MAX_REQUESTS = 1024  # in work
_FILES = 4096  # open files that the process asks for: connections, and those of the state
REPEAT = 60.0  # seconds between two log lines with the same text
_LOG = logging.getLogger("callsieve.serving")


def serve(
    bundle: Path,
    scorers: Swap,
    key: Key,
    keys: Path,
    state: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    uds: Path | None = None,
    allow_group_read: bool = False,
    zone: str = "Asia/Shanghai",
    deadline: float = DEADLINE,
    limits: Limits = LIMITS,
) -> None:
    """Serves until SIGTERM or SIGINT. SIGHUP reads the API keys and the bundle again.

    `uds`: path of a Unix socket to listen on. Every user who can enter its folder can connect. `deadline`: seconds from
    a request's arrival to its verdict.
    """

    def open_live() -> Live:
        intake = Intake(key, zone, cached=max(limits.numbers, CACHE_SIZE))
        live = Live(scorers, intake, state, deadline=deadline, limits=limits)
        scorers.warm_up()
        shorten_pauses()
        tell_systemd("READY=1")
        return live

    def end() -> None:
        server.should_exit = True

    def reload() -> None:
        try:
            service.keys = read_keys(keys, allow_group_read=allow_group_read)
            _LOG.info("API keys read from %s", keys)
        except (ValueError, OSError) as error:
            _LOG.error("API keys refused, the last good ones stay: %s", error)
        service.try_to_load()

    known = read_keys(keys, allow_group_read=allow_group_read)
    access_log = AccessLog(state)
    service = Service(
        open_live, scorers, bundle, known, log_access=access_log.note, on_stop=access_log.close, on_failure=end
    )
    server = configured(application(service), host, port, uds, call_endpoints(service))
    address = str(uds) if uds is not None else f"{host}:{port}"
    _LOG.info("start: callsieve %s on %s, state in %s", version("callsieve"), address, state)
    with signals(end, reload):
        server.run()
    if service.failure is not None:
        raise service.failure
    report_stop(state, service.lost + access_log.lost)


def raise_file_limit() -> None:
    """Raises the limit of open files where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tell_systemd(state: str) -> None:
    """Sends a state to systemd, if it started this process with `Type=notify`; otherwise does nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
        notifying.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)


@contextmanager
def signals(stop: Callable[[], object], reload: Callable[[], object]) -> Iterator[None]:
    """Calls `stop` on SIGTERM and SIGINT, and `reload` on SIGHUP in a thread of its own, because it takes long.

    uvicorn sends a signal that ended it to the process again: without a handler, the process would end there.
    """

    def start_reload(_number: int, _frame: object) -> None:
        threading.Thread(target=reload, name="reload", daemon=True).start()

    def end(_number: int, _frame: object) -> None:
        stop()

    handlers = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: start_reload}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class RepeatFilter(logging.Filter):
    """Passes each warning or error at most once a minute, because clients without a key can cause any number of them.

    Errors with different exceptions are different.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[tuple[str, type[BaseException] | None], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether to log a record."""
        if record.levelno < logging.WARNING:
            return True
        now, line = time.monotonic(), (record.msg, record.exc_info[0] if record.exc_info else None)
        if now < self._next.get(line, now):
            return False
        self._next[line] = now + REPEAT
        return True


_REPEATS = RepeatFilter()


def configured(
    app: Any, host: str, port: int, uds: Path | None = None, endpoints: Mapping[str, CallEndpoint] | None = None
) -> uvicorn.Server:
    """Returns a uvicorn server for an ASGI application, not started yet."""
    raise_file_limit()
    limited = Limited(app, (LIVE, READY), MAX_REQUESTS)
    by_url = {path.encode(): endpoint for path, endpoint in (endpoints or {}).items()}
    connection = partial(Connection, limited=limited, endpoints=by_url)
    config = uvicorn.Config(
        limited,
        host,
        port,
        uds=None if uds is None else str(uds),
        http=connection,  # type: ignore[arg-type]
        ws="none",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_config=None,
        log_level="warning",
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=5,
    )
    logging.getLogger("uvicorn.error").addFilter(_REPEATS)  # adding it twice has no effect
    return uvicorn.Server(config)
