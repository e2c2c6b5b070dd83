"""The alert rules: they name metrics and statuses that exist, and say what to do."""

import math
import re

import yaml
from prometheus_client.parser import text_string_to_metric_families

from callsieve.features import Call
from callsieve.serving.http.answers import status_of
from callsieve.serving.http.metrics import metrics
from callsieve.serving.scorer.status import STATUSES
from tests.support import live_states, real_bundle
from tests.support.live_states import attempt_of
from tests.support.paths import ROOT

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
        named = re.findall(r"(callsieve_[a-z_]+)(?:\{status=\"([a-z_]+)\"\})?", rule["expr"])
        assert named, rule
        assert set(named) <= samples.keys(), rule


def test_each_alert_has_a_severity_and_says_what_is_wrong_and_where():
    assert len({rule["alert"] for rule in GROUP["rules"]}) == len(GROUP["rules"])
    for rule in GROUP["rules"]:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]


def samples_of(live):
    """Returns the values of all metrics by name and label `status`."""
    families = text_string_to_metric_families(metrics(live, live.scorers, {}).decode())
    return {
        (sample.name, sample.labels.get("status", "")): sample.value for family in families for sample in family.samples
    }
