"""API keys identify a client by a hash, and no file or message has a key; the access log counts requests by key."""

import hashlib
import time

import pytest

from callsieve.serving.http import access_log, api_keys
from callsieve.serving.http.access_log import ACCESSES, CASE_ACCESSES, AccessLog, read_accesses
from callsieve.serving.http.api_keys import RATE, KeyHolder, add_key, read_keys
from callsieve.serving.live.journal import file_numbers
from tests.support import http_service
from tests.support.waiting import wait_until


def bearer(key):
    return f"Bearer {key}".encode()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "api.keys"


def test_a_key_is_recognised_and_its_file_contains_only_its_hash(path):
    keys = {"proxy": add_key(path, "proxy", ["score"]), "desk": add_key(path, "desk", ["explain", "admin"])}
    keys_file = read_keys(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(set(keys.values())) == 2
    for name, key in keys.items():
        assert key not in path.read_text()
        assert hashlib.sha256(key.encode()).hexdigest() in path.read_text()
        assert keys_file.holder(bearer(key)).name == name
    assert keys_file.holder(bearer(keys["desk"])).scopes == {"explain", "admin"}
    assert keys_file.holder(b"bearer  " + keys["proxy"].encode()).name == "proxy"


def test_a_key_is_added_after_a_last_line_without_a_newline_and_others_may_not_read_the_file(path):
    first = add_key(path, "proxy", ["score"])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    second = add_key(path, "desk", ["explain"])
    keys_file = read_keys(path)
    assert [keys_file.holder(bearer(key)).name for key in (first, second)] == ["proxy", "desk"]
    assert path.read_bytes().count(b"\n") == 2
    path.chmod(0o640)
    with pytest.raises(ValueError, match=r"mode 0640.*0600"):
        read_keys(path)


@pytest.mark.parametrize(
    "header", [b"", b"Bearer", b"Bearer ", b"Bearer x", b"Basic eDp4", b"\xff" * 100, b"Bearer \xff"]
)
def test_other_keys_and_headers_are_refused(path, header):
    key = add_key(path, "proxy", ["score"])
    assert read_keys(path).holder(header) is None
    assert read_keys(path).holder(f"Basic {key}".encode()) is None
    assert read_keys(path).holder(bearer(key[:-1])) is None
    assert read_keys(path).holder(bearer(hashlib.sha256(key.encode()).hexdigest())) is None


def test_every_key_is_compared_in_constant_time(path, monkeypatch):
    keys = [add_key(path, f"k{number}", ["score"]) for number in range(5)]
    keys_file, compared = read_keys(path), []
    monkeypatch.setattr(api_keys.hmac, "compare_digest", lambda a, b: compared.append(len(b)) or a == b)
    assert keys_file.holder(bearer(keys[0])).name == "k0"
    assert keys_file.holder(b"Bearer x") is None
    assert compared == [32] * 10


@pytest.mark.parametrize(
    "line", ["", "# no key", "proxy score", "proxy everything 5 {}", "proxy score 0 {}", "proxy score 5 {} x"]
)
def test_an_invalid_line_is_refused_and_not_shown(path, line):
    secret = "ab" * 32
    path.write_text(line.format(secret) + "\n")
    path.chmod(0o600)
    with pytest.raises(ValueError, match=r"expected (lines of )?NAME SCOPES RATE SHA256") as error:
        read_keys(path)
    assert secret not in str(error.value)


@pytest.mark.parametrize(
    ("name", "scopes", "rate"),
    [("", "score", 1), ("a b", "score", 1), ("a\nb", "score", 1), ("a", "", 1), ("a", "all", 1), ("a", "score", 0)],
)
def test_a_key_needs_a_name_scopes_and_a_rate(path, name, scopes, rate):
    with pytest.raises(ValueError, match="a key needs"):
        add_key(path, name, scopes.split(","), rate)
    assert not path.exists()


def test_requests_above_the_rate_are_refused(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(api_keys.time, "monotonic", lambda: now[0])
    holder = KeyHolder("proxy", frozenset(), 10)
    assert sum(holder.spend() for _ in range(25)) == 10
    now[0] += 0.5
    assert sum(holder.spend() for _ in range(25)) == 5
    now[0] += 3600
    assert sum(holder.spend() for _ in range(25)) == 10
    assert time.monotonic() == now[0]


def test_the_command_creates_a_key(path, run_command):
    options = ("--keys", path, "--name", "proxy", "--scopes", "score,report")
    code, key, _ = run_command("live", "api-key", *options)
    assert code == 0
    holder = read_keys(path).holder(bearer(key.strip()))
    assert (holder.name, holder.scopes, holder.rate) == ("proxy", {"score", "report"}, RATE)


# Access log


EXPLAIN = "/v1/explain"


@pytest.mark.system
@pytest.mark.source("L41", "P9", by="serving/http/access_log.py")
def test_a_service_counts_requests_and_refusals_by_key(tmp_path):
    keys = http_service.write_service_files(tmp_path)
    with http_service.ServiceProcess(tmp_path) as service:
        assert service.get("/v1/status", keys["admin"])[0] == 200
        for _ in range(3):
            assert service.get(EXPLAIN + "?case=0123456789abcdef", keys["score"])[0] == 403
        assert service.get("/v1/status", "cs_unknown")[0] == 401
        # A running service writes its lines by itself.
        wait_until(lambda: any(access.who == "admin" for access in read_accesses(tmp_path / "state")))
        assert service.get("/v1/status", keys["audit"])[0] == 200
    counts = {(access.who, access.what, access.code): access.count for access in read_accesses(tmp_path / "state")}
    assert counts[("audit", "/v1/status", 200)] == 1  # a stopping service writes its last lines
    assert counts[("score", EXPLAIN, 403)] == 3 and counts[("", "/v1/status", 401)] == 1
    text = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("accesses-*.log"))
    assert b"0123456789abcdef" not in text and b"cs_unknown" not in text


def test_a_flood_is_one_line_and_a_closed_log_has_every_count(tmp_path):
    log = AccessLog(tmp_path, CASE_ACCESSES, every=3600)
    for n in range(10_000):
        log.note("flood" if n % 2 else "", EXPLAIN, 429)
    log.close()
    assert sorted((access.who, access.count) for access in read_accesses(tmp_path)) == [("", 5000), ("flood", 5000)]
    assert len(list(tmp_path.glob("case-accesses-*.log"))) == 1


def test_a_running_log_writes_its_counts_and_starts_a_new_file_each_day(tmp_path, monkeypatch):
    monkeypatch.setattr(access_log, "DAY", 0.0)
    log = AccessLog(tmp_path, every=0.0)
    log.note("desk", EXPLAIN, 200)
    wait_until(lambda: list(read_accesses(tmp_path)))
    first = max(file_numbers(tmp_path, ACCESSES))
    log.note("desk", EXPLAIN, 404)
    wait_until(lambda: max(file_numbers(tmp_path, ACCESSES)) > first)
    log.close()
    assert [(access.code, access.count) for access in read_accesses(tmp_path)] == [(200, 1), (404, 1)]
