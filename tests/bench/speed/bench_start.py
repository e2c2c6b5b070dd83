"""Time and memory from the start of a process to a loaded scorer, beside an empty Python: `bench_start`.

Prints the least CPU milliseconds and the most megabytes of some starts in turn, and both as multiples of those of an
empty Python in the same run.
"""

import subprocess
import sys

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


def main():
    parser = parser_of(__doc__, repeats=7, json=False)
    arguments = parser.parse_args()
    runs = [{name: start(code) for name, code in STARTS.items()} for _ in range(arguments.repeats)]
    empty_ms, empty_mb = min(run["empty"][0] for run in runs), max(run["empty"][1] for run in runs)
    report = {}
    for name in STARTS:
        ms, mb = min(run[name][0] for run in runs), max(run[name][1] for run in runs)
        report[name] = {"cpu_ms": ms, "mb": mb, "times_empty": ms / empty_ms, "times_empty_mb": mb / empty_mb}
    show(report, as_json=arguments.json)


if __name__ == "__main__":
    main()
