"""Measures a live verdict of the shipped model in process, the model alone, and the time from start to first verdict.

python -m tests.bench.speed.bench_serve [--numbers 20000] [--calls 200000] [--measured 5000] [--runs 3]
    [--interpreted] [--seed 0] [--json]

Calls of seven days are observed with their records. Then the next calls are timed one at a time, as they ring: keyed,
vector, rules, score, policy, observed, written to the journal. As many more are timed as a host does it that embeds the
scorer, without journal and lock: `Intake`, `score` and `observe`. The policy takes no action, because reasons take
extra time (bench_forest). Microseconds of wall clock, garbage collection as in the service. On the same rows the model
alone is timed: by us, by LightGBM, by MLflow with a DataFrame, and by ONNX Runtime. For a million numbers in memory:
--numbers 1000000 --calls 2000000. Run by hand, on a machine without other load. bench_install.py measures the size of
the base install.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from callsieve.features.catalogue import NAMES
from callsieve.features.intake.intake import Intake
from callsieve.features.online.feeds import COMPLETE
from callsieve.features.online.history import History
from callsieve.features.records import OUTCOMES, Call
from callsieve.serving.bundle.bundle import Bundle
from callsieve.serving.bundle.model_text import check_structure
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_SIGNER
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.live.gc_pauses import shorten_pauses
from callsieve.serving.live.live import Live
from callsieve.serving.live.memory import Limits
from callsieve.serving.live.swap import Swap
from callsieve.serving.rules.policy import Policy
from callsieve.training.tracking.mlflow_model import POLICY, TRUST, save_model
from callsieve.training.tracking.onnx_export import as_onnx
from tests.bench.harness import memory, parser_of, show
from tests.support import real_bundle

from .bench_live import summary

WEEK = 7 * 86_400
BENCH = Policy("bench", {}, appeal="-", history_days=0)
FIRST = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
{made}
import time
print(1000 * time.time())
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
"""
EMBEDDED = """
from callsieve.features import Call, History, Intake, read_key
from callsieve.serving import Policy, Scorer, read_public_key
scorer = Scorer.load(folder / "bundle", trusted=[read_public_key(folder / "signer.pub")], policy=Policy("bench", {}))
intake = Intake(read_key(folder / "number.key"))
verdict = scorer.score(History(), intake(Call(1772500000.0, "13800138000", "13900139000")))
assert verdict.status == "filling", verdict  # of a history that has just begun
"""
LIVE = """
from callsieve.features import Call, Intake, read_key
from callsieve.serving import Policy, Swap, read_public_key
from callsieve.serving.live.live import Live
swap = Swap(trusted=[read_public_key(folder / "signer.pub")], policy=Policy("bench", {}))
swap.load(folder / "bundle")
live = Live(swap, Intake(read_key(folder / "number.key")), folder / "first", compiled=COMPILED, deadline=60)
verdict = live.attempt(Call(1772500000.0, "13800138000", "13900139000"))
assert verdict.status == "filling", verdict  # of a history that has just begun
live.close()
"""
BOOSTER = """
import lightgbm, numpy
booster = lightgbm.Booster(model_file=folder / "bundle" / "model.txt")
verdict = booster.predict(numpy.zeros((1, booster.num_feature())), num_threads=1)
"""

PYFUNC = """
import os, mlflow.pyfunc, numpy, pandas
from callsieve.training.tracking.mlflow_model import save_model
from callsieve.features.catalogue import NAMES
os.environ |= {"CALLSIEVE_TRUST": str(folder / "signer.pub"), "CALLSIEVE_POLICY": str(folder / "policy.toml")}
if not (folder / "served").exists():
    save_model(folder / "bundle", folder / "served", signer=folder / "signer.pub")
row = pandas.DataFrame(numpy.zeros((1, len(NAMES))), columns=list(NAMES))
verdict = mlflow.pyfunc.load_model(str(folder / "served")).predict(row)
"""


def main() -> None:
    """Prints the figures."""
    parser = parser_of(__doc__, numbers=20_000, measured=5_000, seed=0, interpreted=False, json=False)
    parser.add_argument("--calls", type=int, default=200_000, help="in memory before the clock starts")
    parser.add_argument("--runs", type=int, default=3, help="processes started, of which the best counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder)
        report = {"starts": starts(folder, options.runs)} | costs(folder, options)
    show(report, as_json=options.json)


def write(folder: Path) -> None:
    """Copies the shipped bundle, and writes a key and a policy."""
    shutil.copytree(SHIPPED_BUNDLE, folder / "bundle")
    shutil.copy(SHIPPED_SIGNER, folder / "signer.pub")
    real_bundle.NUMBER_KEY.write(folder / "number.key")
    (folder / "policy.toml").write_text('version = "bench"\n[bands]\n')


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
    live = Live(judge, intake, folder / "state", compiled=not options.interpreted, deadline=60, limits=limits)
    calls = draw_calls(drawn_in_all, options.numbers, options.seed)
    began = time.perf_counter()
    for _, call in zip(range(options.calls), calls, strict=False):
        live.memory.history.vector(keyed := intake(call))
        live.memory.history.observe(keyed)
    filled = time.perf_counter() - began
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
    for name, (work, columns) in pyfuncs(folder, booster).items():
        some = arrays if columns != NAMES else [np.array([row]) for row in rows]
        figures[f"mlflow.pyfunc, a DataFrame, {name}"] = timed(work, some[:500])
    history = live.memory.history
    content = {"numbers": history.numbers, "calls": history.calls, "resident_mb": memory("VmRSS")}
    content |= {"taken_in_per_second": options.calls / filled}
    content |= {name: live.counts[name] for name in ("late", "faults")}
    live.close()
    return {"trees": booster.num_trees(), "memory": content, "cost_us": figures}


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

    trees = check_structure((folder / "bundle" / "model.txt").read_text(), bundle.features)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    data = as_onnx(bundle, trees).SerializeToString()
    session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    return lambda row: session.run(["raw"], {"features": row})


def pyfuncs(folder: Path, booster: Any) -> dict[str, tuple[Callable[[Any], object], tuple[str, ...]]]:
    """Returns the model as MLflow serves it, with its columns: LightGBM's flavour in two ways, and callsieve's."""
    import mlflow.lightgbm
    import pandas as pd
    from mlflow.models import infer_signature

    names = tuple(booster.feature_name())
    example = pd.DataFrame(real_bundle.rows(50), columns=list(NAMES))[list(names)]
    signature = infer_signature(example, booster.predict(example))
    mlflow.lightgbm.save_model(booster, folder / "without")
    mlflow.lightgbm.save_model(booster, folder / "with", signature=signature)
    save_model(folder / "bundle", folder / "ours", signer=folder / "signer.pub")
    os.environ |= {TRUST: str(folder / "signer.pub"), POLICY: str(folder / "policy.toml")}
    opened = {"no signature": ("without", names), "a signature": ("with", names), "our flavour": ("ours", NAMES)}
    models = {}
    for name, (place, columns) in opened.items():
        model = mlflow.pyfunc.load_model(str(folder / place))
        work = lambda row, model=model, columns=columns: model.predict(pd.DataFrame(row, columns=list(columns)))
        models[name] = work, columns
    return models


def starts(folder: Path, runs: int) -> dict[str, dict[str, float]]:
    """Returns the milliseconds from process start to the first verdict, and the resident megabytes; best of `runs`.

    `whole_ms` is until the process has ended; no call waits for the release of its memory.
    """
    programs = {
        "python alone": "verdict = 0",
        "embedded scorer": EMBEDDED,
        "live, interpreted": LIVE.replace("COMPILED", "False"),
        "live, as C": LIVE.replace("COMPILED", "True"),
        "lightgbm.Booster": BOOSTER,
        "mlflow.pyfunc": PYFUNC,
    }
    best = {}
    for name, code in programs.items():
        script = FIRST.format(made=code)
        best[name] = {}
        for again in range(runs + 1):
            figures = started(script, folder)
            if again:  # the first run compiles
                best[name] = {key: min(value, best[name].get(key, value)) for key, value in figures.items()}
    return best


def started(code: str, folder: Path) -> dict[str, float]:
    """Returns milliseconds of wall clock and of processor, and megabytes."""
    used = processor()
    # As installed: Python writes bytecode.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code, str(folder)]
    began = 1000 * time.time()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    end, (moment, resident) = 1000 * time.time(), map(float, done.stdout.split())
    figures = {"ms": moment - began, "whole_ms": end - began, "processor_ms": 1000 * (processor() - used)}
    return figures | {"resident_mb": resident}


def processor() -> float:
    """Returns the processor seconds of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
