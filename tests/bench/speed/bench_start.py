"""Time and memory from the start of a process to a loaded scorer, beside an empty Python; and a reload under load.

python -m tests.bench.speed.bench_start [--repeats 15] [--reloads 5] [--json]

The processes run in a fresh virtual environment with compiled bytecode, as an installed package does, and without the
start-up hooks of this machine. Prints the least CPU milliseconds, the least wall milliseconds and the most megabytes of
some starts in turn, and the multiples of those of an empty Python in the same run. Then one thread scores and observes
calls while another one loads the shipped scorer several times, as the service does. Prints calls a second before and
during it, and the longest call of each.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import venv
from pathlib import Path

from callsieve.features import Call, History, Intake, Key
from callsieve.serving import Scorer
from callsieve.serving.live.gc_pauses import shorten_pauses
from tests.bench.harness import ROOT, parser_of, show

LOAD = "from callsieve.serving import Scorer; scorer = Scorer.load()"
VERDICT = "; from callsieve.features import Call, History, Intake, Key"
VERDICT += "; history, intake = History(scorer.features), Intake(Key('e1', bytes(32)))"
VERDICT += "; scorer.score(history, intake(Call(1775001600.0, '13800138000', '13900139000')))"
STARTS = {
    "empty": "pass",
    "import": "import callsieve.serving",
    "import names": "from callsieve.features import Call, History, Intake, Key; from callsieve.serving import Scorer",
    "load": LOAD,
    "verdict": LOAD + VERDICT,
    "load all": LOAD + "; scorer.bundle.second.prepare()",
}
# Not `ru_maxrss`: a process inherits it from the one that started it.
PEAK = "; print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"


def installed(folder):
    """Returns a command that starts Python in a fresh virtual environment of a folder, and its environment variables.

    The folder's modules shadow start-up hooks and lead to the sources.
    """
    venv.create(folder / "venv", with_pip=False)
    package = folder / "modules" / "callsieve"
    package.mkdir(parents=True)
    for source in (ROOT / ".package" / "callsieve" / "__init__.py", ROOT / "features", ROOT / "serving"):
        (package / source.name).symlink_to(source)
    (folder / "modules" / "sitecustomize.py").touch()
    paths = [str(folder / "modules"), *filter(lambda path: path.endswith("site-packages"), sys.path)]
    variables = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    python = folder / "venv" / Path(sysconfig.get_path("scripts")).name / "python"
    return [str(python), "-c"], {**variables, "PATH": os.environ["PATH"]}


def start(command, variables, code):
    """Returns CPU milliseconds and megabytes of a process that runs some code."""
    with subprocess.Popen([*command, code + PEAK], env=variables, stdout=subprocess.PIPE, text=True) as process:
        peak = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"bench_start: a process failed that ran {code!r}")
    return 1000 * (used.ru_utime + used.ru_stime), int(peak) / 1024


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
        "seconds_of_a_load": seconds / reloads, "calls_a_second_before": rates[0], "calls_a_second_during": rates[1],
        "share": rates[1] / rates[0], "longest_ms_before": 1000 * max(before), "longest_ms_during": 1000 * max(during),
    }  # fmt: skip


def main():
    parser = parser_of(__doc__, repeats=15, reloads=5, json=False)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = installed(Path(folder))
        for code in STARTS.values():
            start(*python, code)  # writes the bytecode
        runs = [{name: start(*python, code) for name, code in STARTS.items()} for _ in range(arguments.repeats)]
    report, empty = {}, None
    for name in STARTS:
        cpu, mb = zip(*(run[name] for run in runs), strict=True)
        figures = {"cpu_ms": min(cpu), "mb": max(mb)}
        empty = empty or figures
        report[name] = figures | {f"times_empty_{key}": figures[key] / empty[key] for key in figures}
    report["reload"] = reload_figures(arguments.reloads)
    show(report, as_json=arguments.json)


if __name__ == "__main__":
    main()
