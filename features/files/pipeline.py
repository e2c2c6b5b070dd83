"""Pipelines of two steps on two threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields `function(item)` of each item in order, as `map` does; a thread computes it while the next item is made.

    At most two items are in memory.

    >>> list(one_ahead(abs, [-2, 1]))
    [2, 1]
    """
    started: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for item in items:
            started.append(thread.submit(function, item))
            if len(started) > 1:
                yield started.popleft().result()
        while started:
            yield started.popleft().result()
