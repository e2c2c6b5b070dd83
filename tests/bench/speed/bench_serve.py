"""Measures a live verdict of the shipped model in process, and the model alone.

python -m tests.bench.speed.bench_serve [--numbers 20000] [--calls 200000] [--measured 5000] [--seed 0] [--json]

Calls of seven days are observed with their records. Then the next calls are timed one at a time, as they ring: keyed,
vector, rules, score, policy, observed, written to the journal. As many more are timed as a host does it that embeds the
scorer, without journal and lock: `Intake`, `score` and `observe`. The policy takes no action, because reasons take
extra time. Microseconds of wall clock, garbage collection as in the service. On the same rows the model alone is timed:
by us, by LightGBM, and by ONNX Runtime. For a million numbers in memory: --numbers 1000000 --calls 2000000. Run by
hand, on a machine without other load.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from callsieve.features.intake.intake import Intake
from callsieve.features.online.feeds import COMPLETE
from callsieve.features.online.history import History
from callsieve.features.records import OUTCOMES, Call
from callsieve.serving.bundle.bundle import Bundle
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_SIGNER
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.live.gc_pauses import shorten_pauses
from callsieve.serving.live.live import Live
from callsieve.serving.live.memory import Limits
from callsieve.serving.live.swap import Swap
from callsieve.serving.rules.policy import Policy
from callsieve.training.model.trees import trees_of
from callsieve.training.tracking.onnx_export import as_onnx
from tests.bench.harness import parser_of, show
from tests.support import real_bundle

from .bench_live import summary

WEEK = 7 * 86_400
BENCH = Policy("bench", {}, appeal="-", history_days=0)


def main() -> None:
    """Prints the figures."""
    parser = parser_of(__doc__, numbers=20_000, measured=5_000, seed=0, json=False)
    parser.add_argument("--calls", type=int, default=200_000, help="in memory before the clock starts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder)
        report = costs(folder, options)
    show(report, as_json=options.json)


def write(folder: Path) -> None:
    """Copies the shipped bundle, and writes a key."""
    shutil.copytree(SHIPPED_BUNDLE, folder / "bundle")
    shutil.copy(SHIPPED_SIGNER, folder / "signer.pub")
    real_bundle.NUMBER_KEY.write(folder / "number.key")


def draw_calls(count: int, numbers: int, seed: int) -> Iterator[Call]:
    """Yields calls with their outcome in order of start; one number in a hundred makes half of them."""
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.integers(0, WEEK * 1000, count)) / 1000 + real_bundle.START
    busy = rng.random(count) < 0.5
    few, all_numbers = rng.integers(0, max(numbers // 100, 1), count), rng.integers(0, numbers, count)
    callers = 13_800_000_000 + np.where(busy, few, all_numbers)
    callees = 13_800_000_000 + rng.integers(0, numbers, count)
    talks = np.where(rng.random(count) < 0.5, rng.exponential(60, count).round(), 0.0)
    rows = zip(starts.tolist(), callers.tolist(), callees.tolist(), talks.tolist(), strict=True)
    for start, caller, callee, talk in rows:
        outcome = OUTCOMES[0] if talk else OUTCOMES[1]
        yield Call(start, str(caller), str(callee), 5.0, talk, outcome, "callee", trunk=f"t{caller % 20}")


def costs(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the microseconds of a live verdict, and of the model alone on the same rows."""
    import lightgbm

    judge = Swap(trusted=[read_public_key(folder / "signer.pub")], policy=BENCH)
    scorer = judge.load(folder / "bundle")
    drawn_in_all = options.calls + 2 * options.measured
    limits = Limits(max(2_000_000, drawn_in_all), max(200_000, 2 * options.numbers))
    intake = Intake(real_bundle.NUMBER_KEY, cached=limits.numbers)  # as the service does
    live = Live(judge, intake, folder / "state", deadline=60, limits=limits)
    calls = draw_calls(drawn_in_all, options.numbers, options.seed)
    for _, call in zip(range(options.calls), calls, strict=False):
        live.memory.history.vector(keyed := intake(call))
        live.memory.history.observe(keyed)
    shorten_pauses()  # as the service does
    rows: list[array[float]] = []
    ringing = [Call(call.start, call.caller, call.callee, trunk=call.trunk) for call in calls]
    whole, parts = ringing[: options.measured], ringing[options.measured :]
    figures = {
        "live: call to verdict, taken in": timed(live.attempt, whole, lambda: rows.append(recent_row(live))),
        "embedded: call to verdict, taken in": timed(partial(judged, judge, intake, live.memory.history), parts),
    }
    booster = lightgbm.Booster(model_file=folder / "bundle" / "model.txt")
    inputs = [scorer.model_input.row(row, COMPLETE) for row in rows]
    arrays = [np.array([row]) for row in inputs]
    figures["the model alone"] = timed(scorer.bundle.model.predict_one, inputs)
    figures["lightgbm.Booster.predict"] = timed(lambda row: booster.predict(row, num_threads=1), arrays)
    figures["ONNX Runtime, one row"] = timed(onnx(folder, scorer.bundle), arrays)
    live.close()
    return {"trees": booster.num_trees(), "cost_us": figures, "late": live.counts["late"]}


def recent_row(live: Live) -> array[float]:
    """Returns the vector of the last call."""
    return array("d", next(reversed(live._recent.values()))[1])


def judged(scorer: Swap, intake: Intake, history: History, call: Call) -> None:
    """Scores a call and observes it."""
    keyed = intake(call)
    scorer.score(history, keyed)
    history.observe(keyed)


Work, After = Callable[[Any], object], Callable[[], object]


def timed(work: Work, arguments: Iterable[Any], after: After = lambda: None) -> dict[str, float]:
    """Returns percentiles of the microseconds of `work` for each argument; `after` runs between, not timed."""
    clock, spent = time.perf_counter_ns, []
    for argument in arguments:
        began = clock()
        work(argument)
        spent.append(clock() - began)
        after()
    return summary(np.array(spent[len(spent) // 10 :]) / 1000)


def onnx(folder: Path, bundle: Bundle) -> Callable[[Any], object]:
    """Returns the model as a function of ONNX Runtime on one thread, as on a handset."""
    import onnxruntime

    trees = trees_of((folder / "bundle" / "model.txt").read_text())
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    data = as_onnx(bundle, trees).SerializeToString()
    session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    return lambda row: session.run(["raw"], {"features": row})


if __name__ == "__main__":
    main()
