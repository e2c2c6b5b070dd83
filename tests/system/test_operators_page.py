"""The page that an operator opens, in a real Chromium: it shows what the service says of itself."""

import html
import re
import shutil
import subprocess
from itertools import islice

import pytest

from callsieve.serving.http import app, metrics
from tests.serving.live.test_live import attempt_of
from tests.support import real_bundle

CHROMIUM = "chromium"  # Debian's package of that name


def opened(url, folder):
    """The page some seconds after it was opened, as text without tags; what Chromium complained of is an error."""
    assert shutil.which(CHROMIUM), "needs Debian's package chromium"
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr")
    times = ("--virtual-time-budget=5000", f"--user-data-dir={folder / 'profile'}")
    command = [CHROMIUM, *quiet, *times, "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert not re.findall(r"CONSOLE.*", done.stderr)
    body = done.stdout.partition("<body>")[2].partition("<script>")[0]
    return body, html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)))


def test_the_page_shows_what_happens(make_service, keys, tmp_path, monkeypatch):
    placed, told = iter(real_bundle.calls(5000)), []

    def after_calls(live, judge):
        """Calls come between any two looks: a page whose time is virtual looks again before others place any."""
        for call in islice(placed, 100):
            live.attempt(attempt_of(call))
        told.append(metrics.status(live, judge))
        return told[-1]

    monkeypatch.setattr(app, "status", after_calls)
    with make_service() as service:
        body, text = opened(f"{service.url}/#key={keys['admin']}", tmp_path)
    status = told[-1]
    assert "judging calls" in text
    assert status["model"]["id"] in text
    assert "certified block certified 0 of 30,000 1 in 10,015 1 in 10,000" in text
    assert "watch label at most not certified" in text
    assert re.search(r"pass [1-9]\d* \d+\.\d\d % label [1-9]", text)
    assert "99 % at most" in text
    assert status["reasons"][0]["en"] in text
    assert status["reasons"][0]["zh"] in text
    assert len(re.findall(r'<rect [^>]*class="fill-(?:pass|label|screen|block)"', body)) > 2
    assert "hidden" in re.search(r'<section[^>]*id="ask"[^>]*>', body)[0]
    assert keys["admin"] not in body


@pytest.mark.parametrize("key", ["", "score"])
def test_without_the_right_key_it_asks_for_one(service, keys, tmp_path, key):
    body, text = opened(f"{service.url}/#key={keys.get(key, '')}", tmp_path)
    assert "hidden" not in re.search(r'<section[^>]*id="ask"[^>]*>', body)[0]
    assert ("this key may not look" in text) == bool(key)
    assert "judging calls" not in text
