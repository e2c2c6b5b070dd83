"""Work on several threads: pipelines of two steps, and tasks side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

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


@contextmanager
def workers(threads: int) -> Iterator[Callable[[Iterable[Callable[[], Any]]], list[Any]]]:
    """Yields a function that runs tasks on threads and returns their results in order; a single thread is the caller's.

    A pool of joblib would look for results every 10 ms: a small table would take several times as long.

    >>> with workers(2) as run:
    ...     run([dict, list])
    [{}, []]
    """
    if threads == 1:
        yield lambda tasks: [task() for task in tasks]
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda tasks: list(pool.map(lambda task: task(), tasks))
