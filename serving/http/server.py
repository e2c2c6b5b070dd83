"""The service as a process: stock uvicorn, one worker, one event loop. On SIGTERM it stops and loses nothing.

uvicorn and `endpoint.py` limit a request's head (by h11), its body (size and time), idle connections between requests,
and concurrent requests. They do not limit a client that opens a connection and sends nothing, sends its head slowly, or
does not read its answer. The service listens on the loopback interface by default; a reverse proxy in front
of it must limit those. The proxy also ends TLS, and spreads callers over several processes (`haproxy.cfg`). A proxy
on the same machine reaches the service by a Unix socket (`uds`), so no port is open. Without a proxy, the service
itself answers with TLS (`certificate`).
"""

from __future__ import annotations

import logging
import ssl
import time
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
from callsieve.serving.live.swap import Swap

from .access_log import AccessLog
from .api_keys import read_keys
from .app import Service, application

IDLE = 65  # seconds until a connection without a request is closed
MAX_CONNECTIONS = 1024
MAX_HEAD = 16_384  # bytes of a request's first line and headers
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
    certificate: Path | None = None,
    certificate_key: Path | None = None,
    allow_group_read: bool = False,
    zone: str = "Asia/Shanghai",
    deadline: float = DEADLINE,
    limits: Limits = LIMITS,
    compiled: bool = True,
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        bundle: folder of the signed bundle; `scorers` puts it in service.
        key: key for the tokens of numbers.
        keys: file of the API keys (`api_keys.add_key`).
        state: folder of the live state.
        host, port: address to listen on, unless `uds` is given.
        uds: path of a Unix socket to listen on. Every user who can enter its folder can connect.
        certificate, certificate_key: PEM files for TLS; the key may be in the file of the certificate.
        allow_group_read: whether the group of the file of API keys may read it.
        deadline: seconds from a request's arrival to its verdict.
        limits: capacity of the history.
        compiled: whether to run the kernel of the history as C, if it was built.

    Raises:
        ValueError: if a file is invalid, or another process serves from `state`.
        OSError: if a file cannot be read, or the port cannot be opened.
    """
    if certificate is not None:
        _check_certificate(certificate, certificate_key)

    def open_live() -> Live:
        intake = Intake(key, zone, cached=max(limits.numbers, CACHE_SIZE))
        live = Live(scorers, intake, state, deadline=deadline, compiled=compiled, limits=limits)
        if live.memory.refusal is not None:
            _LOG.error("the state of earlier processes is lost: %s", live.memory.refusal)
        scorers.warm_up()
        shorten_pauses()
        return live

    def end() -> None:
        server.should_exit = True

    known = read_keys(keys, allow_group_read=allow_group_read)
    access_log = AccessLog(state)
    service = Service(
        open_live, scorers, bundle, known, log_access=access_log.note, on_stop=access_log.close, on_failure=end
    )
    server = configured(application(service), host, port, uds, certificate, certificate_key)
    server.run()
    if service.failure is not None:
        raise service.failure


def _check_certificate(certificate: Path, key: Path | None) -> None:
    """Raises OSError with the name of an unreadable file, and ValueError unless the key is that of the certificate."""
    for path in (certificate, key):
        if path is not None:
            path.open("rb").close()
    try:
        # With a password, an encrypted key is refused instead of a prompt on the terminal.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        raise ValueError(
            f"{certificate}: expected a chain of certificates in PEM with its key, not encrypted: {error.reason}"
        ) from None


class RepeatFilter(logging.Filter):
    """Passes each warning at most once a minute, because clients without a key can cause any number of them."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether to log a record."""
        if record.levelno != logging.WARNING:
            return True
        now = time.monotonic()
        if now < self._next.get(record.msg, now):
            return False
        self._next[record.msg] = now + REPEAT
        return True


_REPEATS = RepeatFilter()


def configured(
    app: Any,
    host: str,
    port: int,
    uds: Path | None = None,
    certificate: Path | None = None,
    certificate_key: Path | None = None,
) -> uvicorn.Server:
    """Returns a uvicorn server for an ASGI application, not started yet."""
    config = uvicorn.Config(
        app,
        host,
        port,
        uds=None if uds is None else str(uds),
        ssl_certfile=certificate,
        ssl_keyfile=certificate_key,
        http="h11",  # httptools is faster, and reads a head of any size into memory
        ws="none",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level="warning",
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=5,
    )
    logging.getLogger("uvicorn.error").addFilter(_REPEATS)  # adding it twice has no effect
    return uvicorn.Server(config)
