"""The loop of a service on asyncio: signals, reload, and the log of its state."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable

from callsieve.serving.live.live import Live
from callsieve.serving.live.service_log import LOOK_EVERY, StateLog

_LOG = logging.getLogger("callsieve.serving")


async def run_until_stopped(
    live: Live, start: str, reload: Callable[[], object], look: Callable[[], object] = lambda: None
) -> None:
    """Returns at SIGTERM or SIGINT. `look`: called several times a second."""
    stop, loop, log = asyncio.Event(), asyncio.get_running_loop(), StateLog()

    def try_to_reload() -> None:
        try:
            reload()
            _LOG.info("the bundle was loaded again")
        except Exception as error:
            _LOG.error("bundle refused, the last good one stays in service: %s", error)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, try_to_reload))
    _LOG.info("start: %s", start)
    while not stop.is_set():
        log.look(live, live.scorers)
        look()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_EVERY)
