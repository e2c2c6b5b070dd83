"""Measures how a model ages on a simulated world, week by week, against a model trained anew each week.

python tests/bench/bench_decay.py [--seed 457] [--size small] [--train-days 35] [--weeks 8] [--days 7] [--threads 2]

The world is as long as the study needs; no choice depends on its figures. Prints the JSON of `callsieve study decay`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from harness import parser_of, simulated_world

from callsieve.serving.cli.console import progress
from callsieve.training.cli.study import ledger_in
from callsieve.training.model.settings import Settings
from callsieve.training.studies.decay import decay
from callsieve.training.studies.demo import of_world


def main() -> None:
    """Prints the figures of each week, and the areas under time."""
    options = parser_of(__doc__, seed=457, size="small", train_days=35, weeks=8, days=7, threads=2).parse_args()
    days = options.train_days + options.weeks * options.days
    dataset = of_world(simulated_world(options.size, options.seed, days=days))
    with tempfile.TemporaryDirectory() as folder, progress("decay") as tell:
        figures = decay(
            dataset,
            Settings(seed=options.seed, threads=options.threads),
            train_days=options.train_days,
            periods=options.weeks,
            days=options.days,
            ledger=ledger_in(Path(folder)),
            progress=tell,
        )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
