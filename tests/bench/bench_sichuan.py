"""Trains on the two Sichuan tables, on several splits, beside plain LightGBM, and measures the flaws of the data.

python tests/bench/bench_sichuan.py --data FOLDER [--seeds 0,1,2,3,4] [--threads 0]

FOLDER holds both tables and must be declared for evaluation. Prints JSON. See `training/studies/benchmark.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from callsieve.training.cli.study import whole_numbers
from callsieve.training.studies.benchmark import SEEDS, benchmark


def main() -> None:
    """Print the figures of both tables as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=whole_numbers, default=list(SEEDS))
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(benchmark(options.data, seeds=options.seeds, threads=options.threads), ensure_ascii=False))


if __name__ == "__main__":
    main()
