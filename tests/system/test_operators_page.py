"""The operator's page shows the status of the service in a real Chromium."""

import html
import re
from importlib.resources import files
from itertools import islice

import msgspec
import pytest

from callsieve.features.online.feeds import COMPLETE, LACKS, UNKNOWN_FEED
from callsieve.serving.http import answers
from callsieve.serving.http.answers import status_of
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.scorer.status import MESSAGES, STATUSES
from tests.support import real_bundle
from tests.support.live_states import attempt_of
from tests.support.servers.chromium import in_chromium


def rendered(url, folder):
    """Returns the body of a page after five virtual seconds, and its text; messages on Chromium's console fail."""
    text = in_chromium(folder, url, "--virtual-time-budget=5000", "--dump-dom")
    body = text.partition("<body>")[2].partition("<script>")[0]
    return body, html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)))


def test_the_page_shows_the_status_of_the_service(make_service, keys, tmp_path, monkeypatch):
    calls, statuses = iter(real_bundle.calls(5000)), []

    def after_calls(live, scorers, uptime):
        """Scores calls before each request: a page in virtual time polls faster than another client could call."""
        for call in islice(calls, 100):
            live.attempt(attempt_of(call))
        content = status_of(live, scorers, uptime)
        statuses.append(msgspec.to_builtins(content))
        return content

    monkeypatch.setattr(answers, "status_of", after_calls)
    with make_service() as service:
        body, text = rendered(f"{service.url}/#key={keys['admin']}", tmp_path)
        _, chinese = rendered(f"{service.url}/?lang=zh#key={keys['admin']}", tmp_path)
    assert "正在评分" in chinese and statuses[-1]["reasons"][0]["zh"] in chinese
    assert set(re.findall(r"[A-Za-z]{4,}", chinese)) <= {
        "callsieve",
        "English",
        "admin",
        *re.findall("[a-z]+", str(statuses[-1]["model"])),
    }
    status = statuses[-1]
    assert "scoring calls" in text
    assert status["model"]["id"] in text
    assert re.search(r"good model expires in [\d,]+ days good history a week is known", text)
    assert "scored 100.00 %" in text
    assert "certified block certified 0 of 30,000 1 in 10,015 1 in 10,000" in text
    assert "watch label at most not certified" in text
    assert re.search(r"pass [1-9]\d* \d+\.\d\d % label [1-9]", text)
    assert "99 % at most" in text
    assert status["reasons"][0]["en"] in text
    assert status["reasons"][0]["zh"] in text
    assert len(re.findall(r'<rect [^>]*class="fill-(?:pass|label|screen|block)"', body)) > 2
    assert "hidden" in re.search(r'<section[^>]*id="ask"[^>]*>', body)[0]
    assert not status["model"]["simulated"] and "hidden" in re.search(r'<div[^>]*id="origin"[^>]*>', body)[0]
    assert keys["admin"] not in body


def test_the_chinese_words_are_complete():
    page = files(answers.__package__).joinpath("page.html").read_text(encoding="utf-8")
    table, _, script = page.partition("const ZH = {")[2].partition("\n};\n")
    pairs = re.findall(r'"((?:[^"\\]|\\.)*)": "((?:[^"\\]|\\.)*)"', table)
    chinese = {key.replace('\\"', '"'): text for key, text in pairs}
    assert len(chinese) == len(pairs)
    for key, text in chinese.items():
        assert sorted(re.findall(r"\{\d\}", key)) == sorted(re.findall(r"\{\d\}", text)) and text
    shown = set(re.findall(r'<(?:h2|button|div class="soft" id="[a-z]+")>([^<]+)<', page))
    shown |= set(re.findall(r'aria-label="([^"]+)"', page))
    literals = re.findall(r'\bt\((?:[\w.]+ \? )?"([^"]+)"(?: : "([^"]+)")?', script)
    shown |= {text for pair in literals for text in pair if text}
    known = {*STATUSES, *MESSAGES.values(), *ACTIONS, *LACKS, COMPLETE, UNKNOWN_FEED, "watch", "certified"}
    assert {text for text in shown | known if text not in chinese} == set()
    assert {key for key in chinese if key not in known and f'"{key}"' not in script and key not in shown} == set()


@pytest.mark.parametrize("key", ["", "score"])
def test_the_page_asks_for_a_key_with_the_right_scope(service, keys, tmp_path, key):
    body, text = rendered(f"{service.url}/#key={keys.get(key, '')}", tmp_path)
    assert "hidden" not in re.search(r'<section[^>]*id="ask"[^>]*>', body)[0]
    assert ("this key lacks the scope admin" in text) == bool(key)
    assert "scoring calls" not in text
