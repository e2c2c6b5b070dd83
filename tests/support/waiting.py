"""Waiting for what another thread or process does."""

import time


def wait_until(true, seconds=30):
    """Return when it is true; a test that waits longer than so many seconds fails."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.01)
