"""Measures the time from a reviewer's decision to the first call that the running scorer passes.

python tests/bench/bench_unlist.py [--rounds 30] [--json]

The HTTP service is a separate process; the case store is in SQLite. In each round a call is blocked and its caller
appeals. Then the clock starts: the reviewer overturns, the scorer's file is written as the case service writes it, and
the same call is sent until it passes. Then the clearance ends. Prints seconds. No test looks at a clock.
"""

import json
import statistics
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness import parser_of

from callsieve.serving.cases.case_rules import read_case_rules
from callsieve.serving.cases.feed import import_verdicts, publish_cleared
from callsieve.serving.cases.store import CaseError, CaseStore
from tests.support import http_service, real_bundle
from tests.support.waiting import wait_until


def main() -> None:
    options = parser_of(__doc__, rounds=30, json=False).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = measured(Path(folder), options.rounds)
    facts = {"rounds": len(times), "median": statistics.median(times), "most": max(times)}
    text = f"{facts['median']:.2f} s, at most {facts['most']:.2f} s of {len(times)}"
    print(json.dumps(facts) if options.json else text)


def measured(folder: Path, rounds: int) -> list[float]:
    policy, valid = 'certified = "block"\nwatch = "label"\n', "2036-04-01T00:00:00Z"
    key = http_service.write_service_files(folder, policy=policy, valid_until=valid)["all"]
    calls, times = real_bundle.calls(120), []
    shift = time.time() - 60 - calls[-1].start  # cases of calls long ago are not kept
    with http_service.ServiceProcess(folder) as service:

        def answer_to(call: object) -> dict[str, str]:
            names = ("start", "caller", "callee", "attestation")
            body = json.dumps({name: getattr(call, name) for name in names}).encode()
            code, answer = service.post("/v1/score", body, key)
            assert code == 200, answer
            return json.loads(answer)

        answers = [(call, answer_to(call)) for call in (replace(call, start=call.start + shift) for call in calls)]
        call, case = next((call, answer["case"]) for call, answer in answers if answer["action"] == "block")
        # The shipped rules, without limits for the appeals of a number.
        rules = replace(read_case_rules(), max_appeals=1_000_000, large_group=1_000_000)
        store, state = CaseStore(f"sqlite:///{folder}/cases.db", rules), folder / "state"
        wait_until(lambda: is_imported(store, state, case))
        for _ in range(rounds):
            now = round(time.time() * 1000)
            store.appeal(case, "other", "", now)
            began = time.perf_counter()
            store.decide(case, "overturned", "reviewer-1", "a courier", now)
            publish_cleared(store, state, now)
            wait_until(lambda: answer_to(call)["action"] == "pass")
            times.append(time.perf_counter() - began)
            store.end_clearance(case, "reviewer-1", "the next round", round(time.time() * 1000))
            publish_cleared(store, state, now)
            wait_until(lambda: answer_to(call)["action"] == "block")
        store.close()
    return times


def is_imported(store: CaseStore, state: Path, case: str) -> bool:
    import_verdicts(store, state)
    with suppress(CaseError):
        return bool(store.find(case, 0))
    return False


if __name__ == "__main__":
    main()
