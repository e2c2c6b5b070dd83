"""Compares a simulated world with real call records. Run by hand.

python -m tests.bench.bench_realism --data FOLDER [--size small] [--seed 1] [--threads 0] [--json]

FOLDER holds the published data sets that `realism/comparison.py` names. Prints `sim_to_real_auc`, the AUC on real
subscribers of a model trained on the simulated world alone, and each statistic with its distance.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from callsieve.training.world import load_scenario, simulate
from tests.bench.harness import parser_of
from tests.bench.realism.comparison import MOST_KS, MOST_RATIO, realism, require_real


def main() -> int:
    """Prints the comparison as JSON or as a table; exit code 1 without the real data."""
    parser = parser_of(__doc__, size="small", seed=1, threads=0, json=False)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    try:
        require_real(options.data)  # before a world is simulated
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    scenario = load_scenario(None)
    world = simulate(scenario, options.seed, options.size)
    result = realism(world, scenario, options.data, seed=options.seed, threads=options.threads)
    figures = {
        "sim_to_real_auc": result.sim_to_real_auc,
        "within_share": result.within_share,
        "limits": {"ks": MOST_KS, "ratio": MOST_RATIO},
        "rows": result.rows,
        "statistics": [statistic.to_json() for statistic in result.statistics],
    }
    if options.json:
        print(json.dumps(figures, ensure_ascii=False))
        return 0
    for row in result.statistics:
        mark = " " if row.within else "!"
        print(f"{mark} {row.group}: {row.name} [{row.unit}]: real {row.real:.4g}, simulated {row.world:.4g}")
    limits = f"{MOST_KS} KS or {MOST_RATIO:.0%}"
    print(f"{result.within_share:.0%} of {len(result.statistics)} statistics are within {limits}")
    print(f"AUC on {result.rows['real']:,} real subscribers, trained on the world alone: {result.sim_to_real_auc:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
