"""What models of other worlds say of the real records of `bench_real.py`: one model is one draw.

python tests/bench/bench_real_seeds.py ../shared/data --seeds 462 463 464 --out FOLDER [--size small] [--threads 2]

Each seed's demonstration is made in a folder of its own under FOLDER, unless it is there. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench_real import of_bundle


def main() -> None:
    """Print what each model says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="small")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    told = []
    for seed in given.seeds:
        folder = given.out / f"seed-{seed}"
        if not (folder / "report.html").exists():  # what a demonstration writes last
            demo = [Path(sys.executable).with_name("callsieve"), "demo", "--size", given.size, "--seed", str(seed)]
            subprocess.run([*demo, "--out", folder, "--json"], check=True, stdout=subprocess.DEVNULL)
        said = of_bundle(folder / "bundle", given.data, given.threads)
        del said["model"]  # it has another name each time
        told.append({"seed": seed} | said)
    print(json.dumps({"models": told}))


if __name__ == "__main__":
    main()
