"""Kamailio with the scorer inside and beside it, under SIPp. Run by hand; no test looks at a clock.

python tests/bench/bench_sip.py [--json] [--seconds 4] [--rates 500,1000,2000]

Needs the packages of `tests/system/test_kamailio.py`. SIPp as callers and as phones shares the cores with the proxy.
A wait is the time from a call's INVITE to its first ringing or its block, in ms.
`scored` is the share of calls that the
scorer judged in time; the others went on without a verdict. `lost` are messages that found a full receive buffer, and
`lost_proxy` those of them that were for the proxy: the others were for SIPp, which then has no core left.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support import kamailio, real_bundle
from tests.system.test_kamailio import POLICY, Service, everything_reached, verdict

TICK = os.sysconf("SC_CLK_TCK")


def used(process: int) -> tuple[float, float]:
    """Processor seconds of a process, and megabytes that it shares with no other."""
    parts = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    resident = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    return (int(parts[11]) + int(parts[12])) / TICK, int(resident[1]) / 1024  # type: ignore[index]


def scored(proxy: kamailio.Kamailio) -> int:
    """Calls that the embedded scorer has judged."""
    time.sleep(1.3)  # it counts once a second
    return int(re.findall(r"scored=(\d+)", proxy.log.read_text(errors="replace"))[-1])


def lost(port: int) -> tuple[int, int]:
    """Messages that found no room since the machine started, and since the proxy at `port` did."""
    names, values = [
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:")
    ]
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    ours = sum(int(row[-1]) for row in rows if int(row[1].rpartition(":")[2], 16) == port)
    return int(values[names.index("RcvbufErrors")]), ours


def figures(found: dict) -> dict[str, float]:
    """What SIPp found, its waits as percentiles."""
    waits = found.pop("waits")
    p50, p99, most = np.percentile(waits, [50, 99, 100]) if len(waits) else (np.nan,) * 3
    share = found["completed"] / max(found["placed"], 1)
    return {**found, "share_completed": share, "wait_p50": p50, "wait_p99": p99, "wait_max": most}


def alone(folder: Path, phones: int, rates: list[int], seconds: float) -> list[dict]:
    """The same proxy, asking nobody: what SIPp, Kamailio and the machine can do at all."""
    script = (kamailio.SCRIPTS / "embedded.cfg").read_text()
    silent = script.replace('python_exec("score");', "return;")
    never = "\n".join(line for line in silent.splitlines() if not re.search("python|rtimer", line))
    (folder / "alone.cfg").write_text(never.replace("if (!t_suspend())", "if (1 == 1)"))
    with kamailio.Kamailio(folder / "alone.cfg", phones, folder, memory=1024) as proxy:
        return [
            figures(kamailio.run_calls(proxy.port, folder, int(rate * seconds), rate)) | {"rate": rate}
            for rate in rates
        ]


def embedded(folder: Path, site: Path, phones: int, rates: list[int], seconds: float, *, block: bool) -> list[dict]:
    """Rates that calls are placed at, and what became of them; `block`: each is answered by the proxy itself."""
    card = everything_reached() if block else None
    settings = kamailio.write_proxy_files(folder, site, POLICY, card, report_every=0.1)
    rows = []
    with kamailio.Kamailio("embedded.cfg", phones, folder, settings=settings, memory=1024) as proxy:
        scorer, known = proxy.scorer(), 0
        for rate in rates:
            (began, _), before = used(scorer), lost(proxy.port)
            row = figures(kamailio.run_calls(proxy.port, folder, int(rate * seconds), rate))
            ended, resident = used(scorer)
            total, after = scored(proxy), lost(proxy.port)
            row |= {"lost": after[0] - before[0], "lost_proxy": after[1] - before[1], "rate": rate}
            row |= {"scored": (total - known) / row["placed"], "scorer_mb": resident}
            row["scorer_us_per_call"] = 1e6 * (ended - began) / max(total - known, 1)
            known = total
            rows.append(row)
    return rows


def embedded_faults(folder: Path, site: Path, phones: int, rate: int, seconds: float) -> dict[str, dict]:
    """The scorer stopped as a whole, a script and a bundle taken up under traffic, and no bundle at all."""
    settings = kamailio.write_proxy_files(folder, site, POLICY, report_every=0.1)
    place = lambda: figures(kamailio.run_calls(proxy.port, folder, int(rate * seconds), rate))
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


def beside(folder: Path, phones: int, rates: list[int], seconds: float) -> list[dict]:
    """The same over HTTP, to a service of the standard library that answers "pass"."""
    service = Service(lambda _: verdict("pass"))
    rows = []
    with kamailio.Kamailio("http.cfg", phones, folder, memory=1024, SCORER=f'"{service.url}"') as proxy:
        for rate in rates:
            before = len(service.attempts)
            row = figures(kamailio.run_calls(proxy.port, folder, int(rate * seconds), rate))
            rows.append(row | {"rate": rate, "asked": (len(service.attempts) - before) / row["placed"]})
    service.close()
    return rows


def beside_faults(folder: Path, phones: int, rate: int, seconds: float) -> dict[str, dict]:
    """The service killed and started again while calls come in, and one that takes calls and never answers."""
    rows = {}
    service = Service(lambda _: verdict("pass"))
    with kamailio.Kamailio("http.cfg", phones, folder, memory=1024, SCORER=f'"{service.url}"') as proxy:
        place = lambda: figures(kamailio.run_calls(proxy.port, folder, int(rate * seconds), rate))
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
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="500,1000,2000,3000")
    parser.add_argument("--block-rates", default="1000,3000,5000,7000")
    parser.add_argument("--http-rates", default="200,500,1000")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates, block_rates, http_rates = ([int(rate) for rate in text.split(",")] for text in
                                      (options.rates, options.block_rates, options.http_rates))  # fmt: skip
    site = kamailio.environment()
    with tempfile.TemporaryDirectory() as root, kamailio.answering_phone() as phones:
        folders = iter(Path(root) / str(number) for number in range(9))

        def folder() -> Path:
            made = next(folders)
            made.mkdir()
            return made

        found = {
            "cores": os.cpu_count(),
            "alone": alone(folder(), phones, rates, options.seconds),
            "embedded, relayed": embedded(folder(), site, phones, rates, options.seconds, block=False),
            "embedded, blocked": embedded(folder(), site, phones, block_rates, options.seconds, block=True),
            "embedded, faults": embedded_faults(folder(), site, phones, 500, options.seconds),
            "http": beside(folder(), phones, http_rates, options.seconds),
            "http, faults": beside_faults(folder(), phones, 300, options.seconds),
        }
    if options.json:
        print(json.dumps(found))
        return
    for name, rows in found.items():
        print(name if isinstance(rows, list | dict) else f"{name}: {rows}")
        for key, row in rows.items() if isinstance(rows, dict) else enumerate(rows) if isinstance(rows, list) else ():
            shown = "  ".join(f"{what} {value:,.4g}" for what, value in row.items())
            print(f"  {key if isinstance(key, str) else ''}  {shown}")


if __name__ == "__main__":
    main()
