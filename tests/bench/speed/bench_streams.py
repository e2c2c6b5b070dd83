"""Measures a consumer of Redis Streams with the shipped model, in one partition. Run by hand.

python -m tests.bench.speed.bench_streams [--calls 10000] [--json]
python -m tests.bench.speed.bench_streams --killed 60 [--rate 2000]

Needs Debian's package redis-server, which shares the cores. A call is two events: it rings, and it is over.

With --killed, three processes read some seconds of events at a rate, with the model of tests. After a third of the time
one is killed (kill -9). The figures are events lost and counted twice, and verdicts that differ from one process's.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from callsieve.features import Intake
from callsieve.serving import Swap, read_public_key
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_SIGNER
from callsieve.serving.live.live import Live
from callsieve.serving.streams.consumer import DEADLINE, StreamConsumer
from callsieve.serving.streams.redis_source import RedisSource
from tests.bench.harness import parser_of, show
from tests.support import live_states, real_bundle
from tests.support.http_service import call_to_json, write_service_files
from tests.support.servers.streams import PARTITIONS, RedisStreams
from tests.system.test_streams import journal_positions, messages_of, run_all

CHUNK = 1_000  # messages of one write


def main() -> None:
    """Prints the processor time of an event, the rate, and the seconds until another process has the partition."""
    options = parser_of(__doc__, calls=10_000, json=False, killed=0, rate=2_000).parse_args()
    if options.killed:
        show(killed(options.killed, options.rate), as_json=options.json)
        return
    timeline = live_states.events(real_bundle.calls(options.calls))
    bodies = [call_to_json(call if kind else live_states.attempt_of(call)) for kind, call in timeline]
    with tempfile.TemporaryDirectory() as place, RedisStreams(place) as server:
        for begin in range(0, len(bodies), CHUNK):
            server.send("calls", [(0, str(at), body) for at, body in enumerate(bodies[begin : begin + CHUNK], begin)])
        report = {"load_before": os.getloadavg()[0], "events": len(bodies), **consumed(server, Path(place) / "state")}
        report["taken_over_s"] = taken_over(server, Path(place) / "state")
    show(report, as_json=options.json)


def consumer_of(server: RedisStreams, state: Path) -> StreamConsumer:
    """Returns a consumer with the shipped model."""

    def open_live(folder: Path) -> Live:
        swap = Swap(trusted=[read_public_key(SHIPPED_SIGNER)])
        swap.load(SHIPPED_BUNDLE)
        return Live(swap, Intake(real_bundle.NUMBER_KEY), folder, deadline=DEADLINE, by_commit=True)

    source = RedisSource(f"redis://127.0.0.1:{server.port}", "calls", "verdicts", 1)
    return StreamConsumer(source, open_live, state)


def consumed(server: RedisStreams, state: Path) -> dict[str, Any]:
    """Returns the processor time of an event in µs, and events a second."""
    consumer = consumer_of(server, state)
    consumer.step()
    began, used = time.perf_counter(), time.process_time()
    consumer.run(lambda: server.committed("calls", 1) == [True])
    seconds, work = time.perf_counter() - began, time.process_time() - used
    events = sum(path.read_bytes().count(b"@") for path in (state / "partition-0").glob("calls-*.log"))
    return {"event_us": 1e6 * work / events, "events_a_second": events / seconds}


def taken_over(server: RedisStreams, state: Path) -> float:
    """Returns the seconds until a new process of the same state reads its first event."""
    began = time.perf_counter()
    consumer = consumer_of(server, state)
    consumer.step()
    consumer.step()
    seconds = time.perf_counter() - began
    consumer.run(lambda: True)
    return seconds


def killed(seconds: int, rate: int) -> dict[str, Any]:
    """Returns what a killed process loses, doubles or changes, and the seconds that the events took."""
    calls = real_bundle.calls(seconds * rate * 2 // 5, seed=11)  # a call is about two and a half messages
    first = calls[0].start
    messages = messages_of([replace(call, start=round(first + (call.start - first) / 20, 3)) for call in calls])
    report: dict[str, Any] = {"load_before": os.getloadavg()[0], "events": len(messages)}
    with tempfile.TemporaryDirectory() as place, RedisStreams(place) as server:
        folder = Path(place)
        write_service_files(folder)
        began = time.perf_counter()
        shared = run_all(
            folder, folder / "shared", server, ("calls", "verdicts"), messages=messages, rate=rate, kill=True
        )
        report["seconds"] = time.perf_counter() - began
        alone = run_all(folder, folder / "alone", server, ("calls2", "verdicts2"), messages=messages)
        state = folder / "shared"
        positions = [(number, at) for number in range(PARTITIONS) for at in journal_positions(state, number)]
    different = sum(shared.get(key) != verdict for key, verdict in alone.items())
    lost, doubled = len(messages) - len(set(positions)), len(positions) - len(set(positions))
    return report | {"lost": lost, "doubled": doubled, "verdicts": len(alone), "different_verdicts": different}


if __name__ == "__main__":
    main()
