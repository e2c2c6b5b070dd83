"""Traces by OpenTelemetry: a span for each request, a child of its `traceparent`, and one for each stage of a verdict.

`serve` imports this module only under `opentelemetry-instrument`, which loads the SDK and reads settings (`OTEL_*`).
A stage reports its end, and its span begins at the end of the stage before. So the scorer knows nothing of spans, and
a service without traces spends no time on them. No span has a number or another text of a call.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from typing import Any

from opentelemetry import propagate, trace

from callsieve.serving.scorer.verdict import Verdict

from .endpoint import Receive, Scope, Send
from .schema import BATCH, EXPLAIN, OBSERVE, REPORT, SCORE

PATHS = frozenset((SCORE, BATCH, OBSERVE, REPORT, EXPLAIN))  # other paths could have a number in them
_stage_began: ContextVar[int] = ContextVar("stage_began")  # Unix ns; unset outside a traced request
tracer = trace.get_tracer("callsieve")


def is_instrumented() -> bool:
    """Returns whether this process exports spans, as under `opentelemetry-instrument`."""
    from opentelemetry.sdk.trace import TracerProvider  # the extra has the API alone

    return isinstance(trace.get_tracer_provider(), TracerProvider)


def end_stage(stage: str, verdict: Verdict | None = None) -> None:
    """Exports the span of a stage that ends now, as a child of the request's span. Never raises.

    Args:
        verdict: the delivered verdict, whose case, action, status and model become attributes.
    """
    with suppress(Exception):  # a fault of a sampler or span processor must not cost a verdict
        began, now = _stage_began.get(), time.time_ns()
        _stage_began.set(now)
        span = tracer.start_span(stage, start_time=began)
        if verdict is not None:
            for name in ("case", "action", "status", "model"):
                span.set_attribute(f"callsieve.{name}", getattr(verdict, name))
        span.end(now)


def traced(app: Any) -> Any:
    """Returns an ASGI application that traces the requests to `app` about calls."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await app(scope, receive, send)
            return

        async def note_code(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                trace.get_current_span().set_attribute("http.response.status_code", message["status"])
            await send(message)

        name = f"{scope['method']} {scope['path']}"
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with ExitStack() as stack:
            with suppress(Exception):  # as for a stage
                context = propagate.extract(headers)
                stack.enter_context(tracer.start_as_current_span(name, context, kind=trace.SpanKind.SERVER))
                _stage_began.set(time.time_ns())
            await app(scope, receive, note_code)

    return answer
