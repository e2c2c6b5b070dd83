"""Runs one engine in a separate process, and prints seconds and memory as JSON. `bench_features.py` starts it.

python tests/bench/bench_run.py ENGINE THREADS CALLS.arrow [VALUES.npy]
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from engines.common import NAMES
from harness import memory

FIRST = 2000


def main(engine: str, threads: int, calls_path: str, values_path: str | None = None) -> None:
    """Runs `engine` ("module.function") on few calls, so that it is loaded and compiled, then on all, twice.

    Prints the seconds of the second run and the memory of the first. The host of a virtual machine may take fifteen
    times as long for the first use of a page of memory (1.7 s per GiB on one machine), which is not due to the engine.
    `bench_features.py` makes every allocator keep its memory.
    """
    pa.set_cpu_count(threads)
    with pa.OSFile(calls_path) as file:
        calls = pa.ipc.open_file(file).read_all()
    module, _, function = engine.rpartition(".")
    run = getattr(importlib.import_module(f"engines.engine_{module}"), function)
    run(calls.slice(0, FIRST), threads)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak memory
    columns = run(calls, threads)
    peak = memory("VmHWM")
    del columns
    wall, cpu = time.perf_counter(), time.process_time()
    columns = run(calls, threads)
    figures = {
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "memory_before_mib": before,
        "memory_peak_mib": peak,
    }
    if values_path:  # last, because the system uses a core to write a file to the disk
        save(columns, values_path)
    print(json.dumps(figures))


def save(columns, path: str) -> None:
    """Writes the common features in order of the calls, shape (len(NAMES), calls)."""
    order = np.argsort(np.asarray(columns["row"]), kind="stable")
    values = np.lib.format.open_memmap(path, "w+", np.float64, (len(NAMES), len(order)))
    for i, name in enumerate(NAMES):
        values[i] = np.asarray(columns[name])[order]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
