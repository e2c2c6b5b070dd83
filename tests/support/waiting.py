"""Waits for the effects of other threads and processes."""

import time


def wait_until(condition, seconds=30):
    """Returns when `condition()` is true; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.01)
