"""A binary heap of events, ordered by the time at which they become known. A part of the kernel, see `windows.py`."""

from __future__ import annotations

from .windows import Ints


def push(times: Ints, nodes: Ints, size: int, time: int, node: int) -> int:
    """Adds an event that becomes known at `time`; returns the new size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if times[parent] < time or (times[parent] == time and nodes[parent] < node):
            break
        times[place] = times[parent]
        nodes[place] = nodes[parent]
        place = parent
    times[place] = time
    nodes[place] = node
    return size + 1


def pop(times: Ints, nodes: Ints, size: int) -> int:
    """Removes the earliest event, which is at index 0; returns the new size. Ties are removed in order of the node."""
    size -= 1
    time = times[size]
    node = nodes[size]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            times[right] < times[child] or (times[right] == times[child] and nodes[right] < nodes[child])
        ):
            child = right
        if time < times[child] or (time == times[child] and node < nodes[child]):
            break
        times[place] = times[child]
        nodes[place] = nodes[child]
        place = child
    times[place] = time
    nodes[place] = node
    return size
