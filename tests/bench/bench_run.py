"""One engine in a process of its own: seconds and memory as JSON on stdout. `bench_features.py` starts it.

python tests/bench/bench_run.py ENGINE THREADS CALLS.arrow [FOUND.npy]
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from common import NAMES

FIRST = 2000


def main(engine: str, threads: int, calls_path: str, found_path: str | None = None) -> None:
    """Run `engine` ("module.function") on few calls, so that it is loaded and compiled, then on all, twice.

    Told are the seconds of the second time: the host of a virtual machine may take fifteen times as long to give a page
    of memory for the first time (1.7 s a GiB where this was written), and that is no engine's doing.
    `bench_features.py` has every allocator keep what it has once got. Told is the memory of the first time.
    """
    pa.set_cpu_count(threads)
    with pa.OSFile(calls_path) as file:
        calls = pa.ipc.open_file(file).read_all()
    module, _, function = engine.rpartition(".")
    run = getattr(importlib.import_module(f"engine_{module}"), function)
    run(calls.slice(0, FIRST), threads)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest of memory begins anew
    found = run(calls, threads)
    peak = memory("VmHWM")
    del found
    wall, cpu = time.perf_counter(), time.process_time()
    found = run(calls, threads)
    figures = {
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "memory_before_mib": before,
        "memory_peak_mib": peak,
    }
    if found_path:  # afterwards: while a file goes to the disk, the system has work for a core of its own
        save(found, found_path)
    print(json.dumps(figures))


def save(found, path: str) -> None:
    """The common features in order of the calls, shape (len(NAMES), calls)."""
    order = np.argsort(np.asarray(found["row"]), kind="stable")
    kept = np.lib.format.open_memmap(path, "w+", np.float64, (len(NAMES), len(order)))
    for i, name in enumerate(NAMES):
        kept[i] = np.asarray(found[name])[order]


def memory(what: str) -> float:
    """Resident memory in MiB, now (VmRSS) or at its highest (VmHWM). `ru_maxrss` would count the parent's too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{what}:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
