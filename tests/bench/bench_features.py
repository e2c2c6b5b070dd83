"""The same calls through callsieve and through other engines: checked equal, then told as ratios.

python tests/bench/bench_features.py [--calls 5000000] [--first 1000000] [--seed 0] [--engines ours,polars] [--json]
python tests/bench/bench_features.py --sizes 100000,1000000,10000000 [--json]

Each engine runs in a process of its own, from the same Arrow table in memory to its columns in memory, in whatever
order of rows it likes. The others get the first of the calls (--first; --first 5000000 for all, and a quarter of an
hour): what a call is told depends on earlier calls alone, so they have to find the same values, and rates are compared.
That is in their favour, windows fill up later. Run by hand, on a machine that does nothing else; no test looks at a
clock.
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
from bench_calls import drawn
from common import NAMES, check

# What is told -> module and function, threads. The first is what the others are measured against.
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
# Memory that a process has once got stays with it, whichever allocator its engine has (that of C, mimalloc, jemalloc):
# else the host of a virtual machine, which takes back what is free, must give it anew, and clear it, and this is
# counted as time of whoever asks.
KEEPING = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_ARENA_MAX": "1",  # those of threads give back what is free, whatever is said
    "MIMALLOC_PURGE_DELAY": "-1",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",
    "DUCKDB_JE_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",
}
PACKAGES = ("callsieve", "numpy", "numba", "pyarrow", "polars", "duckdb", "pandas")

COLUMNS = ("calls", "calls/s", "calls/cpu s", "x wall", "x cpu", "MiB before", "MiB peak")
Figures = dict[str, float]
Tell = Callable[[str, Figures], None]


def main() -> None:
    """Print the figures, each line as soon as it is known."""
    options = parsed()
    stream = sys.stderr if options.json else sys.stdout
    print(f"{'':24}" + "".join(f"{column:>13}" for column in COLUMNS), file=stream, flush=True)

    def tell(run: str, figures: Figures) -> None:
        cells = (f"{value:13,.{0 if value >= 100 else 2}f}" for value in figures.values())
        print(f"{run:24}" + "".join(cells), file=stream, flush=True)

    try:
        found = {str(size): of_size(size, options, tell) for size in options.sizes or ()} or compared(options, tell)
    except ValueError as error:
        raise SystemExit(f"no times: {error}") from None
    told = {"seed": options.seed, "versions": versions(), "figures": found}
    note = f"x = times as long a call as {REFERENCE}. " + ", ".join(f"{k} {v}" for k, v in versions().items())
    print(json.dumps(told, indent=1) if options.json else note)


def parsed() -> argparse.Namespace:
    engines = tuple(dict.fromkeys(run.split()[0] for run in RUNS))
    words = lambda text: text.split(",")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5_000_000)
    parser.add_argument("--first", type=int, default=1_000_000, help="so many of the calls for the other engines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", type=words, default=engines, help=f"of {','.join(engines)}; ours always runs")
    parser.add_argument("--repeats", type=int, default=3, help="of runs that take less than 10 s; the median is told")
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in words(text)], help="ours alone, by calls")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = set(options.engines) - set(engines)
    if unknown:
        parser.error(f"--engines: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(engines)}")
    return options


def compared(options: argparse.Namespace, tell: Tell) -> dict[str, Figures]:
    """Figures of each run, once all of them agree with ours.

    Raises: ValueError: if an engine finds another value.
    """
    wanted = {"ours", *options.engines}
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        calls = drawn(options.calls, options.seed)
        for run in RUNS:
            if run.split()[0] in wanted:
                some = calls if run in OURS else calls.slice(0, options.first)
                figures = checked(run, written(some, Path(folder)), options.repeats)
                found[run] = rates(figures, some.num_rows, found.get(REFERENCE))
                tell(run, found[run])
    return found


def of_size(size: int, options: argparse.Namespace, tell: Tell) -> dict[str, Figures]:
    """Ours on `size` calls; the whole catalogue is left out where its matrix would fill half of the memory."""
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        calls = written(drawn(size, options.seed), Path(folder))
        for run in (run for run in OURS if run.endswith("1") and size * width(run) * 8 < room):
            found[run] = rates(measured(run, calls, options.repeats), size, found.get(REFERENCE))
            tell(run, found[run])
    return found


def width(run: str) -> int:
    from callsieve.features.catalogue import FEATURES

    return len(FEATURES) if "catalogue" in run else len(NAMES)


def written(calls: pa.Table, folder: Path) -> Path:
    """A file of the calls, whose name tells how many."""
    path = folder / f"{calls.num_rows}.arrow"
    if path.exists():
        return path
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, calls.schema) as writer:
        writer.write_table(calls)
    return path


def checked(run: str, calls: Path, repeats: int) -> Figures:
    """Figures of a run whose values are those of the reference, which runs first, of all the calls."""
    expected, found = calls.parent / "expected.npy", calls.parent / "found.npy"
    if run == REFERENCE:
        return measured(run, calls, repeats, expected)
    figures = measured(run, calls, repeats, found)
    values = np.load(found, mmap_mode="r")
    check(run, np.load(expected, mmap_mode="r")[:, : values.shape[1]], values)
    return figures


def measured(run: str, calls: Path, repeats: int, found: Path | None = None) -> Figures:
    """Medians over `repeats` processes, fewer when they take long."""
    engine, threads = RUNS[run]
    here = Path(__file__).parent
    command = [sys.executable, str(here / "bench_run.py"), engine, str(threads), str(calls)]
    command += [str(found)] if found else []
    # Both libraries read their number of threads when they are imported.
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    told: list[Figures] = []
    while len(told) < repeats and sum(figures["wall_seconds"] for figures in told) < LONG:
        told.append(told_by(run, command, environment | KEEPING))
    # What memory is used shows only where it is given back.
    used = told_by(run, command, environment)
    memory = {name: used[name] for name in used if name.startswith("memory_")}
    return {name: statistics.median(figures[name] for figures in told) for name in told[0]} | memory


def told_by(run: str, command: list[str], environment: dict[str, str]) -> Figures:
    """The figures that one process tells."""
    finished = subprocess.run(command, env=environment, capture_output=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{run} failed:\n{finished.stderr.decode()}")
    figures: Figures = json.loads(finished.stdout)
    return figures


def rates(figures: Figures, calls: int, reference: Figures | None) -> Figures:
    """Rates in place of seconds, and how many times as long as the reference a call took."""
    told = {
        "calls": calls,
        "calls_per_second": calls / figures["wall_seconds"],
        "calls_per_cpu_second": calls / figures["cpu_seconds"],
    }
    than = reference or told
    return {
        **told,
        "times_reference_wall": than["calls_per_second"] / told["calls_per_second"],
        "times_reference_cpu": than["calls_per_cpu_second"] / told["calls_per_cpu_second"],
        "memory_before_mib": figures["memory_before_mib"],
        "memory_peak_mib": figures["memory_peak_mib"],
    }


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES} | {"python": sys.version.split()[0]}


if __name__ == "__main__":
    main()
