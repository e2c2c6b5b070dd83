"""Compares callsieve with other engines on the same calls: the values must be equal; prints times as ratios.

python -m tests.bench.speed.bench_features [--calls 5000000] [--first 1000000] [--seed 0] [--engines polars] [--json]

callsieve computes its whole catalogue, and the 21 features of `common_features.py` alone, as the others do. Each engine
runs in a separate process, from the same Arrow table in memory to its columns in memory, in any order of rows. The
others get the first calls only (--first). The features of a call depend on earlier calls only, so the values must be
equal, and rates are compared. That favours the others, as windows fill up later. A cold rate is that of the first run,
which takes new memory. Last, the vectors of a file are written shard by shard, and the memory that this touches is
counted. Run by hand, on a machine without other load; no test looks at a clock.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.metadata
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.catalogue import NAMES as ALL
from callsieve.features.offline.shards import write_shards
from callsieve.features.offline.table import vectors
from tests.bench.harness import figures_of, memory, parser_of

from .common_features import NAMES, check
from .drawn_calls import draw_calls

# Run -> engine, threads. The first run is the reference.
RUNS = {
    "ours 1": ("ours", 1),
    "ours 2": ("ours", 2),
    "ours, 21 of them 1": ("same", 1),
    "ours, 21 of them 2": ("same", 2),
    "polars 1": ("polars", 1),
    "polars 2": ("polars", 2),
}
OURS = {"ours": ALL, "same": NAMES}  # engine -> its features
REFERENCE = next(iter(RUNS))
LONG, FIRST = 10, 2000
NO_HUGE_PAGES = 41  # PR_SET_THP_DISABLE of prctl: a huge page is one page fault, however little of it is used
# A process keeps the memory that it has once allocated, whichever allocator its engine uses (that of C, mimalloc,
# jemalloc). Otherwise the host of a virtual machine takes free pages back and clears them at their next use, and
# this time would count for the engine.
KEEPING = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_ARENA_MAX": "1",  # arenas of threads ignore the settings above
    "MIMALLOC_PURGE_DELAY": "-1",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",
}
PACKAGES = ("callsieve", "numpy", "pyarrow", "polars")

COLUMNS = ("calls", "calls/s", "calls/cpu s", "cold calls/s", "x wall", "x cpu", "x cold", "MiB before", "MiB peak")
Figures = dict[str, float]
Report = Callable[[str, Figures], None]


def main() -> None:
    """Prints the figures, each line as soon as it is known; with --run, runs one engine in this process."""
    options = parsed()
    if options.touched:
        print(json.dumps(touched(options.run, options.file)))
        return
    if options.run:
        print(json.dumps(run_engine(options.run, options.file, options.values)))
        return
    stream = sys.stderr if options.json else sys.stdout
    print(f"{'':24}" + "".join(f"{column:>13}" for column in COLUMNS), file=stream, flush=True)

    def report(run: str, figures: Figures) -> None:
        cells = (f"{value:13,.{0 if value >= 100 else 2}f}" for value in figures.values())
        print(f"{run:24}" + "".join(cells), file=stream, flush=True)

    try:
        runs = compared(options, report)
    except ValueError as error:
        raise SystemExit(f"no times: {error}") from None
    note = f"x = times as long a call as {REFERENCE}. " + ", ".join(f"{k} {v}" for k, v in versions().items())
    note += "".join(
        f"\n{run}: {row['bytes_touched']:,.0f} bytes of memory touched a call"
        for run, row in runs.items()
        if "bytes_touched" in row
    )
    result = {"seed": options.seed, "versions": versions(), "figures": runs}
    print(json.dumps(result, indent=1) if options.json else note)


def parsed() -> argparse.Namespace:
    engines = tuple(engine for engine in dict.fromkeys(engine for engine, _ in RUNS.values()) if engine not in OURS)
    words = lambda text: text.split(",")
    parser = parser_of(__doc__, calls=5_000_000, seed=0, json=False)
    parser.add_argument("--first", type=int, default=1_000_000, help="number of calls for the other engines")
    parser.add_argument("--engines", type=words, default=engines, help=f"of {','.join(engines)}; ours always runs")
    parser.add_argument("--repeats", type=int, default=3, help="of runs below 10 s; prints the median")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--touched", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--values", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.engines) - set(engines)
    if unknown:
        parser.error(f"--engines: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(engines)}")
    return options


def compared(options: argparse.Namespace, report: Report) -> dict[str, Figures]:
    """Returns the figures of each run, whose values equal those of callsieve.

    Raises:
        ValueError: if an engine computes another value.
    """
    engines = {*OURS, *options.engines}
    rows: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        calls = draw_calls(options.calls, options.seed)
        for run in RUNS:
            if RUNS[run][0] in engines:
                some = calls if RUNS[run][0] in OURS else calls.slice(0, options.first)
                figures = checked(run, write(some, Path(folder)), options.repeats)
                rows[run] = rates(figures, some.num_rows, rows.get(REFERENCE))
                report(run, rows[run])
        words = ["-m", "tests.bench.speed.bench_features", "--touched", "--file", write(calls, Path(folder)), "--run"]
        rows |= {f"{run}, from a file": figures_of(*words, run) for run in ("ours 2", "ours, 21 of them 2")}
    return rows


def write(calls: pa.Table, folder: Path) -> Path:
    """Writes the calls to a file that is named by their number."""
    path = folder / f"{calls.num_rows}.arrow"
    if path.exists():
        return path
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, calls.schema) as writer:
        writer.write_table(calls)
    return path


def checked(run: str, calls: Path, repeats: int) -> Figures:
    """Returns the figures of a run, after its values are compared with those of the reference, which runs first."""
    expected, actual = calls.parent / "expected.npy", calls.parent / "actual.npy"
    if run == REFERENCE:
        return measured(run, calls, repeats, expected)
    figures = measured(run, calls, repeats, actual)
    values = np.load(actual, mmap_mode="r")
    check(run, np.load(expected, mmap_mode="r")[:, : values.shape[1]], values)
    return figures


def measured(run: str, calls: Path, repeats: int, values: Path | None = None) -> Figures:
    """Returns medians over `repeats` processes, or fewer if they take long."""
    words = ["-m", "tests.bench.speed.bench_features", "--run", run, "--file", calls]
    words += ["--values", values] if values else []
    threads = RUNS[run][1]
    # Both libraries read their number of threads when they are imported.
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    rounds: list[Figures] = []
    while len(rounds) < repeats and sum(figures["wall_seconds_of_second"] for figures in rounds) < LONG:
        rounds.append(figures_of(*words, environment=environment | KEEPING))
    # Memory, and the time with new memory, are measured with allocators that return it.
    cold = [figures_of(*words, environment=environment) for _ in rounds]
    rows = [
        warm | {name: used[name] for name in used if "_of_" not in name}
        for warm, used in zip(rounds, cold, strict=True)
    ]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def run_engine(run: str, calls_path: Path, values_path: Path | None) -> Figures:
    """Runs an engine on few calls, so that it is loaded and compiled, then on all, twice.

    Returns the seconds of the second run, and wall seconds (cold) and memory of the first. The first use of a page of
    memory takes time, on a virtual machine up to fifteen times as long (1.7 s per GiB on one machine).
    """
    engine, threads = RUNS[run]
    pa.set_cpu_count(threads)
    with pa.OSFile(str(calls_path)) as file:
        calls = pa.ipc.open_file(file).read_all()
    if engine in OURS:
        columns_of = partial(ours, OURS[engine])
    else:
        columns_of = importlib.import_module(f"tests.bench.speed.engine_{engine}").columns
    columns_of(calls.slice(0, FIRST), threads)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak memory
    wall = time.perf_counter()
    columns = columns_of(calls, threads)
    cold, peak = time.perf_counter() - wall, memory("VmHWM")
    del columns
    wall, cpu = time.perf_counter(), time.process_time()
    columns = columns_of(calls, threads)
    figures = {
        "wall_seconds_of_second": time.perf_counter() - wall,
        "cpu_seconds_of_second": time.process_time() - cpu,
        "cold_seconds": cold,
        "memory_before_mib": before,
        "memory_peak_mib": peak,
    }
    if values_path:  # last, because the system uses a core to write a file to the disk
        save(columns, values_path)
    return figures


def touched(run: str, calls_path: Path) -> Figures:
    """Returns the bytes of memory that the vectors of a call touch on their way from a file to files."""
    engine, threads = RUNS[run]
    with pa.OSFile(str(calls_path)) as file:
        calls = pa.ipc.open_file(file).read_all()
    source, folder = calls_path.with_suffix(".parquet"), calls_path.with_name(run)
    pq.write_table(calls, source)
    if ctypes.CDLL(None).prctl(NO_HUGE_PAGES, 1, 0, 0, 0):
        raise OSError("this system cannot do without huge pages")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    write_shards(source, folder, features=OURS[engine], threads=threads)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {"calls": len(calls), "bytes_touched": faults * resource.getpagesize() / len(calls)}


def ours(names: tuple[str, ...], calls: pa.Table, threads: int) -> dict[str, np.ndarray]:
    """Returns views of the columns of these features, without a copy."""
    matrix = vectors(calls, features=names, threads=threads)
    return {"row": np.arange(len(matrix))} | {name: matrix[:, i] for i, name in enumerate(names)}


def save(columns: Mapping[str, Any], path: Path) -> None:
    """Writes the common features in order of the calls, shape (len(NAMES), calls)."""
    order = np.argsort(np.asarray(columns["row"]), kind="stable")
    values = np.lib.format.open_memmap(path, "w+", np.float64, (len(NAMES), len(order)))
    for i, name in enumerate(NAMES):
        values[i] = np.asarray(columns[name])[order]


def rates(figures: Figures, calls: int, reference: Figures | None) -> Figures:
    """Returns rates, and the time of a call relative to the reference."""
    own = {
        "calls": calls,
        "calls_per_second": calls / figures["wall_seconds_of_second"],
        "calls_per_cpu_second": calls / figures["cpu_seconds_of_second"],
        "cold_calls_per_second": calls / figures["cold_seconds"],
    }
    base = reference or own
    return {
        **own,
        "times_reference_wall": base["calls_per_second"] / own["calls_per_second"],
        "times_reference_cpu": base["calls_per_cpu_second"] / own["calls_per_cpu_second"],
        "times_reference_cold": base["cold_calls_per_second"] / own["cold_calls_per_second"],
        "memory_before_mib": figures["memory_before_mib"],
        "memory_peak_mib": figures["memory_peak_mib"],
    }


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES} | {"python": sys.version.split()[0]}


if __name__ == "__main__":
    main()
