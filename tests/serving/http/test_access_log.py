"""The access log: counts by key, path and status code, with refused requests."""

import pytest

from callsieve.serving.http import access_log
from callsieve.serving.http.access_log import ACCESSES, CASE_ACCESSES, AccessLog, read_accesses
from callsieve.serving.live.journal import file_numbers
from tests.support import http_service
from tests.support.waiting import wait_until

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
