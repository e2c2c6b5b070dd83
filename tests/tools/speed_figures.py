"""The figures of the benches of speed and memory that EVIDENCE.md states; `claims.py` has their commands.

What others publish is of other machines and models, so it is an order of magnitude, and no comparison in one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Output = Mapping[str, Any]
Figures = dict[str, str]
PUBLISHED = "lleaves 9.6, ONNX Runtime 11, treelite 28, LightGBM 52 (README of lleaves); timber about 2 (50 trees)"


def starting(output: Output) -> Figures:
    """Returns time and memory of a start, beside an empty Python, and what a reload costs."""
    labels = {"import": "import", "import names": "import of five names"}
    labels |= {"load": "loaded shipped scorer", "verdict": "first verdict"}
    figures = {
        label: f"{row['cpu_ms']:.0f} ms of processor, {row['times_empty_cpu_ms']:.1f} times empty; {row['mb']:.0f} MB"
        for label, row in ((labels[name], output[name]) for name in labels)
    }
    reload = output["reload"]
    return figures | {
        "calls a second during a reload": f"{100 * reload['share']:.0f} % of before",
        "longest call during a reload": f"{reload['longest_ms_during']:.0f} ms",
    }


def live_call(output: Output) -> Figures:
    """Returns the times of a live call and of its parts."""
    cost = output["cost_us"]
    parts = {
        "call to verdict, journal": "live: call to verdict, taken in",
        "embedded, without journal": "embedded: call to verdict, taken in",
        "forest alone": "the model alone",
        "LightGBM, one thread": "lightgbm.Booster.predict",
        "ONNX Runtime, one thread": "ONNX Runtime, one row",
    }
    figures = {label: f"{_microseconds(cost[name])} µs" for label, name in parts.items()}
    ratio = cost["lightgbm.Booster.predict"]["p50_us"] / cost["the model alone"]["p50_us"]
    return figures | {
        "trees": f"{output['trees']}",
        "forest beside LightGBM": f"{ratio:.0f} times as fast",
        "one row, published, in µs": PUBLISHED,
    }


def history(output: Output) -> Figures:
    """Returns the times of a vector and the memory of numbers."""
    even = output["even"]
    figures = {
        label: f"{_microseconds(output[name])} µs" for label, name in (("vector", "vector"), ("observe", "observe"))
    }
    figures |= {
        f"a million numbers, {calls} each": f"{row['resident_bytes'] / 1000:.2f} GB" for calls, row in even.items()
    }
    last = list(even.values())[-1]
    return figures | {"bytes of a further call": f"{last['bytes_of_a_further_call']:.0f}"}


def http(output: Any) -> Figures:
    """Returns rates by server and connections, and the ratio to an empty endpoint."""
    figures, empty = {}, {row["connections"]: row for row in output if row["server"] == "empty, httptools"}
    for row in output:
        label = f"{row['server']}, {row['connections']} connections"
        figures[label] = f"{row['per_second']:,.0f} a second, {row['processor_us']:.0f} µs of processor each"
        if row["server"] == "callsieve":
            scored = 1 - row["shed"] / max(row["passed"], 1)
            ratio = scored * row["per_second"] / empty[row["connections"]]["per_second"]
            figures[label] += f", {100 * scored:.0f} % scored, {ratio:.2f} of empty, httptools"
        if "shed_us" in row:
            figures[label] = f"{row['shed_us']:.1f} µs of processor each"
    return figures


def scoring(output: Output) -> Figures:
    """Returns the cost of `callsieve score` in rows of LightGBM."""
    return {
        "calls": f"{output['calls']:,}",
        "a call": f"{output['call_in_rows']:.2f} rows of LightGBM",
        "peak memory": f"{output['peak_mib'] / 1024:.1f} GiB",
    }


def feature_rates(output: Output) -> Figures:
    """Returns calls a second of processor, warm, and of wall clock, cold, by engine and threads; memory of a call."""
    return {
        run: f"{row['bytes_touched']:,.0f} bytes of memory touched a call"
        if "bytes_touched" in row
        else f"{row['calls_per_cpu_second'] / 1e6:.2f} M calls/s, cold {row['cold_calls_per_second'] / 1e6:.2f} M"
        for run, row in output["figures"].items()
    }


def _microseconds(row: Output) -> str:
    return f"p50 {row['p50_us']:.1f}, p99 {row['p99_us']:.1f}"
