"""How soon a person's decision is heard by a running scorer: from the decision to the first call that passes.

python tests/bench/bench_unlist.py [--rounds 30] [--json]

A service over HTTP in a process of its own, and the store of cases in SQLite. Each round: a call is blocked, its caller
appeals, the clock starts, a person overturns, the scorer's file is written as the case service writes it before it
answers, and the same call is asked for until it passes; then the caller is listed again. Seconds. No test looks at a
clock.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from callsieve.serving.cases.case_rules import read_case_rules
from callsieve.serving.cases.feed import import_verdicts, publish_cleared
from callsieve.serving.cases.store import CaseError, CaseStore
from tests.support import http_service, real_bundle
from tests.support.waiting import wait_until


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        took = measured(Path(folder), given.rounds)
    facts = {"rounds": len(took), "median": statistics.median(took), "most": max(took)}
    print(json.dumps(facts) if given.json else f"{facts['median']:.2f} s, at most {facts['most']:.2f} s of {len(took)}")


def measured(folder: Path, rounds: int) -> list[float]:
    key = http_service.write_service_files(folder, policy='certified = "block"\nwatch = "label"\n')["all"]
    took = []
    with http_service.ServiceProcess(folder) as service:

        def action(call: object) -> dict[str, str]:
            names = ("start", "caller", "callee", "attestation")
            body = json.dumps({name: getattr(call, name) for name in names}).encode()
            code, answer = service.post("/v1/score", body, key)
            assert code == 200, answer
            return json.loads(answer)

        blocked = [(one, said["case"]) for one in real_bundle.calls(120) if (said := action(one))["action"] == "block"]
        store, state = CaseStore(f"sqlite:///{folder}/cases.db", unhurried()), folder / "state"
        one, case = blocked[0]
        wait_until(lambda: import_verdicts(store, state) or known(store, case))
        for _ in range(rounds):
            now = round(time.time() * 1000)
            store.appeal(case, "other", "", now)
            began = time.perf_counter()
            store.decide(case, "overturned", "reviewer-1", "a courier", now)
            publish_cleared(store, state, now)
            wait_until(lambda: action(one)["action"] == "pass")
            took.append(time.perf_counter() - began)
            store.end_clearance(case, "reviewer-1", "the next round", round(time.time() * 1000))
            publish_cleared(store, state, now)
            wait_until(lambda: action(one)["action"] == "block")
        store.close()
    return took


def unhurried():
    """The shipped rules, but a number may appeal as often as it likes, and is no crowd."""
    return replace(read_case_rules(), per_number=1_000_000, crowd=1_000_000)


def known(store: CaseStore, case: str) -> bool:
    try:
        store.find(case, 0)
    except CaseError:
        return False
    return True


if __name__ == "__main__":
    main()
