"""Measures 1, 2 and 4 scorers behind the shipped HAProxy configuration. Run by hand.

python -m tests.bench.speed.bench_processes [--processes 1,2,4] [--connections 16] [--seconds 4] [--warm 4]
    [--numbers 20000] [--day 1000000000] [--json]

Needs Debian's packages wrk and haproxy. Scorers, proxy and wrk share all cores, so on a small machine the rate says
little about more cores. The processor time of a request does, and the sizing follows from it: a call is one `score`,
and its end is one `observe` at the process of its caller and one at that of its callee.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.harness import memory, parser_of, processor_seconds, run_wrk, show
from tests.support import http_service
from tests.support.servers.haproxy import Proxy
from tests.support.waiting import wait_until

from .bench_http import SCRIPT, THRESHOLDS

SCORE, OBSERVE = "/v1/score", "/v1/observe"
OVER = ',"ring":8.0,"talk":0.0,"outcome":"no_answer"'
WEEK = 7  # days of calls in memory
# By bench_live; a number has many calls in its own process, and few in that of a contact.
BYTES_OF_CALL, BYTES_OF_NUMBER, BYTES_OF_CONTACT = 85, 1_220, 290
CALLS_OF_NUMBER, CONTACTS_OF_NUMBER = 70, 20  # made and received in a week, and the distinct numbers behind them
PEAK = 3.0  # the busiest hour of a day has about three times the calls of its mean hour
LOAD = 0.6  # of a core, above which waiting times grow


def main() -> None:
    """Prints a row for each number of processes and path, and the cores for a day's calls."""
    parser = parser_of(
        __doc__, processes="1,2,4", connections=16, seconds=4, warm=4, numbers=20_000, day=10**9, seed=0, json=False
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "service"
        keys = http_service.write_service_files(folder, 'certified = "block"\n', thresholds=THRESHOLDS)
        rows = [row for count in options.processes.split(",") for row in run(folder, keys["all"], int(count), options)]
    report = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0], "rows": rows, "sizing": sizing(rows, options)}
    show(report, as_json=options.json)


def run(folder: Path, key: str, count: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for each path, of `count` processes that share the numbers."""
    limits = ("--compiled", "--deadline", 5000, "--max-calls", 1_000_000, "--max-numbers", 100_000)
    with contextlib.ExitStack() as stack:
        names = [f"p{count}_{index}" for index in range(count)]
        scorers = [http_service.ServiceProcess(folder, "--state", folder / name, *limits) for name in names]
        for scorer in scorers:
            stack.enter_context(scorer)
        ports = {name: scorer.port for name, scorer in zip(names, scorers, strict=True)}
        proxy = stack.enter_context(Proxy(folder, ports))
        wait_until(lambda: proxy.get("/health/ready")[0] == 200)
        began = [time.time() - 3000.0]

        def load(path: str, seconds: int) -> dict[str, Any]:
            script = folder / "calls.lua"
            facts = {"seed": options.seed, "start": f"{began[0]:.3f}", "numbers": options.numbers, "key": key}
            text = SCRIPT.format(path=path, **facts)
            script.write_text(text.replace('"attestation"', f'{OVER[1:]},"attestation"') if path == OBSERVE else text)
            pids = [scorer.process.pid for scorer in scorers]
            before = sum(map(processor_seconds, pids)), processor_seconds(proxy.process.pid)
            row = run_wrk(script, proxy.url, options.connections, seconds)
            after = sum(map(processor_seconds, pids)), processor_seconds(proxy.process.pid)
            requests = row.pop("requests")
            began[0] += requests / 1000 + 1
            return {
                "processes": count,
                "path": path,
                "scorer_us": 1e6 * (after[0] - before[0]) / requests,
                "proxy_us": 1e6 * (after[1] - before[1]) / requests,
                **row,
            }

        load(SCORE, options.warm)
        rows = [load(path, options.seconds) for path in (SCORE, OBSERVE)]
        figures = [scorer.status(key)["counts"] for scorer in scorers]
        shed = sum(counts["shed"] + counts["late"] for counts in figures)
        attempts = [counts["attempts"] for counts in figures]
        resident = sum(memory("VmRSS", scorer.process.pid) for scorer in scorers)
        share = max(attempts) / max(sum(attempts), 1)
        rows[-1] |= {"shed_or_late": shed, "largest_share": share, "resident_mib": resident}
        return rows


def sizing(rows: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Returns cores and memory for a day's calls, from the processor time of the row with the most processes."""
    score, observe = (next(row for row in reversed(rows) if row["path"] == path) for path in (SCORE, OBSERVE))
    mean = options.day / 86_400
    cores = {
        name: PEAK * mean * (score[f"{name}_us"] + 2 * observe[f"{name}_us"]) / 1e6 / LOAD
        for name in ("scorer", "proxy")
    }
    processes = max(round(cores["scorer"]), 1)
    numbers = 2 * WEEK * options.day / CALLS_OF_NUMBER
    # A number is in the memory of its own process, and of each process that has one of its contacts.
    copies = 1 + (processes - 1) * (1 - (1 - 1 / processes) ** CONTACTS_OF_NUMBER)
    seen = 2 - 1 / processes  # processes that a call reaches
    return {
        "calls_a_day": options.day, "calls_a_second": mean, "in_the_busiest_hour": PEAK * mean,
        "scorer_cores": cores["scorer"], "proxy_cores": cores["proxy"],
        "tib_of_calls": WEEK * options.day * seen * BYTES_OF_CALL / 2**40,
        "tib_of_numbers": numbers * (BYTES_OF_NUMBER + (copies - 1) * BYTES_OF_CONTACT) / 2**40,
    }  # fmt: skip


if __name__ == "__main__":
    main()
