"""Helpers of the benches: command lines from defaults, reports, simulated worlds, times and memory."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def parser_of(description: str, *paths: str, **defaults: Any) -> argparse.ArgumentParser:
    """Returns a parser with positional paths and an option for each default; False makes a flag."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in paths:
        parser.add_argument(name, type=Path)
    for name, default in defaults.items():
        kind: dict[str, Any] = {"action": "store_true"} if default is False else {"type": type(default)}
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, **kind)
    return parser


def show(report: Any, *, as_json: bool) -> None:
    """Prints a report of nested figures as JSON, or as a line for each innermost row of figures."""
    print(json.dumps(report, indent=1, ensure_ascii=False) if as_json else "\n".join(lines_of(report)), flush=True)


def lines_of(report: Any, name: str = "") -> Iterator[str]:
    """Yields the lines of a report; figures in one mapping or list share a line.

    >>> list(lines_of({"forest": {"row_us": 7.25, "rows": 2000}, "trees": 300}))
    ['forest  row_us 7.25  rows 2,000', 'trees 300']
    """
    entries = report if isinstance(report, Mapping) else dict(enumerate(report))
    nested = {key: value for key, value in entries.items() if isinstance(value, Mapping | list)}
    plain = [f"{key} {_figure(value)}" for key, value in entries.items() if key not in nested]
    for key, value in nested.items():
        yield from lines_of(value, f"{name}  {key}".strip())
    if plain:
        yield "  ".join([name, *plain] if name else plain)


def _figure(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def simulated_world(size: str, seed: int) -> Any:
    """Returns a simulated world with a random key."""
    from callsieve.features.intake.intake import Intake
    from callsieve.features.keys.tokens import Key
    from callsieve.training.world import keyed_world, load_scenario, simulate

    return keyed_world(simulate(load_scenario(), seed, size), Intake(Key.generate("e1")))


def memory(field: str, process: int | str = "self") -> float:
    """Returns memory of a process in MiB: VmRSS now, VmHWM at its peak. `ru_maxrss` would include the parent's."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def processor_seconds(process: int) -> float:
    """Returns the processor time of a process in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def times(
    work: Callable[..., object], arguments: Iterable[Any], clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Returns the seconds of `work` for each tuple of arguments."""
    spent = []
    for words in arguments:
        began = clock()
        work(*words)
        spent.append(clock() - began)
    return spent


def figures_of(*words: object, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the figures that Python prints as its last line of JSON, in a process of its own.

    Raises:
        SystemExit: with the error output, if the process fails.
    """
    command = [sys.executable, *map(str, words)]
    finished = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command[1:5])} failed:\n{finished.stderr}")
    figures: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return figures


def run_wrk(script: Path, url: str, connections: int, seconds: int, *, before: Sequence[str] = ()) -> dict[str, Any]:
    """Runs wrk, after a command prefix; returns its requests, rate, latencies in ms and failed requests."""
    words = [*before, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    latency = {
        share: float(value) * UNITS[unit] for share, value, unit in re.findall(r"(\d+)% +([\d.]+)(us|ms|s)", output)
    }
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return {
        "requests": int(re.search(r"(\d+) requests in", output)[1]),  # type: ignore[index]
        "per_second": float(re.search(r"Requests/sec: +([\d.]+)", output)[1]),  # type: ignore[index]
        "p50_ms": latency["50"],
        "p99_ms": latency["99"],
        "failed": int(failed[1]) if failed else 0,
    }
