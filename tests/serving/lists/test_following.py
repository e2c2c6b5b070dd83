"""Lists are read again as they change, from a file, a folder and an address; a wrong list changes nothing."""

import asyncio
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from callsieve.features.files.dates import DAY, HOUR, now_ms
from callsieve.serving.lists import following
from callsieve.serving.lists.exchange import WHOLE, name_of, read_list
from callsieve.serving.lists.following import open_lists
from callsieve.serving.telephony.agi import Agi
from tests.serving.telephony.test_agi import COMMAND, asterisk, dialogue, head
from tests.support import live_states
from tests.support import small_bundle as small
from tests.support.lists import SHARED, list_numbers, token_of, write_toml
from tests.support.waiting import wait_until

FIRST, SECOND = "13800000001", "13800000002"


class Answers(SimpleHTTPRequestHandler):
    """Serves a folder with ETags, and notes the status of each answer."""

    requests: ClassVar = []

    def send_response(self, code, message=None):
        self.requests.append((self.path, int(code)))
        super().send_response(code, message)

    def send_head(self):
        path = self.translate_path(self.path)
        try:
            tag = f'"{hash(Path(path).read_bytes())}"'
        except OSError:
            return super().send_head()
        if self.headers.get("If-None-Match") == tag:
            self.send_response(304)
            self.end_headers()
            return None
        self.tag = tag
        return super().send_head()

    def end_headers(self):
        if getattr(self, "tag", ""):
            self.send_header("ETag", self.tag)
        super().end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def address(tmp_path):
    Answers.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Answers, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def is_listed(lists, number):
    return lists.listed.at(lists.listed.token(number), now_ms()) is not None


@pytest.mark.parametrize("place", ["folder", "file", "address", "address of a file"])
def test_lists_are_read_again_as_they_change(tmp_path, address, place):
    now = now_ms() - 5 * HOUR
    places = {
        "folder": "carrier-a",
        "file": f"carrier-a/{WHOLE}",
        "address": f"{address}/carrier-a/",
        "address of a file": f"{address}/carrier-a/{WHOLE}",
    }
    list_numbers(tmp_path, "carrier-a", [FIRST], now=now)
    lists = open_lists(write_toml(tmp_path, "carrier-a", **{"carrier-a": places[place]}))
    assert is_listed(lists, FIRST) and not is_listed(lists, SECOND)
    first = lists.listed.table
    lists.refresh()
    assert lists.listed.table is first
    list_numbers(tmp_path, "carrier-a", [SECOND], now=now + HOUR)
    list_numbers(tmp_path, "carrier-a", [], withdrawn=[FIRST], now=now + 2 * HOUR)
    lists.refresh()
    assert is_listed(lists, SECOND) and not is_listed(lists, FIRST)
    assert lists.statuses()[0].startswith("carrier-a: list 3 is in use until ")
    if place == "address":  # the whole list once, then what is new
        answers = [(path.rpartition("/")[2], code) for path, code in Answers.requests]
        assert answers == [(WHOLE, 200), (name_of(2), 404), (name_of(2), 404), (name_of(2), 200), (name_of(3), 200),
                           (name_of(4), 404)]  # fmt: skip
    if place == "address of a file":
        assert [code for _, code in Answers.requests] == [200, 304, 200]


def test_a_thread_follows_lists(tmp_path):
    list_numbers(tmp_path, "carrier-a", [FIRST], now=now_ms() - HOUR)
    lists = open_lists(write_toml(tmp_path, "carrier-a"))
    lists.follow(every=0.02)
    list_numbers(tmp_path, "carrier-a", [], withdrawn=[FIRST], now=now_ms())
    wait_until(lambda: not is_listed(lists, FIRST))


def test_a_wrong_list_changes_nothing_and_its_status_says_why(tmp_path):
    now = now_ms() - HOUR
    list_numbers(tmp_path, "carrier-a", [FIRST], now=now)
    earlier = (tmp_path / "carrier-a" / WHOLE).read_bytes()
    lists = open_lists(write_toml(tmp_path, "carrier-a", **{"carrier-a": f"carrier-a/{WHOLE}"}))
    list_numbers(tmp_path, "carrier-a", [SECOND], now=now + 1)
    lists.refresh()
    for data, why in (
        (earlier, "list 1 is earlier than list 2, which is in use"),
        (b"x", "signature must be one line"),
    ):
        (tmp_path / "carrier-a" / WHOLE).write_bytes(data)
        lists.refresh()
        assert is_listed(lists, FIRST) and is_listed(lists, SECOND)
        assert why in lists.statuses()[0] and "list 2 is in use" in lists.statuses()[0]
    (tmp_path / "carrier-a" / WHOLE).unlink()
    lists.refresh()
    assert "No such file" in lists.statuses()[0] and is_listed(lists, FIRST)


def test_a_wrong_list_of_an_address_is_asked_for_again(tmp_path, address):
    """A server's ETag counts only once its list was good."""
    now = now_ms() - HOUR
    list_numbers(tmp_path, "carrier-a", [FIRST], now=now)
    lists = open_lists(write_toml(tmp_path, "carrier-a", **{"carrier-a": f"{address}/carrier-a/{WHOLE}"}))
    good = (tmp_path / "carrier-a" / WHOLE).read_bytes()
    (tmp_path / "carrier-a" / WHOLE).write_bytes(good[:-1])
    for _ in range(2):
        lists.refresh()
        assert "not those that were signed" in lists.statuses()[0] and is_listed(lists, FIRST)
    (tmp_path / "carrier-a" / WHOLE).write_bytes(good)
    lists.refresh()
    assert lists.statuses()[0].endswith("Z")


def test_an_expired_list_and_a_lacking_one_are_not_used(tmp_path, address):
    list_numbers(tmp_path, "carrier-a", [FIRST], now=now_ms() - 2 * DAY, valid_days=1.0)
    list_numbers(tmp_path, "carrier-b", [SECOND], now=now_ms() - HOUR)
    (tmp_path / "carrier-c").mkdir()
    places = {"carrier-d": f"{address}/nowhere/", "carrier-e": "http://127.0.0.1:9/"}
    lists = open_lists(write_toml(tmp_path, *(f"carrier-{letter}" for letter in "abcde"), **places))
    assert not is_listed(lists, FIRST) and is_listed(lists, SECOND)
    expired, used, *others = lists.statuses()
    assert expired.startswith("carrier-a: list 1 expired at 20") and expired.endswith("Z and is not used")
    assert used.startswith("carrier-b: list 1 is in use until ")
    for line, why in zip(others, ("no list", "the server answers 404", "refused"), strict=True):
        assert "no list in use" in line and why in line


def test_an_issuer_under_the_name_of_another_is_refused(tmp_path):
    list_numbers(tmp_path, "carrier-a", [FIRST], now=now_ms())
    lists = open_lists(write_toml(tmp_path, "carrier-b", **{"carrier-b": "carrier-a"}))
    assert "a list of carrier-a, expected one of carrier-b" in lists.statuses()[0]
    assert not is_listed(lists, FIRST)


def test_mistakes_of_the_file_are_refused(tmp_path):
    write_toml(tmp_path, "carrier-a")
    text = (tmp_path / "lists.toml").read_text()
    for change, why in (
        (("issuer.pub", "none.pub"), "none.pub"),
        (("signer", "sign"), "sign"),
        (("key =", "k ="), "k"),
    ):
        (tmp_path / "lists.toml").write_text(text.replace(*change))
        with pytest.raises((ValueError, OSError), match=why):
            open_lists(tmp_path / "lists.toml")


def test_a_small_site_reveals_a_byte_of_a_token_and_learns_of_withdrawals(tmp_path, address, monkeypatch):
    now = now_ms() - 5 * HOUR
    numbers = [f"138{n:08d}" for n in range(600)]
    list_numbers(tmp_path, "carrier-a", numbers, now=now, by_prefix=True)
    lists = open_lists(write_toml(tmp_path, "carrier-a", **{"carrier-a": f"{address}/carrier-a/prefix/"}))
    assert lists.statuses() == ["carrier-a: no prefix was asked for"] and Answers.requests == []
    monkeypatch.setattr(following, "PREFIX_EVERY", 0)
    assert not is_listed(lists, FIRST)
    lists.refresh(prefixes_alone=True)
    assert is_listed(lists, FIRST)
    byte = token_of(FIRST)[0]
    assert Answers.requests == [(f"/carrier-a/prefix/{byte:02x}.list", 200)]
    others = {number for number in numbers if number != FIRST and lists.listed.token(number) in lists.listed.table}
    assert others == {number for number in numbers if number != FIRST and token_of(number)[0] == byte}
    list_numbers(tmp_path, "carrier-a", [], withdrawn=[FIRST], now=now + HOUR, by_prefix=True)
    lists.refresh()
    assert not is_listed(lists, FIRST) and all(is_listed(lists, number) for number in others)
    shutil.copy(tmp_path / "carrier-a" / "prefix" / "00.list", tmp_path / "carrier-a" / "prefix" / f"{byte:02x}.list")
    lists.refresh()
    assert f"a list of the prefix '00', expected '{byte:02x}'" in lists.statuses()[0]
    lists.sources[0].place = f"{address}/nowhere/prefix/"
    lists.listed.is_read((byte ^ 1) << 32)
    lists.refresh(prefixes_alone=True)
    assert "answers 404" in lists.statuses()[0] and lists.listed.read == {byte}


def test_a_list_by_prefix_ends_with_its_validity(tmp_path):
    now = now_ms()
    list_numbers(tmp_path, "carrier-a", [FIRST], now=now, valid_days=1.0, by_prefix=True)
    data = (tmp_path / "carrier-a" / "prefix" / f"{token_of(FIRST)[0]:02x}.list").read_bytes()
    ((group, tokens),) = read_list(data, SHARED, small.TRUSTED).groups()
    assert (group.expires, tokens) == (now + DAY, token_of(FIRST))


def test_the_first_call_of_a_number_waits_for_its_list_by_prefix(tmp_path, address, bundle_folder):
    list_numbers(tmp_path, "carrier-a", [FIRST], now=now_ms() - HOUR, by_prefix=True)
    lists = open_lists(write_toml(tmp_path, "carrier-a", **{"carrier-a": f"{address}/carrier-a/prefix/"}))
    lists.follow()
    live = live_states.begin(live_states.loaded(bundle_folder, listed=lists.listed), tmp_path / "state")

    async def run():
        async with asterisk(Agi(live)) as port:
            return await dialogue(port, head(caller=FIRST))

    commands = [COMMAND.fullmatch(line)[2] for line in asyncio.run(run())]
    assert (commands[0], "listed" in commands[4].split(",")) == ("label", True)
    live.close()
