"""Whose turn it is: questions are answered in the order in which they came, whatever connection they came over.

An event loop serves all sockets on which something has come, and only then looks at them again. So the last one served
misses that look when its client asks at once again, and waits for two rounds: at 16 connections one question in thirty
took twice as long as the others. Here a few are answered between two looks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from callsieve.serving.live.gc_pauses import look_at_young_objects

FEW = 4  # answers between two looks at the sockets


class Waiting(Protocol):
    """Who has a question that waits."""

    def take_turn(self) -> None:
        """Answer it."""


class Turns:
    """Those who wait, of one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()

    def wait(self, one: Waiting, loop: asyncio.AbstractEventLoop) -> None:
        """Have one take its turn after all who wait already."""
        self._waiting.append(one)
        if len(self._waiting) == 1:
            loop.call_soon(self._let_few, loop)

    def _let_few(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for _ in range(min(FEW, len(self._waiting))):
                self._waiting.popleft().take_turn()
                look_at_young_objects()
        finally:
            if self._waiting:
                loop.call_soon(self._let_few, loop)
