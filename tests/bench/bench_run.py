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
TOUCHED, OF_OUR_COMMON = 1900, 500  # bytes a call: about what the hungriest engine needs, and ours for few features


def main(engine: str, threads: int, calls_path: str, found_path: str | None = None) -> None:
    """Run `engine` ("module.function") once on few calls, so that it is loaded and compiled, and once on all."""
    pa.set_cpu_count(threads)
    with pa.OSFile(calls_path) as file:
        calls = pa.ipc.open_file(file).read_all()
    module, _, function = engine.rpartition(".")
    run = getattr(importlib.import_module(f"engine_{module}"), function)
    run(calls.slice(0, FIRST), threads)
    needed = OF_OUR_COMMON if engine == "callsieve.common" else TOUCHED
    touch(min(needed * calls.num_rows, available() // 2))
    before = memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    found = run(calls, threads)
    figures = {
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "memory_before_mib": before,
        "memory_peak_mib": memory("VmHWM"),
    }
    if found_path:
        save(found, found_path)
    print(json.dumps(figures))


def touch(size: int) -> None:
    """Use so much memory and give it back: the host of a virtual machine may take fifteen times as long to give a
    page for the first time (1.7 s a GiB where this was written), and that is no engine's doing. `bench_features.py`
    has the allocator keep it.
    """
    np.empty(size, dtype=np.uint8)[:: 1 << 12] = 0
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest of memory begins anew


def available() -> int:
    """Memory that nobody uses, in bytes."""
    status = Path("/proc/meminfo").read_text(encoding="ascii")
    return int(status.partition("MemAvailable:")[2].split()[0]) * 1024


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
