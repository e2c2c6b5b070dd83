"""What a training is worth from world to world: the headline of each of some seeds, and of the baselines beside it.

python tests/bench/bench_seeds.py --seeds 401 402 403 [--size small] [--threads 2] [--json]

A world of another seed has other people, campaigns and look-alikes. Each is simulated, trained on and judged in a
process of its own; nothing is chosen by these figures. Then each model is held, as it is, to the judged calls of the
other worlds: what its certificate is worth on callers that nobody saw.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from callsieve.features.keys.tokens import Key
from callsieve.serving.bundle.booster import Booster
from callsieve.serving.bundle.metadata import Band
from callsieve.training.data.dataset import Dataset
from callsieve.training.judging.judge import judge
from callsieve.training.judging.leak_probes import check_for_leaks
from callsieve.training.model.allocators import give_back
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.call_choice import fold_rows
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import Trained, feature_columns, train
from callsieve.training.studies.demo import of_world
from callsieve.training.studies.simulated import simulated

GIB = 1 << 20  # of the kibibytes that the system counts in


def main() -> None:
    """Print a line a seed, and what lies in the middle of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    lines, lives, bands = [], {}, {}
    with tempfile.TemporaryDirectory() as folder:
        kept = {seed: Path(folder) / str(seed) for seed in given.seeds}
        for seed, place in kept.items():
            # Memory is told by process: the peak of one must not be that of the one before it.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                line, lives[seed], bands[seed] = pool.apply(figures_of, (given.size, seed, given.threads, place))
            lines.append(line)
            print(shown(lines[-1]), file=sys.stderr if given.json else sys.stdout, flush=True)
        for line in lines:
            others = [place for seed, place in kept.items() if seed != line["seed"]]
            line["elsewhere"] = elsewhere(kept[line["seed"]], bands[line["seed"]], others) if others else None
    away = [line["elsewhere"] for line in lines if line["elsewhere"]]
    middle = {
        "certified": sum(line["certified"] for line in lines),
        "worlds": len(lines),
        "catch_median": float(np.median([line["catch"] for line in lines])),
        "catch_median_of_logistic_regression": float(np.median([line["logistic regression"] for line in lines])),
        "elsewhere_false_per_10000": [round(1e4 * one["false_rate"], 2) for one in away],
        "elsewhere_catch": [round(one["catch"], 3) for one in away],
    }
    found = {"size": given.size, "lines": lines, "middle": middle, "lives": lives}
    print(json.dumps(found) if given.json else middle)


def figures_of(size: str, seed: int, threads: int, place: Path) -> tuple[dict[str, Any], dict[str, Any], Band]:
    """The figures of one world, calls until found by each way, and the certified band.

    Its model and judged calls are kept in a folder.
    """
    began = time.monotonic()
    trained = train(told_of(size, seed), Settings(seed=seed, threads=threads))
    check_for_leaks(trained)
    keep(trained, place)
    give_back()
    figures = judge(trained)
    head = figures["headline"]["model"]
    line = {
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
        "innocent": {
            one["slice"]: {name: one[name] for name in ("calls", "flagged", "bound", "certified")}
            for one in figures["slices"]
            if not one["nuisance"]
        },
        "evasions": {
            one["attack"]: {name: one[name] for name in ("numbers", "detection", "calls_through_a_number")}
            for one in figures["attacks"]
        },
        "rule": figures["headline"]["rule"]["catch"]["call"]["rate"],
        "rule_certified": figures["headline"]["rule"]["certified"],
        "seconds": round(time.monotonic() - began),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB, 1),
    }
    ways = figures["headline"] | figures["baselines"]
    return line, {name: one["detection"] for name, one in ways.items()}, trained.card.thresholds[0]


def keep(trained: Trained, place: Path) -> None:
    """Write down the model and the calls that it is judged on."""
    rows = np.flatnonzero(
        fold_rows("certify", trained.plan.certify, trained.fold, trained.start) & trained.judged.known
    )
    place.mkdir()
    (place / "model.txt").write_text(trained.models["model"])
    np.save(place / "vectors.npy", trained.feed.at(rows)[:, feature_columns(trained.settings.features)])
    np.savez(place / "calls.npz", nuisance=trained.judged.nuisance[rows], stratum=trained.stratum[rows])


def elsewhere(place: Path, band: Band, others: list[Path]) -> dict[str, Any]:
    """What the certified band of one world's model does to the judged calls of the others."""
    booster = Booster((place / "model.txt").read_text())
    flagged, guilty = [], []
    for other in others:
        calls = np.load(other / "calls.npz")
        raw = booster.predict_raw(np.load(other / "vectors.npy"), threads=1)
        flagged.append(aligned_scores(raw, calls["stratum"], band) >= band.threshold)
        guilty.append(calls["nuisance"])
    hit, bad = np.concatenate(flagged), np.concatenate(guilty)
    return {
        "benign_calls": int((~bad).sum()),
        "false_calls": int((hit & ~bad).sum()),
        "false_rate": float(hit[~bad].mean()),
        "catch": float(hit[bad].mean()),
    }


def told_of(size: str, seed: int) -> Dataset:
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
