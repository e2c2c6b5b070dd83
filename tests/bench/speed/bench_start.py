"""Time and memory from the start of a process to a loaded scorer, beside an empty Python; and a reload under load.

python -m tests.bench.speed.bench_start [--repeats 7] [--reloads 5] [--json]

Prints the least CPU milliseconds and the most megabytes of some starts in turn, and both as multiples of those of an
empty Python in the same run. Then one thread scores and observes calls while another one loads the shipped scorer
several times, as the service does. Prints calls a second before and during it, and the longest call of each.
"""

import subprocess
import sys
import threading
import time

from callsieve.features import Call, History, Intake, Key
from callsieve.serving import Scorer
from callsieve.serving.live.gc_pauses import shorten_pauses
from tests.bench.harness import parser_of, show

STARTS = {
    "empty": "pass",
    "import": "import callsieve.serving",
    "load": "from callsieve.serving import Scorer; scorer = Scorer.load()",
    "load all": "from callsieve.serving import Scorer; scorer = Scorer.load(); scorer.bundle.second.prepare()",
}
FIGURES = "; import resource; used = resource.getrusage(resource.RUSAGE_SELF)"
FIGURES += "; print(used.ru_utime + used.ru_stime, used.ru_maxrss)"


def start(code):
    """Returns CPU milliseconds and megabytes of a process that runs some code."""
    command = [sys.executable, "-c", code + FIGURES]
    seconds, kilobytes = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    return 1000 * seconds, kilobytes / 1024


def load():
    """Returns the shipped scorer with all of its models, as a reload of the service does."""
    scorer = Scorer.load()
    for model in (scorer.bundle.model, scorer.bundle.second, scorer.bundle.content, scorer.bundle.mode):
        if model is not None:
            model.read()
    for model in (scorer.bundle.model, scorer.bundle.second):
        if model is not None:
            model.prepare()
    return scorer


def score_calls(scorer, history, first, is_over):
    """Scores and observes calls until `is_over` is true; returns the seconds of each, and of all."""
    intake, spent = Intake(Key("e1", bytes(32))), []
    began = time.perf_counter()
    while not is_over():
        i = first + len(spent)
        start = time.perf_counter()
        call = intake(Call(1775001600.0 + i / 100, f"138{i % 997:08}", f"139{i % 1009:08}", 5.0, 20.0, "answered"))
        scorer.score(history, call)
        history.observe(call)
        spent.append(time.perf_counter() - start)
    return spent, time.perf_counter() - began


def reload_figures(reloads):
    """Returns calls a second and the longest call, before and during reloads in another thread."""
    scorer = load()
    history = History(scorer.features)
    shorten_pauses()
    score_calls(scorer, history, 0, iter([False] * 2000 + [True]).__next__)
    began = time.perf_counter()
    before, seconds_before = score_calls(scorer, history, 2000, lambda: time.perf_counter() > began + reloads)
    thread = threading.Thread(target=lambda: [load() for _ in range(reloads)])
    thread.start()
    during, seconds = score_calls(scorer, history, 2000 + len(before), lambda: not thread.is_alive())
    rates = len(before) / seconds_before, len(during) / seconds
    return {
        "seconds_of_a_load": seconds / reloads,
        "calls_a_second_before": rates[0],
        "calls_a_second_during": rates[1],
        "share": rates[1] / rates[0],
        "longest_ms_before": 1000 * max(before),
        "longest_ms_during": 1000 * max(during),
    }


def main():
    parser = parser_of(__doc__, repeats=7, reloads=5, json=False)
    arguments = parser.parse_args()
    runs = [{name: start(code) for name, code in STARTS.items()} for _ in range(arguments.repeats)]
    empty_ms, empty_mb = min(run["empty"][0] for run in runs), max(run["empty"][1] for run in runs)
    report = {}
    for name in STARTS:
        ms, mb = min(run[name][0] for run in runs), max(run[name][1] for run in runs)
        report[name] = {"cpu_ms": ms, "mb": mb, "times_empty": ms / empty_ms, "times_empty_mb": mb / empty_mb}
    report["reload"] = reload_figures(arguments.reloads)
    show(report, as_json=arguments.json)


if __name__ == "__main__":
    main()
