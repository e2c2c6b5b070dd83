"""The service under load: verdicts over HTTP beside an endpoint that does nothing, in one run. Run by hand.

python tests/bench/bench_http.py [--connections 1,16] [--seconds 5] [--warm 15] [--numbers 20000] [--interpreted]
    [--json]

Needs Debian's package wrk. The server has the first core for itself and wrk the second one; both servers are uvicorn
as `serving/http/server.py` sets it up. Half of the calls are of one caller in a hundred. The
small model of the tests, with a threshold that no call
reaches: a verdict other than "pass" also has reasons, see bench_reasons.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from callsieve.serving.bundle.metadata import Band

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support import http_service
from tests.support import small_bundle as small

THRESHOLDS = (Band("certified", 50.0, small.certificate(), {}),)
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
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
options = {"http": "h11", "ws": "none", "access_log": False, "log_level": "warning"}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), **options)
"""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", default="1,16")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--warm", type=int, default=15, help="seconds of load before the clock starts")
    parser.add_argument("--numbers", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--interpreted", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = run(Path(place), options)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(
            "  ".join(
                f"{name} {value:,.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )


def run(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each server and number of connections."""
    keys = http_service.write_service_files(folder / "service", 'certified = "block"\n', thresholds=THRESHOLDS)
    connections = [int(count) for count in options.connections.split(",")]
    rows = []
    port, clock = http_service.free_port(), Clock()
    empty = subprocess.Popen(["/usr/bin/taskset", "-c", "0", sys.executable, "-c", EMPTY, str(port)])
    try:
        time.sleep(2)
        for count in connections:
            asked = load(folder, empty.pid, port, keys["all"], count, options.seconds, options, clock)
            rows.append({"server": "empty"} | asked)
    finally:
        empty.terminate()
        empty.wait()
    compiled = "--no-compiled" if options.interpreted else "--compiled"
    given = (compiled, "--deadline", 20, "--max-calls", 2_000_000, "--max-numbers", 200_000)
    with http_service.ServiceProcess(folder / "service", *given, wrapped=("/usr/bin/taskset", "-c", "0")) as service:
        load(folder, service.process.pid, service.port, keys["all"], 16, options.warm, options, clock)
        for count in connections:
            before = service.status(keys["all"])
            row = {"server": "callsieve"} | load(
                folder, service.process.pid, service.port, keys["all"], count, options.seconds, options, clock
            )
            after = service.status(keys["all"])
            row |= {name: after["counts"][name] - before["counts"][name] for name in ("shed", "late", "faults")}
            row |= {"passed": after["actions"].get("pass", 0) - before["actions"].get("pass", 0)}
            status = Path(f"/proc/{service.process.pid}/status").read_text()
            row |= {"calls_held": int(after["state"]["history_calls"])}
            rows.append(row | {"resident_mb": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024})  # type: ignore[index]
    return rows


class Clock:
    """Where the calls of one load begin: after those of the last one, as calls that ring do."""

    def __init__(self) -> None:
        self.start = time.time() - 3000


def load(
    folder: Path, process: int, port: int, key: str, connections: int, seconds: int, options: argparse.Namespace,
    clock: Clock,
) -> dict[str, Any]:  # fmt: skip
    """What wrk found: requests a second, and milliseconds; and the server's processor time for each request."""
    script = folder / "score.lua"
    filled = {"seed": options.seed, "start": f"{clock.start:.3f}", "numbers": options.numbers}
    script.write_text(SCRIPT.format(path="/v1/score", key=key, **filled))
    command = [
        "/usr/bin/taskset",
        "-c",
        "1",
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        script,
    ]
    began = processor(process)
    told = subprocess.run(
        [*map(str, command), f"http://127.0.0.1:{port}"], check=True, capture_output=True, text=True
    ).stdout
    found = {share: float(value) * UNITS[unit] for share, value, unit in re.findall(r"(\d+)% +([\d.]+)(us|ms|s)", told)}
    used = processor(process) - began
    asked = int(re.search(r"(\d+) requests in", told)[1])  # type: ignore[index]
    clock.start += asked / 1000 + 1
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    return {
        "connections": connections,
        "per_second": float(re.search(r"Requests/sec: +([\d.]+)", told)[1]),  # type: ignore[index]
        "processor_us": 1e6 * used / asked,
        "p50_ms": found["50"],
        "p99_ms": found["99"],
        "failed": int(failed[1]) if failed else 0,
    }


def processor(process: int) -> float:
    """Processor seconds of a process."""
    parts = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
