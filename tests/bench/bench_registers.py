"""Measures the join of calls with registers as of the time of each call, and the look-up of a call as it rings.

python tests/bench/bench_registers.py [--calls 10000000] [--numbers 400000] [--seed 0] [--json]

The calls are in a Parquet file and are read a million at a time; each size of file has a separate process. Prints calls
per second, and the growth of the peak memory after the registers are ready, which must not depend on the calls. Every
twentieth number is registered, half of the rows are corrected once, and some callees have consents. No test looks at a
clock.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from bench_calls import draw_calls
from harness import memory, parser_of

from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.serving.batch.register_join import COLUMNS, PART_ROWS, RegisterJoin
from callsieve.serving.rules.policy import read_policy
from callsieve.serving.rules.register_lookup import look_up
from callsieve.serving.rules.registers import Registers, columns_of

LOOKED_UP = 20_000
DAY = 86_400_000


def main() -> None:
    parser = parser_of(__doc__, calls=10_000_000, seed=0, json=False)
    parser.add_argument("--numbers", type=int, default=400_000, help="in the calls of both sizes")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        pq.write_table(
            draw_calls(options.calls, options.seed, options.numbers), options.write, row_group_size=PART_ROWS
        )
    elif options.measure:
        print(json.dumps(measured(options.measure, options.seed)))
    else:
        figures = [in_a_process(calls, options) for calls in (options.calls // 5, options.calls)]
        print(json.dumps(figures, indent=1) if options.json else as_text(figures))


def in_a_process(calls: int, options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.parquet"
        sizes = {"seed": options.seed, "calls": calls, "numbers": options.numbers}
        common = [sys.executable, __file__, *(f"--{name}={size}" for name, size in sizes.items())]
        subprocess.run([*common, "--write", str(path)], check=True)
        done = subprocess.run([*common, "--measure", str(path)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def measured(path: Path, seed: int) -> dict[str, float]:
    texts = ["caller", "callee", "caller_block", "trunk", "caller_class"]
    # With its buffer the reader would keep all row groups in memory.
    file = pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False)
    registers = registers_of(file, np.random.default_rng(seed))
    began = time.perf_counter()
    joins = RegisterJoin(registers, read_policy().terms)
    ready = time.perf_counter() - began
    before, began, calls, answers = memory("VmHWM"), time.perf_counter(), 0, 0.0
    for batch in file.iter_batches(PART_ROWS, columns=list(COLUMNS)):
        matches = joins.registered(pa.Table.from_batches([batch]))
        calls += batch.num_rows
        answers += float(np.nansum(matches.campaign) + np.nansum(matches.consent) + np.nansum(matches.lapsed))
    seconds = time.perf_counter() - began
    growth = memory("VmHWM") - before
    return {
        "calls": calls, "register_rows": registers.rows, "seconds_to_prepare": ready,
        "calls_per_second": calls / seconds, "answers": answers, "grown_mib": growth, "held_mib": before,
        **looked_up(file, registers),
    }  # fmt: skip


def registers_of(file: pq.ParquetFile, rng: np.random.Generator) -> Registers:
    """Returns registers about the numbers of the calls, valid and known at times around them."""
    first = file.read_row_group(0, columns=["start", "caller", "callee", "trunk"])
    start, end = pc.min_max(first["start"]).as_py().values()
    callers, callees, trunks = (pc.unique(first[name].cast(pa.string())).to_pylist() for name in
                                ("caller", "callee", "trunk"))  # fmt: skip
    trunks = [trunk for trunk in trunks if trunk is not None] or ["none"]

    def spans(count: int) -> dict[str, list[int | None]]:
        begin = rng.integers(start - 100 * DAY, end, count)
        stop = [None if open_ else int(at) for open_, at in zip(rng.random(count) < 0.7, begin + 30 * DAY, strict=True)]
        return {
            "valid_from": begin.tolist(),
            "valid_to": stop,
            "known_at": (begin + rng.integers(0, 9 * DAY, count)).tolist(),
        }

    def register(table: str, columns: dict[str, list[object]]) -> dict[str, list[object]]:
        count = len(next(iter(columns.values())))
        times = spans(count)
        again = count // 2  # corrected rows: the same beginning, known later, another end
        whole = {name: values + values[:again] for name, values in (columns | times).items()}
        whole["known_at"][count:] = [at + 5 * DAY for at in times["known_at"][:again]]
        whole["valid_to"][count:] = [at + 20 * DAY for at in times["valid_from"][:again]]
        return {name: whole.get(name, [None] * (count + again)) for name in columns_of(table)}

    some = callers[::20]
    pick = lambda words, count: [words[i] for i in rng.integers(0, len(words), count)]
    firms, uses = [f"firm-{i}" for i in range(500)], ["own use", "call centre"]
    consenting = callees[::4]
    return Registers({
        "campaigns": register("campaigns", {"number": some, "business": pick(["loans", "courier"], len(some)),
                                            "principal": pick(firms, len(some))}),
        "trunks": register("trunks", {"trunk": pick(trunks, len(some)), "number": some,
                                      "declared_use": pick(uses, len(some))}),
        "number_resources": register("number_resources", {"number": some}),
        "subscribers": register("subscribers", {"number": callers, "kind": ["person"] * len(callers),
                                                "calls_per_day": [200] * len(callers)}),
        "consents": register("consents", {"callee": consenting * 4, "principal": pick(firms, 4 * len(consenting))}),
        "refusals": register("refusals", {"callee": consenting, "industry": ["loans"] * len(consenting)}),
        "preferences": register("preferences", {"callee": consenting, "category": ["any"] * len(consenting),
                                                "accepts": [False] * len(consenting)}),
        "protected": register("protected", {"number": callers[::999], "reason": ["hospital"] * len(callers[::999])}),
    })  # fmt: skip


def looked_up(file: pq.ParquetFile, registers: Registers) -> dict[str, float]:
    """Returns the microseconds of a look-up at ring time."""
    calls, terms = list(keyed_calls(file.read_row_group(0).slice(0, LOOKED_UP))), read_policy().terms
    times = []
    for call in calls:
        began = time.perf_counter_ns()
        look_up(registers, call, terms)
        times.append((time.perf_counter_ns() - began) / 1000)
    cuts = statistics.quantiles(times, n=100)
    return {"look_up_us_p50": cuts[49], "look_up_us_p99": cuts[98]}


def as_text(rows: list[dict[str, float]]) -> str:
    lines = []
    for row in rows:
        lines += [
            f"{row['calls']:,.0f} calls, {row['register_rows']:,.0f} rows of registers",
            f"  {row['calls_per_second']:,.0f} calls/s, prepared in {row['seconds_to_prepare']:.1f} s",
            f"  {row['grown_mib']:,.0f} MiB over the {row['held_mib']:,.0f} MiB held before",
            f"  a look-up {row['look_up_us_p50']:.1f} µs (p99 {row['look_up_us_p99']:.1f})",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
