"""Measures Kamailio with an embedded scorer and an HTTP service, under SIPp. Run by hand; no test looks at a clock.

python -m tests.bench.speed.bench_sip [--json] [--seconds 4] [--rates 500,1000,2000]

Needs the packages of `tests/system/test_kamailio.py`. SIPp as callers and as phones shares the cores with the proxy. A
wait is the time in ms from a call's INVITE to its first ringing or its block. `scored` is the share of calls that the
scorer judged in time; the others passed without a verdict. `lost` counts messages dropped at a full receive buffer, and
`lost_proxy` those for the proxy; the others were for SIPp, which then lacks a core.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from tests.bench.harness import memory, parser_of, processor_seconds, show
from tests.support import real_bundle
from tests.support.servers import kamailio
from tests.system.test_kamailio import POLICY, Service, everything_reached, verdict


def scored(proxy: kamailio.Kamailio) -> int:
    """Returns the calls that the embedded scorer has judged."""
    time.sleep(1.3)  # the scorer logs the count once a second
    return int(re.findall(r"attempts=(\d+)", proxy.log.read_text(errors="replace"))[-1])


def lost(port: int) -> tuple[int, int]:
    """Returns the dropped messages of the machine since its start, and of the proxy at `port`."""
    lines = Path("/proc/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    ours = sum(int(row[-1]) for row in rows if int(row[1].rpartition(":")[2], 16) == port)
    return int(values[names.index("RcvbufErrors")]), ours


def placed(proxy: kamailio.Kamailio, rate: int, seconds: float) -> dict[str, float]:
    """Places calls at a rate for some seconds; returns the figures of SIPp, with waits as percentiles."""
    load = kamailio.run_calls(proxy.port, proxy.folder, int(rate * seconds), rate)
    waits = load.pop("waits")
    p50, p99, most = np.percentile(waits, [50, 99, 100]) if len(waits) else (np.nan,) * 3
    share = load["completed"] / max(load["placed"], 1)
    return {"rate": rate, **load, "share_completed": share, "wait_p50": p50, "wait_p99": p99, "wait_max": most}


def alone(folder: Path, phones: int, rates: list[int], seconds: float) -> list[dict]:
    """Returns the figures of the proxy without a scorer: the limit of SIPp, Kamailio and the machine."""
    script = (kamailio.SCRIPTS / "embedded.cfg").read_text()
    silent = script.replace('python_exec("score");', "return;")
    never = "\n".join(line for line in silent.splitlines() if not re.search("python|rtimer", line))
    (folder / "alone.cfg").write_text(never.replace("if (!t_suspend())", "if (1 == 1)"))
    with kamailio.Kamailio(folder / "alone.cfg", phones, folder, memory=1024) as proxy:
        return [placed(proxy, rate, seconds) for rate in rates]


def embedded(folder: Path, site: Path, phones: int, rates: list[int], seconds: float, *, block: bool) -> list[dict]:
    """Returns the figures at each rate; with `block`, the proxy rejects every call."""
    card = everything_reached() if block else None
    settings = kamailio.write_proxy_files(folder, site, POLICY, card, report_every=0.1)
    rows = []
    with kamailio.Kamailio("embedded.cfg", phones, folder, settings=settings, memory=1024) as proxy:
        scorer, total = proxy.scorer(), 0
        for rate in rates:
            began, before, scored_before = processor_seconds(scorer), lost(proxy.port), total
            row = placed(proxy, rate, seconds)
            used, resident = processor_seconds(scorer) - began, memory("RssAnon", scorer)
            total, after = scored(proxy), lost(proxy.port)
            row |= {"lost": after[0] - before[0], "lost_proxy": after[1] - before[1]}
            row |= {"scored": (total - scored_before) / row["placed"], "scorer_mb": resident}
            rows.append(row | {"scorer_us_per_call": 1e6 * used / max(total - scored_before, 1)})
    return rows


def embedded_faults(folder: Path, site: Path, phones: int, rate: int, seconds: float) -> dict[str, dict]:
    """Returns the figures of a stopped scorer, of a script and a bundle reloaded under load, and without a bundle."""
    settings = kamailio.write_proxy_files(folder, site, POLICY, report_every=0.1)
    place = lambda: placed(proxy, rate, seconds)
    rows = {}
    with kamailio.Kamailio("embedded.cfg", phones, folder, settings=settings, memory=1024) as proxy:
        rows["well"] = place()
        scorer = proxy.scorer()
        os.kill(scorer, signal.SIGSTOP)
        rows["hung"] = place()
        os.kill(scorer, signal.SIGCONT)

        def reload() -> None:
            proxy.rpc("app_python.reload")
            real_bundle.write_bundle(folder / "next")
            (folder / "bundle").rename(folder / "old")
            (folder / "next").rename(folder / "bundle")

        timer = threading.Timer(seconds / 2, reload)
        timer.start()
        rows["reloading"] = place()
        timer.join()
        proxy.wait_for("is in service now")
    (folder / "bundle").rename(folder / "gone")
    with kamailio.Kamailio("embedded.cfg", phones, folder, settings=settings, memory=1024) as proxy:
        rows["no bundle"] = place()
    return rows


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


def main() -> None:
    """Prints the figures."""
    lists = {"rates": "500,1000,2000,3000", "block_rates": "1000,3000,5000,7000", "http_rates": "200,500,1000"}
    options = parser_of(__doc__, **lists, seconds=4.0, json=False).parse_args()
    rates, block_rates, http_rates = ([int(rate) for rate in getattr(options, name).split(",")] for name in lists)
    site = kamailio.environment()
    with tempfile.TemporaryDirectory() as root, kamailio.answering_phone() as phones:
        folders = iter(Path(root) / str(number) for number in range(9))

        def folder() -> Path:
            path = next(folders)
            path.mkdir()
            return path

        report = {
            "cores": os.cpu_count(),
            "alone": alone(folder(), phones, rates, options.seconds),
            "embedded, relayed": embedded(folder(), site, phones, rates, options.seconds, block=False),
            "embedded, blocked": embedded(folder(), site, phones, block_rates, options.seconds, block=True),
            "embedded, faults": embedded_faults(folder(), site, phones, 500, options.seconds),
            "http": with_service(folder(), phones, http_rates, options.seconds),
            "http, faults": with_service_faults(folder(), phones, 300, options.seconds),
        }
    show(report, as_json=options.json)


if __name__ == "__main__":
    main()
