"""Scores the real records of `bench_real.py` with models of other worlds, as one model is only one draw.

python tests/bench/bench_real_seeds.py ../shared/data --seeds 462 463 464 --out FOLDER [--size small] [--threads 2]

The demonstration of each seed is written to a subfolder of FOLDER, unless it exists. Prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench_real import of_bundle
from harness import parser_of


def main() -> None:
    """Prints the figures of each model."""
    parser = parser_of(__doc__, "data", size="small", threads=2)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    models = []
    for seed in options.seeds:
        folder = options.out / f"seed-{seed}"
        if not (folder / "report.html").exists():  # a demonstration writes it last
            demo = [Path(sys.executable).with_name("callsieve"), "demo", "--size", options.size, "--seed", str(seed)]
            subprocess.run([*demo, "--out", folder, "--json"], check=True, stdout=subprocess.DEVNULL)
        figures = of_bundle(folder / "bundle", options.data, options.threads)
        del figures["model"]  # the name differs in each run
        models.append({"seed": seed} | figures)
    print(json.dumps({"models": models}))


if __name__ == "__main__":
    main()
