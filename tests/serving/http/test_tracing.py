"""Traces: a span for each request in the trace of its client, one for each stage of a verdict, and no number in any."""

import asyncio
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callsieve.serving.http import schema, server, tracing
from callsieve.serving.http.api_keys import read_keys
from callsieve.serving.http.app import Service, application
from callsieve.serving.http.tracing import end_stage, traced
from tests.support import live_states, real_bundle
from tests.support.http_service import NUMBER, call_json

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter(monkeypatch):
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    return exporter


@pytest.fixture
def answer(exporter, service_folder, blocking_bundle, keys, tmp_path, monkeypatch):
    assert exporter.get_finished_spans() == ()
    monkeypatch.setattr(blocking_bundle, "end_stage", end_stage)
    live = live_states.begin(blocking_bundle, tmp_path / "state")
    service = Service(lambda: live, blocking_bundle, service_folder / "bundle", read_keys(service_folder / "api.keys"))
    service.live = live
    app = traced(application(service))
    headers = {"authorization": f"Bearer {keys['score']}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    scope = {
        "type": "http",
        "arrived": time.monotonic(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    def answer(method, path, body=b""):
        sent = []

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message):
            sent.append(message)

        asyncio.run(app(scope | {"method": method, "path": path, "query_string": b""}, receive, send))
        return sent[0]["status"], json.loads(sent[1]["body"])

    yield answer
    live.close()


def test_a_request_is_a_span_of_the_caller_with_a_span_for_each_stage(answer, exporter):
    _, verdict = answer("POST", schema.SCORE, call_json())
    *stages, request = exporter.get_finished_spans()
    assert (request.name, request.kind) == ("POST /v1/score", trace.SpanKind.SERVER)
    assert (f"{request.context.trace_id:032x}", f"{request.parent.span_id:016x}") == (TRACE, PARENT)
    assert request.attributes == {"http.response.status_code": 200}
    assert [span.name for span in stages] == ["intake", "vector", "facts", "forest", "decision"]
    assert {span.parent.span_id for span in stages} == {request.context.span_id}
    moments = [moment for span in stages for moment in (span.start_time, span.end_time)]
    assert moments == sorted(moments)
    assert request.start_time <= moments[0] and moments[-1] <= request.end_time
    assert stages[-1].attributes == {
        f"callsieve.{name}": verdict[name] for name in ("case", "action", "status", "model")
    }
    assert not [span for span in (*stages, request) if NUMBER in span.to_json()]


def test_other_paths_have_no_span_and_a_refusal_has_its_code(answer, exporter):
    assert answer("GET", schema.LIVE)[0] == 200
    assert answer("GET", f"/v1/{NUMBER}")[0] == 404
    assert exporter.get_finished_spans() == ()
    assert answer("POST", schema.SCORE, b"no call")[0] == 400
    (span,) = exporter.get_finished_spans()
    assert span.attributes == {"http.response.status_code": 400}


def test_a_failing_span_processor_costs_no_verdict(answer, monkeypatch):
    def fail(*_):
        raise OSError

    _, first = answer("POST", schema.SCORE, call_json())
    monkeypatch.setattr(tracing.tracer, "start_span", fail)
    assert answer("POST", schema.SCORE, call_json()) == (200, first)
    assert first["status"] != "fault"
    end_stage("vector")  # outside a request


def test_a_process_exports_spans_only_if_it_has_a_provider(monkeypatch):
    assert not tracing.is_instrumented()  # although the SDK is imported, as by MLflow
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    assert tracing.is_instrumented()


@pytest.mark.parametrize("traces", [True, False])
def test_calls_skip_asgi_only_without_traces(service_folder, blocking_bundle, keys, tmp_path, monkeypatch, traces):
    assert keys
    passed = []
    monkeypatch.setattr(tracing, "is_instrumented", lambda: traces)
    monkeypatch.setattr(blocking_bundle, "end_stage", None)
    monkeypatch.setattr(server, "configured", lambda *words: passed.extend(words) or SimpleNamespace(run=lambda: None))
    bundle, api_keys = service_folder / "bundle", service_folder / "api.keys"
    server.serve(bundle, blocking_bundle, real_bundle.NUMBER_KEY, api_keys, tmp_path)
    assert set(passed[-1]) == (set() if traces else {schema.SCORE, schema.OBSERVE})


def test_a_service_without_traces_imports_none():
    code = "import sys, callsieve.serving.http.server; sys.exit('opentelemetry' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
