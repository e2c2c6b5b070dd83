"""Measures Kamailio with an HTTP service, under SIPp. Run by hand; no test looks at a clock.

python -m tests.bench.speed.bench_sip [--json] [--seconds 4] [--rates 500,1000,2000]
python -m tests.bench.speed.bench_sip --tapped 5000

Needs the packages of `tests/system/test_kamailio.py`. SIPp as callers and as phones shares the cores with the proxy. A
wait is the time in ms from a call's INVITE to its first ringing or its block. `asked` is the share of calls for which
the service was asked. With --tapped, the calls also reach a tap as copies: the figures are calls whose facts and ends
agree with those of the HTTP requests, and calls whose verdicts are equal.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from tests.bench.harness import parser_of, show
from tests.support.servers import kamailio
from tests.system import test_tap
from tests.system.test_kamailio import Service, verdict

TAPPED_RATE = 50  # calls a second


def placed(proxy: kamailio.Kamailio, rate: int, seconds: float) -> dict[str, float]:
    """Places calls at a rate for some seconds; returns the figures of SIPp, with waits as percentiles."""
    load = kamailio.run_calls(proxy.port, proxy.folder, int(rate * seconds), rate)
    waits = load.pop("waits")
    p50, p99, most = np.percentile(waits, [50, 99, 100]) if len(waits) else (np.nan,) * 3
    share = load["completed"] / max(load["placed"], 1)
    return {"rate": rate, **load, "share_completed": share, "wait_p50": p50, "wait_p99": p99, "wait_max": most}


def alone(folder: Path, phones: int, rates: list[int], seconds: float) -> list[dict]:
    """Returns the figures of the proxy without a scorer: the limit of SIPp, Kamailio and the machine."""
    script, query = (kamailio.SCRIPTS / "http.cfg").read_text(), "	if ($sht(breaker=>until) > $avp(start)) {"
    (folder / "alone.cfg").write_text(script.replace(query, "	if (1 == 1) {").replace("route(REPORT);", ""))
    with kamailio.Kamailio(folder / "alone.cfg", phones, folder, memory=1024) as proxy:
        return [placed(proxy, rate, seconds) for rate in rates]


def with_service(folder: Path, phones: int, rates: list[int], seconds: float) -> list[dict]:
    """Returns the figures with an HTTP service of the standard library that answers "pass"."""
    service = Service(lambda _: verdict("pass"))
    rows = []
    with kamailio.Kamailio("http.cfg", phones, folder, memory=1024, SCORER=f'"{service.url}"') as proxy:
        for rate in rates:
            before = len(service.attempts)
            row = placed(proxy, rate, seconds)
            rows.append(row | {"asked": (len(service.attempts) - before) / row["placed"]})
    service.close()
    return rows


def with_service_faults(folder: Path, phones: int, rate: int, seconds: float) -> dict[str, dict]:
    """Returns the figures of a service that is killed under load, and of one that answers too late."""
    rows = {}
    service = Service(lambda _: verdict("pass"))
    with kamailio.Kamailio("http.cfg", phones, folder, memory=1024, SCORER=f'"{service.url}"') as proxy:
        place = lambda: placed(proxy, rate, seconds)
        service.answer = lambda _: time.sleep(3) or verdict("pass")
        rows["hung"] = place()
        service.answer = lambda _: verdict("pass")
        timer = threading.Timer(seconds / 2, service.close)
        timer.start()
        rows["killed"] = place()
        timer.join()
        rows["dead"] = place()
    return rows


def with_tap(calls: int) -> dict[str, float]:
    """Returns how many of the calls that Kamailio places agree between a tap and the HTTP requests."""
    with tempfile.TemporaryDirectory() as root:
        service, tap, placed = test_tap.tapped(Path(root), calls, TAPPED_RATE)
        agreeing, equal, _ = test_tap.compared(Path(root), service, tap)
    return {"placed": placed, "agreeing": agreeing, "equal_verdicts": equal}


def main() -> None:
    """Prints the figures."""
    lists = {"rates": "500,1000,2000,3000", "http_rates": "200,500,1000"}
    options = parser_of(__doc__, **lists, seconds=4.0, json=False, tapped=0).parse_args()
    if options.tapped:
        show(with_tap(options.tapped), as_json=options.json)
        return
    rates, http_rates = ([int(rate) for rate in getattr(options, name).split(",")] for name in lists)
    with tempfile.TemporaryDirectory() as root, kamailio.answering_phone() as phones:
        folders = iter(Path(root) / str(number) for number in range(9))

        def folder() -> Path:
            path = next(folders)
            path.mkdir()
            return path

        report = {
            "cores": os.cpu_count(),
            "alone": alone(folder(), phones, rates, options.seconds),
            "http": with_service(folder(), phones, http_rates, options.seconds),
            "http, faults": with_service_faults(folder(), phones, 300, options.seconds),
        }
    show(report, as_json=options.json)


if __name__ == "__main__":
    main()
