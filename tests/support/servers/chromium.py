"""A real Chromium without a window, from its Debian package."""

import re
import subprocess

from tests.support.debian import program


def in_chromium(folder, url, *words):
    """Returns what Chromium prints for a page, with a profile in a folder; a message on its console fails the test."""
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr")
    command = [program("chromium"), *quiet, f"--user-data-dir={folder / 'profile'}", *words, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert not re.findall(r"CONSOLE.*", done.stderr)
    return done.stdout
