"""System metrics are measured on request, and only then."""

import sys
import time

import pytest

from callsieve.training.tracking.system_metrics import system_metrics

VARIABLE = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"


def test_metrics_are_sampled_while_the_block_runs(monkeypatch):
    monkeypatch.setenv(VARIABLE, "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    with system_metrics() as metrics:
        deadline = time.monotonic() + 30
        while len(metrics.get("system/cpu_utilization_percentage", ())) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    count = len(metrics["system/cpu_utilization_percentage"])
    assert count >= 3 and all(0 <= value <= 100 for value in metrics["system/system_memory_usage_percentage"])
    assert len({len(values) for values in metrics.values()}) == 1  # every metric has each sample
    time.sleep(0.05)
    assert len(metrics["system/cpu_utilization_percentage"]) == count  # nothing measures after the block


def test_without_request_nothing_is_measured(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with system_metrics() as metrics:
        time.sleep(0.05)
    assert not metrics


def test_a_missing_psutil_is_one_line(monkeypatch):
    monkeypatch.setenv(VARIABLE, "true")
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ValueError, match=f"^{VARIABLE}: needs psutil: pip install psutil$"), system_metrics():
        raise AssertionError
