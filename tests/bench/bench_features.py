"""Compares callsieve with other engines on the same calls: the values must be equal; prints times as ratios.

python tests/bench/bench_features.py [--calls 5000000] [--first 1000000] [--seed 0] [--engines ours,polars] [--json]
python tests/bench/bench_features.py --sizes 100000,1000000,10000000 [--json]

Each engine runs in a separate process, from the same Arrow table in memory to its columns in memory, in any order of
rows. The others get the first calls only (--first; all of them with --first 5000000 take a quarter of an hour). The
features of a call depend on earlier calls only, so the values must be equal, and rates are compared. That favours the
others, as windows fill up later. Run by hand, on a machine without other load; no test looks at a clock.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from bench_calls import draw_calls
from engines.common import NAMES, check
from harness import parser_of

# Run -> module and function, threads. The first run is the reference.
RUNS = {
    "ours common 1": ("callsieve.common", 1),
    "ours common 2": ("callsieve.common", 2),
    "ours catalogue 1": ("callsieve.catalogue", 1),
    "ours catalogue 2": ("callsieve.catalogue", 2),
    "polars grouped 1": ("polars.grouped", 1),
    "polars grouped 2": ("polars.grouped", 2),
    "polars rolling 1": ("polars.rolling", 1),
    "polars rolling 2": ("polars.rolling", 2),
    "duckdb windows 1": ("duckdb.windows", 1),
    "duckdb windows 2": ("duckdb.windows", 2),
    "pandas grouped 1": ("pandas.grouped", 1),
    "pandas rolling 1": ("pandas.rolling", 1),
    "numpy search 1": ("numpy.search", 1),
}
OURS = tuple(run for run in RUNS if run.startswith("ours"))
REFERENCE = OURS[0]
LONG = 10
# A process keeps the memory that it has once allocated, whichever allocator its engine uses (that of C, mimalloc,
# jemalloc). Otherwise the host of a virtual machine takes free pages back and clears them at their next use, and
# this time would count for the engine.
KEEPING = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_ARENA_MAX": "1",  # arenas of threads ignore the settings above
    "MIMALLOC_PURGE_DELAY": "-1",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",
    "DUCKDB_JE_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",
}
PACKAGES = ("callsieve", "numpy", "pyarrow", "polars", "duckdb", "pandas")

COLUMNS = ("calls", "calls/s", "calls/cpu s", "x wall", "x cpu", "MiB before", "MiB peak")
Figures = dict[str, float]
Report = Callable[[str, Figures], None]


def main() -> None:
    """Prints the figures, each line as soon as it is known."""
    options = parsed()
    stream = sys.stderr if options.json else sys.stdout
    print(f"{'':24}" + "".join(f"{column:>13}" for column in COLUMNS), file=stream, flush=True)

    def report(run: str, figures: Figures) -> None:
        cells = (f"{value:13,.{0 if value >= 100 else 2}f}" for value in figures.values())
        print(f"{run:24}" + "".join(cells), file=stream, flush=True)

    try:
        runs = {str(size): of_size(size, options, report) for size in options.sizes or ()} or compared(options, report)
    except ValueError as error:
        raise SystemExit(f"no times: {error}") from None
    note = f"x = times as long a call as {REFERENCE}. " + ", ".join(f"{k} {v}" for k, v in versions().items())
    result = {"seed": options.seed, "versions": versions(), "figures": runs}
    print(json.dumps(result, indent=1) if options.json else note)


def parsed() -> argparse.Namespace:
    engines = tuple(dict.fromkeys(run.split()[0] for run in RUNS))
    words = lambda text: text.split(",")
    parser = parser_of(__doc__, calls=5_000_000, seed=0, json=False)
    parser.add_argument("--first", type=int, default=1_000_000, help="number of calls for the other engines")
    parser.add_argument("--engines", type=words, default=engines, help=f"of {','.join(engines)}; ours always runs")
    parser.add_argument("--repeats", type=int, default=3, help="of runs below 10 s; prints the median")
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in words(text)], help="ours alone, by calls")
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
    engines = {"ours", *options.engines}
    rows: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        calls = draw_calls(options.calls, options.seed)
        for run in RUNS:
            if run.split()[0] in engines:
                some = calls if run in OURS else calls.slice(0, options.first)
                figures = checked(run, write(some, Path(folder)), options.repeats)
                rows[run] = rates(figures, some.num_rows, rows.get(REFERENCE))
                report(run, rows[run])
    return rows


def of_size(size: int, options: argparse.Namespace, report: Report) -> dict[str, Figures]:
    """Runs callsieve on `size` calls; the catalogue is left out if its matrix would fill half of the memory."""
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    rows: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        calls = write(draw_calls(size, options.seed), Path(folder))
        for run in (run for run in OURS if run.endswith("1") and size * width(run) * 8 < room):
            rows[run] = rates(measured(run, calls, options.repeats), size, rows.get(REFERENCE))
            report(run, rows[run])
    return rows


def width(run: str) -> int:
    from callsieve.features.catalogue import FEATURES

    return len(FEATURES) if "catalogue" in run else len(NAMES)


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
    engine, threads = RUNS[run]
    here = Path(__file__).parent
    command = [sys.executable, str(here / "bench_run.py"), engine, str(threads), str(calls)]
    command += [str(values)] if values else []
    # Both libraries read their number of threads when they are imported.
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    rounds: list[Figures] = []
    while len(rounds) < repeats and sum(figures["wall_seconds"] for figures in rounds) < LONG:
        rounds.append(figures_of(run, command, environment | KEEPING))
    # Memory is measured with allocators that return it.
    used = figures_of(run, command, environment)
    memory = {name: used[name] for name in used if name.startswith("memory_")}
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]} | memory


def figures_of(run: str, command: list[str], environment: dict[str, str]) -> Figures:
    """Returns the figures that a process prints."""
    finished = subprocess.run(command, env=environment, capture_output=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{run} failed:\n{finished.stderr.decode()}")
    figures: Figures = json.loads(finished.stdout)
    return figures


def rates(figures: Figures, calls: int, reference: Figures | None) -> Figures:
    """Returns rates, and the time of a call relative to the reference."""
    own = {
        "calls": calls,
        "calls_per_second": calls / figures["wall_seconds"],
        "calls_per_cpu_second": calls / figures["cpu_seconds"],
    }
    base = reference or own
    return {
        **own,
        "times_reference_wall": base["calls_per_second"] / own["calls_per_second"],
        "times_reference_cpu": base["calls_per_cpu_second"] / own["calls_per_cpu_second"],
        "memory_before_mib": figures["memory_before_mib"],
        "memory_peak_mib": figures["memory_peak_mib"],
    }


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES} | {"python": sys.version.split()[0]}


if __name__ == "__main__":
    main()
