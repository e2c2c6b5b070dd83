"""Processor, memory, disk and network while a training runs, if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING asks for them.

MLflow's own monitors measure. MLflow would send each value to a running run, but ours is written when all is finished.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module

from mlflow.environment_variables import (
    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING,
    MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL,
)

INTERVAL = 10.0  # seconds between two samples, as in MLflow, unless MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says else


@contextmanager
def system_metrics() -> Iterator[Mapping[str, list[float]]]:
    """Gives a mapping that is filled while the block runs: the name of each metric, `system/...`, and its samples.

    It stays empty unless MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is true.

    Raises:
        ValueError: in one line, if metrics are asked for and psutil is missing.
    """
    samples: defaultdict[str, list[float]] = defaultdict(list)
    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        yield samples
        return
    try:
        import_module("psutil")  # MLflow's monitors need it
    except ImportError:
        raise ValueError(f"{MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.name}: needs psutil: pip install psutil") from None
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors, ended = (CPUMonitor(), DiskMonitor(), NetworkMonitor()), threading.Event()
    interval = float(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or INTERVAL)

    def measure() -> None:
        while True:
            for monitor in monitors:
                monitor.collect_metrics()
                for name, value in monitor.aggregate_metrics().items():
                    samples[f"system/{name}"].append(float(value))
                monitor.clear_metrics()
            if ended.wait(interval):
                return

    thread = threading.Thread(target=measure, name="system metrics", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
