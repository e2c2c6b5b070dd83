"""The HTTP service as a real process: permitted requests, scopes of keys, answers, and alert rules on its metrics."""

import json
import math
import re

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from callsieve.features import Call
from callsieve.features.intake.intake import Intake
from callsieve.serving.http import app, schema
from callsieve.serving.http.answers import status_of
from callsieve.serving.http.metrics import metrics
from callsieve.serving.live.events import read_complaints
from callsieve.serving.live.live import COUNTERS
from callsieve.serving.scorer.status import STATUSES
from tests.support import http_service, live_states, real_bundle
from tests.support.http_service import NUMBER, SCOPES, call_json, send_request
from tests.support.live_states import attempt_of, events
from tests.support.paths import ROOT
from tests.support.servers import kamailio
from tests.support.waiting import wait_until
from tests.system.test_kamailio import everything_reached

PATHS = {
    ("POST", schema.SCORE): "score", ("POST", schema.BATCH): "score", ("POST", schema.OBSERVE): "score",
    ("POST", schema.REPORT): "report", ("GET", schema.EXPLAIN): "explain", ("GET", schema.STATUS): "admin,audit",
    ("POST", schema.RELOAD): "admin", ("GET", schema.METRICS): "admin,audit",
}  # fmt: skip
OPEN = (schema.LIVE, schema.READY, schema.OPENAPI, schema.PAGE)


def test_events_over_http_give_the_verdicts_of_live(service, keys, blocking_bundle, tmp_path):
    live = live_states.begin(blocking_bundle, tmp_path / "state")
    connection = service.connect()
    for kind, call in events(real_bundle.calls(60)):
        if kind:
            live.end(call)
            body = http_service.call_to_json(call)
            assert send_request(connection, "POST", schema.OBSERVE, keys["score"], body) == (200, b"{}")
        else:
            body = http_service.call_to_json(attempt_of(call))
            code, answer = send_request(connection, "POST", schema.SCORE, keys["score"], body)
            assert code == 200
            verdict = http_service.verdict_from_json(answer)
            assert repr(verdict) == repr(live.attempt(attempt_of(call)))
            code, answer = send_request(connection, "GET", f"{schema.EXPLAIN}?case={verdict.case}", keys["explain"])
            assert code == 200
            assert repr(http_service.verdict_from_json(answer)) == repr(live.explain(verdict.case))
    live.close()
    connection.close()


@pytest.mark.source("L29", by="serving/http/api_keys.py")
@pytest.mark.source("L29", "L37", by="serving/http/endpoint.py")
@pytest.mark.source("L33", by="serving/http/app.py")
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_each_path_needs_its_scope(service, keys, method, path):
    send = {"GET": service.get, "POST": lambda path, key: service.post(path, b"{}", key)}[method]
    for scope in SCOPES:
        code, answer = send(path, keys[scope])
        if scope in PATHS[method, path].split(","):
            assert code in (200, 400)
        else:
            needed = PATHS[method, path].replace(",", " or ").encode()
            assert (code, answer) == (403, b'{"error":"the key lacks the scope %s"}' % needed)
    for key in ("", "x", keys["all"][:-1]):
        assert send(path, key)[0] == 401


def test_health_and_documentation_need_no_key(service):
    for path in OPEN:
        assert service.get(path)[0] == 200
    assert service.get("/v2/score")[0] == 404
    assert service.get(schema.SCORE)[0] == 405


def test_a_complaint_is_stored_and_invalid_complaints_are_refused(service, keys, service_folder):
    complaint = {"reporter": "13900139000", "number": NUMBER, "at": real_bundle.START}
    complaint |= {"category": "fraud", "mode": "robot"}
    assert service.post(schema.REPORT, json.dumps(complaint).encode(), keys["report"]) == (200, b"{}")
    for odd in ({"category": "138 0013"}, {"at": 1e11}, {"number": ""}, {"more": 1}, {"at": None}):
        code, answer = service.post(schema.REPORT, json.dumps(complaint | odd).encode(), keys["report"])
        assert code == (409 if odd.get("at") else 400)
        assert b"complaint: " in answer
    wait_until(lambda: list(read_complaints(service_folder / "state")))
    (stored,) = read_complaints(service_folder / "state")
    assert stored["number"] == Intake(real_bundle.NUMBER_KEY).token("number", NUMBER)
    assert (stored["category"], stored["mode"]) == ("fraud", "robot")


@pytest.mark.system
def test_a_newer_bundle_is_loaded_and_an_older_one_is_refused(tmp_path):
    keys = http_service.write_service_files(tmp_path / "s")
    with http_service.ServiceProcess(tmp_path / "s") as service:
        first = service.status(keys["admin"])["model"]
        (tmp_path / "s" / "bundle").rename(tmp_path / "before")
        real_bundle.write_bundle(tmp_path / "s" / "bundle", epoch=6, valid_until="2100-01-01T00:00:00Z")
        assert json.loads(service.post(schema.RELOAD, b"", keys["admin"])[1])["epoch"] == 6
        second = service.status(keys["admin"])["model"]
        assert (first["epoch"], second["epoch"]) == (5, 6)
        (tmp_path / "s" / "bundle").rename(tmp_path / "good")
        (tmp_path / "before").rename(tmp_path / "s" / "bundle")
        code, answer = service.post(schema.RELOAD, b"", keys["admin"])
        assert code == 409
        assert b"epoch" in answer
        assert service.status(keys["admin"])["model"]["id"] == second["id"]
        assert service.get(schema.READY)[0] == 200


@pytest.mark.system
def test_a_service_without_a_bundle_is_live_and_not_ready(tmp_path):
    keys = http_service.write_service_files(tmp_path / "s")
    (tmp_path / "s" / "bundle").rename(tmp_path / "gone")
    with http_service.ServiceProcess(tmp_path / "s", ready=False) as service:
        code, answer = service.get(schema.READY)
        assert code == 503
        assert not json.loads(answer)["ok"]
        code, answer = service.post(schema.SCORE, call_json(), keys["score"])
        assert code == 200
        assert http_service.verdict_from_json(answer).action == "pass"
        assert service.status(keys["admin"])["model"] is None


def test_a_folder_in_use_ends_the_second_process_in_one_line(service, service_folder):
    second = http_service.ServiceProcess(service_folder)
    assert second.process.wait(30) == 1
    assert "another process serves from this folder" in service.log_text()


def test_metrics_equal_the_status(service, keys):
    metrics = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(service.get(schema.METRICS, keys["admin"])[1].decode())
        for sample in family.samples
    }
    status = service.status(keys["admin"])
    assert metrics["callsieve_ready",] == 1
    assert metrics["callsieve_verdict_seconds_count",] == sum(status["latency"]["counts"])
    assert metrics["callsieve_events_total", "attempts"] == status["counts"]["attempts"]
    assert metrics["callsieve_verdicts_total", "pass"] == status["actions"]["pass"]
    assert metrics["callsieve_history_calls",] == status["state"]["history_calls"]
    assert metrics["callsieve_history_filled",] == status["state"]["history_filled"] == 1  # its policy asks for no days
    assert metrics["process_open_fds",] > 0


def test_the_page_permits_only_its_own_script(service):
    connection = service.connect()
    connection.request("GET", schema.PAGE)
    answer = connection.getresponse()
    policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    connection.close()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert not re.search(r"\son\w+=|style=", page)
    assert app._content_security_policy(page) == policy


@pytest.mark.system
def test_kamailio_applies_the_verdicts_of_the_service(tmp_path):
    """The route script blocks one call, labels another and reports its end to a real service."""
    keys = http_service.write_service_files(
        tmp_path / "s", 'certified = "block"\nwatch = "label"\n', **everything_reached()
    )
    phone = kamailio.Phone()
    with http_service.ServiceProcess(tmp_path / "s") as service:
        defines = {"SCORER": f'"{service.url}"', "API_KEY": f'"{keys["score"]}"', "DEADLINE": 1000}
        with kamailio.Kamailio("http.cfg", phone.port, tmp_path, **defines) as proxy:
            caller = kamailio.Caller(proxy.port)
            assert caller.call(NUMBER, "+8613900139000")[1].startswith(b"SIP/2.0 603 Network Blocked")
            assert caller.call("+862887654321", "+8613900139000")[1].startswith(b"SIP/2.0 200")
            wait_until(lambda: service.status(keys["admin"])["counts"]["ends"])
            caller.socket.close()
        status = service.status(keys["admin"])
    phone.close()
    assert (status["counts"]["attempts"], status["counts"]["faults"]) == (2, 0)
    assert status["actions"] == {"block": 1, "label": 1}
    assert any(b"confidence=" in message for message in phone.got)


# Alert rules


(GROUP,) = yaml.safe_load((ROOT / "serving" / "http" / "alerts.yml").read_text())["groups"]


def test_alert_rules_name_metrics_and_statuses_that_the_service_has(blocking_bundle, tmp_path):
    live = live_states.begin(blocking_bundle, tmp_path)
    empty = samples_of(live)
    assert math.isnan(empty["callsieve_newest_event_age_seconds", ""])
    for call in real_bundle.calls(3):
        live.attempt(attempt_of(call))
    live.attempt(Call(math.nan, "1", "2"))
    samples = samples_of(live)
    content = status_of(live, blocking_bundle, 1.0)
    live.close()
    shares = {word: value for (name, word), value in samples.items() if name == "callsieve_status_share"}
    assert shares == dict.fromkeys(STATUSES, 0.0) | {"scored": 0.75, "wrong_input": 0.25}
    assert [(row.status, row.count, row.share) for row in content.statuses] == [
        ("scored", 3, 0.75),
        ("wrong_input", 1, 0.25),
    ]
    assert samples["callsieve_newest_event_age_seconds", ""] > 0
    for rule in GROUP["rules"]:
        if rule["expr"] == 'up{job="callsieve"} == 0':  # of Prometheus itself
            assert "- job_name: callsieve\n" in (ROOT / "docs" / "how-to" / "watch.md").read_text()
            continue
        named = re.findall(r"(callsieve_[a-z_]+)(?:\{status=\"([a-z_]+)\"\})?", rule["expr"])
        assert named, rule
        assert set(named) <= samples.keys(), rule


def test_each_status_and_event_that_withholds_a_verdict_has_an_alert():
    text = " ".join(rule["expr"] for rule in GROUP["rules"])
    named = set(re.findall(r'status="([a-z_]+)"', text))
    # "stale", "filling", "no_model" and "starting" have alerts by metrics of their own.
    assert named == set(STATUSES) - {"scored", "cleared", "stale", "filling", "no_model", "starting"}
    assert set(re.findall(r'code="([0-9]+)"', text)) == {"401", "403"}
    kinds = set(re.findall(r'kind="([a-z_]+)"', text))
    assert {"ahead", "unrecorded"} <= kinds <= set(COUNTERS)


def test_each_alert_has_a_severity_and_says_what_is_wrong_and_where():
    assert len({rule["alert"] for rule in GROUP["rules"]}) == len(GROUP["rules"])
    for rule in GROUP["rules"]:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]


def samples_of(live):
    """Returns the values of all metrics by name and label `status`."""
    families = text_string_to_metric_families(metrics(live, live.scorers, {401: 1}).decode())
    return {
        (sample.name, sample.labels.get("status", "")): sample.value for family in families for sample in family.samples
    }
