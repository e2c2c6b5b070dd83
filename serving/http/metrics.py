"""Metrics of the service, for Prometheus and for the operator's page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

try:
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError("the service needs more packages: pip install 'callsieve[serve]'") from error

from callsieve.features.files.dates import now_ms
from callsieve.serving.live.health import days_left, health
from callsieve.serving.live.journal import Journal
from callsieve.serving.live.live import BOUNDS, RECENT, Live
from callsieve.serving.live.swap import Swap
from callsieve.serving.scorer.listed import Listed

_TOP = 8


def metrics(live: Live | None, scorers: Swap, answers: Mapping[int, int]) -> bytes:
    """Returns all metrics in Prometheus's text format. `answers`: HTTP answers by status code."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collector(live, scorers, answers))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, live: Live | None, scorers: Swap, answers: Mapping[int, int]) -> None:
        self._live, self._scorers, self._answers = live, scorers, answers

    def collect(self) -> Iterator[Metric]:
        now = now_ms()
        yield _gauge("ready", "1 if calls should come here now", health(self._live, self._scorers, now).ready)
        yield _gauge("bundle_refused", "1 if the last bundle was refused", self._scorers.refusal is not None)
        yield _counter("http_answers", "HTTP answers", "code", {str(k): v for k, v in self._answers.items()})
        if (scorer := self._scorers.scorer) is not None:
            model = GaugeMetricFamily(
                "callsieve_model", "The model in service", labels=("model", "valid_until", "epoch")
            )
            bundle = scorer.bundle
            model.add_metric((bundle.model_id, bundle.valid_until, str(bundle.epoch)), 1)
            yield model
            yield _gauge("model_days_left", "Days until the model expires; negative afterwards", days_left(scorer, now))
        if self._live is not None:
            yield from _live_metrics(self._live)
        yield from _list_metrics(self._scorers.listed, now)


def _live_metrics(live: Live) -> Iterator[Metric]:
    yield _counter("verdicts", "Verdicts", "action", live.actions)
    yield _counter("statuses", "Verdicts by status", "status", live.statuses)
    shares = GaugeMetricFamily("callsieve_status_share", f"Share of the last {RECENT} verdicts", labels=("status",))
    for word, share in live.status_shares().items():
        shares.add_metric((word,), share)
    yield shares
    yield _counter("events", "Events by result", "kind", live.counts)
    yield _counter("reasons", "Reasons of verdicts other than pass", "feature", live.reason_counts)
    yield _counter("rules", "Calls that met a rule", "rule", live.rules)
    bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    taken = HistogramMetricFamily("callsieve_verdict_seconds", "Latency of verdicts")
    taken.add_metric((), list(zip(bounds, accumulate(live.latency), strict=True)), live.seconds)
    yield taken
    feed = GaugeMetricFamily("callsieve_feed", "The feed whose thresholds apply", labels=("feed", "pinned"))
    feed.add_metric((live.feed, str(live.feed_is_pinned).lower()), 1)
    yield feed
    changes = live.memory.history.memory_feed.changes
    yield CounterMetricFamily("callsieve_feed_changes", "Changes of the recognised feed", value=changes)
    refusals: Counter[str] = sum((written.refusals for written in _journals(live)), Counter())
    yield _counter("journal_refusals", "Failed writes to disk by the error of the system", "error", refusals)
    for name, value in gauges(live).items():
        yield _gauge(name, STATE[name], math.nan if value is None else value)


def _list_metrics(listed: Listed | None, now: int) -> Iterator[Metric]:
    families = [GaugeMetricFamily(f"callsieve_list_{name}", text, labels=("issuer",)) for name, text in LISTS.items()]
    calls: Mapping[str, int] = {}
    if listed is not None:
        calls = listed.calls.copy()
        for issuer, state in listed.states.items():
            share = len(listed.cleared[issuer]) / max(len(listed.callers[issuer]), 1)
            left = (state.valid_until - now) / 1000
            clocks = (left, state.flagged_to_published, state.published_to_acted)
            values = (state.entries, *clocks, share, issuer in listed.watched)
            for family, value in zip(families, values, strict=True):
                family.add_metric((issuer,), float(value))
    yield from families
    yield _counter("list_calls", "Calls of listed numbers", "issuer", calls)


LISTS = {
    "entries": "Entries of all lists of an issuer, with withdrawn and expired ones",
    "valid_seconds": "Time until the list expires; negative when it is not used",
    "flagged_to_published_seconds": "Mean time from the last flagged call of a new entry to its publication",
    "published_to_acted_seconds": "Time from the publication of the latest list until it was in service here",
    "cleared_share": "Share of the listed callers that are cleared here, since the start",
    "watched": "1 if the list leads to no action, because too many of its callers are cleared here",
}
"""Gauges of lists of other issuers, by name, with their texts."""


STATE = {
    "history_calls": "Calls in memory",
    "history_numbers": "Numbers in memory",
    "history_dropped": "Calls dropped before their expiry",
    "history_evicted": "Numbers evicted before their expiry",
    "history_refused": "Calls refused for lack of capacity",
    "history_filled": "1 if the history is long enough for bands to apply",
    "journal_lost": "Events lost because the disk refused them",
    "journal_faults": "Failed writes to disk",
    "journal_age_seconds": "Age of the oldest event not yet on disk",
    "newest_event_age_seconds": "Time since the start of the newest call",
    "restored_events": "Events read back at start",
    "restored_damaged": "Damaged events at start",
    "snapshots": "Snapshots written",
    "snapshot_faults": "Snapshots that failed",
}
"""Gauges of memory and disk, by name, with their texts."""


def gauges(live: Live) -> dict[str, float | None]:
    """Returns the values of STATE; None where there is none."""
    now = now_ms()
    history, scorer = live.memory.history, live.scorers.scorer
    filled = scorer is not None and history.covers(now, scorer.policy.history_days)
    journals = _journals(live)
    restored, newest = live.memory.restored, live.memory.newest
    return {
        "history_calls": history.calls,
        "history_numbers": history.numbers,
        "history_dropped": history.dropped,
        "history_evicted": history.evicted,
        "history_refused": history.refused,
        "history_filled": float(filled),
        "journal_lost": sum(written.lost for written in journals),
        "journal_faults": sum(written.faults for written in journals),
        "journal_age_seconds": max(written.age for written in journals),
        "newest_event_age_seconds": None if newest is None else (now - newest) / 1000,
        "restored_events": restored.lines,
        "restored_damaged": restored.damaged + bool(restored.torn),
        "snapshots": live.memory.saved[0],
        "snapshot_faults": live.memory.saved[1],
    }


def _journals(live: Live) -> tuple[Journal, Journal, Journal]:
    return live.memory.journal, live.memory.complaints, live.verdicts


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"callsieve_{name}", text, float(value))


def _counter(name: str, text: str, label: str, counts: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(f"callsieve_{name}", text, labels=(label,))
    for key, count in sorted(counts.items()):
        family.add_metric((key,), count)
    return family
