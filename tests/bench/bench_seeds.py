"""What a training is worth from world to world: the headline of each of some seeds, and of the baselines beside it.

python tests/bench/bench_seeds.py --seeds 401 402 403 [--size small] [--threads 2] [--json]

A world of another seed has other people, campaigns and look-alikes. Each is simulated, trained on and judged in a
process of its own; nothing is chosen by these figures.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import secrets
import sys
import time
from typing import Any

import numpy as np
from callsieve.features.pseudonyms import Key
from callsieve.training.allocators import give_back
from callsieve.training.canaries import check
from callsieve.training.demo import of_world
from callsieve.training.evidence import Evidence
from callsieve.training.judge import judge
from callsieve.training.simulated import simulated
from callsieve.training.train import Settings, train

GIB = 1 << 20  # of the kibibytes that the system counts in


def main() -> None:
    """Print a line a seed, and what lies in the middle of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    lines = []
    for seed in given.seeds:
        # Memory is told by process: the peak of one must not be that of the one before it.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            lines.append(pool.apply(figures_of, (given.size, seed, given.threads)))
        print(shown(lines[-1]), file=sys.stderr if given.json else sys.stdout, flush=True)
    middle = {
        "certified": sum(line["certified"] for line in lines),
        "worlds": len(lines),
        "catch_median": float(np.median([line["catch"] for line in lines])),
        "catch_median_of_logistic_regression": float(np.median([line["logistic regression"] for line in lines])),
    }
    print(json.dumps({"size": given.size, "lines": lines, "middle": middle}) if given.json else middle)


def figures_of(size: str, seed: int, threads: int) -> dict[str, Any]:
    """The figures of one world."""
    began = time.monotonic()
    trained = train(told_of(size, seed), Settings(seed=seed, threads=threads))
    check(trained)
    give_back()
    figures = judge(trained)
    head = figures["headline"]["model"]
    return {
        "seed": seed,
        "certified": head["certified"],
        "false_calls": head["false_calls"],
        "benign_calls": head["benign_calls"],
        "catch": head["catch"]["call"]["rate"],
        "low": head["catch"]["call"]["low"],
        "high": head["catch"]["call"]["high"],
        "median_calls": head["detection"]["median"],
        "auc": figures["ranking"]["auc"],
        **{name: told["catch"]["call"]["rate"] for name, told in figures["baselines"].items()},
        "baselines_certified": {name: told["certified"] for name, told in figures["baselines"].items()},
        "in_hindsight": {
            "model": head["in_hindsight"],
            **{name: told["in_hindsight"] for name, told in figures["baselines"].items()},
            "rule": figures["headline"]["rule"]["in_hindsight"],
        },
        "rule": figures["headline"]["rule"]["catch"]["call"]["rate"],
        "rule_certified": figures["headline"]["rule"]["certified"],
        "seconds": round(time.monotonic() - began),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB, 1),
    }


def told_of(size: str, seed: int) -> Evidence:
    """What a training may see of a world; the rest of it is let go."""
    told = of_world(simulated(size, seed, None, Key("e1", secrets.token_bytes(32)), lambda *_: None))
    give_back()
    return told


def shown(line: dict[str, Any]) -> str:
    """One line for a person."""
    hindsight = ", ".join(f"{name} {rate:.1%}" for name, rate in line["in_hindsight"].items())
    return (
        f"seed {line['seed']:4}  {'certified' if line['certified'] else 'NOT certified'}, {line['false_calls']} of "
        f"{line['benign_calls']:,} flagged; caught {line['catch']:.1%} ({line['low']:.1%} - {line['high']:.1%}), "
        f"median {line['median_calls']} calls; logistic regression {line['logistic regression']:.1%}, number class "
        f"{line['number class']:.1%}, rule {line['rule']:.1%}; in hindsight "
        f"{hindsight}; AUC {line['auc']:.4f}; {line['seconds']} s, "
        f"{line['peak_gib']} GiB"
    )


if __name__ == "__main__":
    main()
