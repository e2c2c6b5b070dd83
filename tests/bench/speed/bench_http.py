"""Measures the HTTP service under load, and an endpoint that does nothing, in one run. Run by hand.

python -m tests.bench.speed.bench_http [--connections 1,16,64] [--seconds 5] [--warm 15] [--numbers 20000]
    [--deadline 20] [--json]

Needs Debian's package wrk. The server runs on the first core and wrk on the second. All servers are uvicorn as in
`serving/http/server.py`, the empty one with httptools, as the service, and with h11. One caller in a hundred makes
half of the calls. The shipped model scores them, under a policy without actions, because other verdicts than "pass"
also have reasons. In the last row the deadline is 1 ms and nearly all calls are shed; the few others
are taken to cost as much as a call in the row before.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_SIGNER
from tests.bench.harness import parser_of, processor_seconds, run_wrk, show
from tests.support import http_service

SHEDDING = 300  # connections
SCRIPT = """
math.randomseed({seed})
local start = {start}
request = function()
  start = start + 0.001
  local caller = math.random() < 0.5 and math.random(0, {numbers} / 100) or math.random(0, {numbers})
  local form = '{{"start":%.3f,"caller":"+86%d","callee":"+86%d","attestation":"none","trunk":"192.0.2.%d"}}'
  local body = string.format(form, start, 13800000000 + caller, 13900000000 + math.random(0, {numbers}), caller % 20)
  return wrk.format("POST", "{path}", {{["Authorization"] = "Bearer {key}"}}, body)
end
"""
EMPTY = """
import sys
from starlette.applications import Starlette
from starlette.routing import Route
import uvicorn
class Empty:
    async def __call__(self, scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})
app = Starlette(routes=[Route("/v1/score", Empty(), methods=["POST"])])
options = {"http": sys.argv[2], "ws": "none", "access_log": False, "log_level": "warning"}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), **options)
"""


def main() -> None:
    """Prints the figures."""
    parser = parser_of(__doc__, connections="1,16,64", seconds=5, numbers=20_000, seed=0, json=False)
    parser.add_argument("--warm", type=int, default=15, help="seconds of load before the clock starts")
    parser.add_argument("--deadline", type=int, default=20, help="milliseconds; calls that wait longer are not scored")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = run(Path(place), options)
    show(rows, as_json=options.json)


def run(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for each server and number of connections."""
    keys = http_service.write_service_files(folder / "service", "")
    shutil.copytree(SHIPPED_BUNDLE, folder / "service" / "bundle", dirs_exist_ok=True)
    shutil.copy(SHIPPED_SIGNER, folder / "service" / "signer.pub")
    connections = [int(count) for count in options.connections.split(",")]
    rows = []
    port, start = http_service.free_port(), time.time() - 3000

    def load(process: int, port: int, connections: int, seconds: int) -> dict[str, Any]:
        nonlocal start
        script = folder / "score.lua"
        facts = {"seed": options.seed, "start": f"{start:.3f}", "numbers": options.numbers}
        script.write_text(SCRIPT.format(path="/v1/score", key=keys["all"], **facts))
        row, requests = measured(script, process, port, connections, seconds)
        start += requests / 1000 + 1  # the calls of the next load start after these
        return row

    for parser in ("httptools", "h11"):
        words = ["/usr/bin/taskset", "-c", "0", sys.executable, "-c", EMPTY, str(port), parser]
        empty = subprocess.Popen(words)
        try:
            time.sleep(2)
            for count in connections:
                rows.append({"server": f"empty, {parser}"} | load(empty.pid, port, count, options.seconds))
        finally:
            empty.terminate()
            empty.wait()

    def serve(deadline: int, warm: int, connections: list[int]) -> None:
        limits = ("--deadline", deadline, "--max-calls", 2_000_000, "--max-numbers", 200_000)
        pinned = ("/usr/bin/taskset", "-c", "0")
        with http_service.ServiceProcess(folder / "service", *limits, wrapped=pinned) as service:
            pid = service.process.pid
            load(pid, service.port, 16, warm)
            for count in connections:
                rows.append(of_service(service, pid, count))

    def of_service(service: http_service.ServiceProcess, pid: int, count: int) -> dict[str, Any]:
        before = service.status(keys["all"])
        row = {"server": "callsieve"} | load(pid, service.port, count, options.seconds)
        after = service.status(keys["all"])
        row |= {name: after["counts"][name] - before["counts"][name] for name in ("shed", "late")}
        return row | {"passed": after["actions"].get("pass", 0) - before["actions"].get("pass", 0)}

    serve(options.deadline, options.warm, connections)
    scored = rows[-1]["processor_us"]
    serve(1, 2, [SHEDDING])
    shed = rows[-1]["shed"] / rows[-1]["passed"]
    rows[-1] |= {"server": "callsieve, shedding", "shed_us": (rows[-1]["processor_us"] - (1 - shed) * scored) / shed}
    return rows


def measured(script: Path, process: int, port: int, connections: int, seconds: int) -> tuple[dict[str, Any], int]:
    """Runs wrk; returns its rates and latencies with the server's processor time per request, and the requests."""
    began = processor_seconds(process)
    row = run_wrk(script, f"http://127.0.0.1:{port}", connections, seconds, before=("/usr/bin/taskset", "-c", "1"))
    requests = row.pop("requests")
    return {
        "connections": connections,
        "processor_us": 1e6 * (processor_seconds(process) - began) / requests,
    } | row, requests


if __name__ == "__main__":
    main()
