"""How a model ages on a simulated world: week after week, beside one that is trained anew each week.

python tests/bench/bench_decay.py [--seed 457] [--size small] [--train-days 35] [--weeks 8] [--days 7] [--threads 2]

The world is made as long as the study needs, and nothing is chosen by its figures. Prints JSON, as
`callsieve study decay` does.
"""

from __future__ import annotations

import argparse
import json
import secrets
import tempfile
from pathlib import Path

from callsieve.features.keys.tokens import Key
from callsieve.serving.cli.console import progress
from callsieve.training.cli.study import ledger_in
from callsieve.training.data.dataset import Dataset
from callsieve.training.model.settings import Settings
from callsieve.training.studies.decay import decay
from callsieve.training.studies.demo import of_world
from callsieve.training.studies.simulated import simulated


def main() -> None:
    """Print the figures of each week, and the areas under time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=457)
    parser.add_argument("--size", default="small")
    parser.add_argument("--train-days", type=int, default=35)
    parser.add_argument("--weeks", type=int, default=8)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, progress("decay") as tell:
        told = decay(
            lived(Path(folder), given.size, given.seed, given.train_days + given.weeks * given.days),
            Settings(seed=given.seed, threads=given.threads),
            train_days=given.train_days,
            periods=given.weeks,
            days=given.days,
            ledger=ledger_in(Path(folder)),
            progress=tell,
        )
    print(json.dumps(told))


def lived(folder: Path, size: str, seed: int, days: int) -> Dataset:
    """What may be known of a world of so many days."""
    scenario = folder / "scenario.toml"
    scenario.write_text(f"[sizes.{size}]\ndays = {days}\n")
    return of_world(simulated(size, seed, scenario, Key("e1", secrets.token_bytes(32)), lambda *_: None))


if __name__ == "__main__":
    main()
