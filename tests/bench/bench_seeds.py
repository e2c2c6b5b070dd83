"""Measures how trainings vary between worlds: the headline figures of each seed, with those of the baselines.

python tests/bench/bench_seeds.py --seeds 401 402 403 [--size small] [--threads 2] [--json]

A world of another seed has other people, campaigns and look-alikes. Each is simulated, trained on and judged in a
separate process; no choice depends on these figures. Then each model, unchanged, judges the calls of the other worlds,
whose callers no training has seen.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import parser_of, simulated_world

from callsieve.serving.bundle.forest import read_forest
from callsieve.serving.bundle.metadata import Band
from callsieve.training.data.dataset import Dataset
from callsieve.training.judging.judge import judge
from callsieve.training.judging.leak_probes import check_for_leaks
from callsieve.training.model.allocators import give_back
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.scores import feature_columns
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import Trained, train
from callsieve.training.run import policy_actions
from callsieve.training.studies.demo import of_world

GIB = 1 << 20  # KiB, the unit of `ru_maxrss`


def main() -> None:
    """Prints a line for each seed, and the medians."""
    parser = parser_of(__doc__, size="small", threads=2, json=False)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    options = parser.parse_args()
    lines, lives, bands = [], {}, {}
    with tempfile.TemporaryDirectory() as folder:
        places = {seed: Path(folder) / str(seed) for seed in options.seeds}
        for seed, place in places.items():
            # A process for each world, because the system reports the peak memory of a whole process.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                line, lives[seed], bands[seed] = pool.apply(figures_of, (options.size, seed, options.threads, place))
            lines.append(line)
            print(as_line(lines[-1]), file=sys.stderr if options.json else sys.stdout, flush=True)
        for line in lines:
            others = [place for seed, place in places.items() if seed != line["seed"]]
            line["elsewhere"] = elsewhere(places[line["seed"]], bands[line["seed"]], others) if others else None
    away = [line["elsewhere"] for line in lines if line["elsewhere"]]
    middle = {
        "certified": sum(line["certified"] for line in lines),
        "worlds": len(lines),
        "catch_median": float(np.median([line["catch"] for line in lines])),
        "catch_median_of_logistic_regression": float(np.median([line["logistic regression"] for line in lines])),
        "elsewhere_false_per_10000": [round(1e4 * figures["false_rate"], 2) for figures in away],
        "elsewhere_catch": [round(figures["catch"], 3) for figures in away],
    }
    report = {"size": options.size, "lines": lines, "middle": middle, "lives": lives}
    print(json.dumps(report) if options.json else middle)


def figures_of(size: str, seed: int, threads: int, place: Path) -> tuple[dict[str, Any], dict[str, Any], Band]:
    """Returns the figures of a world, the calls until detection by each method, and the certified band.

    Writes the model and the judged calls to a folder.
    """
    began = time.monotonic()
    trained = train(observable(size, seed), Settings(seed=seed, threads=threads))
    check_for_leaks(trained)
    write(trained, place)
    give_back()
    figures = judge(trained, policy_actions(trained))
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
        **{name: baseline["catch"]["call"]["rate"] for name, baseline in figures["baselines"].items()},
        "baselines_certified": {name: baseline["certified"] for name, baseline in figures["baselines"].items()},
        "in_hindsight": {
            "model": head["in_hindsight"],
            **{name: baseline["in_hindsight"] for name, baseline in figures["baselines"].items()},
            "rule": figures["headline"]["rule"]["in_hindsight"],
        },
        "innocent": {
            row["slice"]: {name: row[name] for name in ("calls", "flagged", "bound", "certified")}
            for row in figures["slices"]
            if not row["nuisance"]
        },
        "evasions": {
            row["attack"]: {name: row[name] for name in ("numbers", "detection", "calls_through_a_number")}
            for row in figures["attacks"]
        },
        "rule": figures["headline"]["rule"]["catch"]["call"]["rate"],
        "rule_certified": figures["headline"]["rule"]["certified"],
        "seconds": round(time.monotonic() - began),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB, 1),
    }
    methods = figures["headline"] | figures["baselines"]
    return line, {name: method["detection"] for name, method in methods.items()}, trained.card.thresholds[0]


def write(trained: Trained, place: Path) -> None:
    """Writes the model and the calls that it is judged on."""
    rows = np.flatnonzero(trained.pool.certify)
    place.mkdir()
    (place / "model.txt").write_text(trained.models["model"])
    np.save(place / "vectors.npy", trained.X[rows][:, feature_columns(trained.settings.features)])
    np.savez(place / "calls.npz", nuisance=trained.pool.judged.nuisance[rows], stratum=trained.stratum[rows])


def elsewhere(place: Path, band: Band, others: list[Path]) -> dict[str, Any]:
    """Returns the figures of a model's certified band on the judged calls of other worlds."""
    forest = read_forest((place / "model.txt").read_text())
    flagged, guilty = [], []
    for other in others:
        calls = np.load(other / "calls.npz")
        raw = forest.predict_raw(np.load(other / "vectors.npy"), threads=1)
        flagged.append(aligned_scores(raw, calls["stratum"], band) >= band.threshold)
        guilty.append(calls["nuisance"])
    hit, bad = np.concatenate(flagged), np.concatenate(guilty)
    return {
        "benign_calls": int((~bad).sum()),
        "false_calls": int((hit & ~bad).sum()),
        "false_rate": float(hit[~bad].mean()),
        "catch": float(hit[bad].mean()),
    }


def observable(size: str, seed: int) -> Dataset:
    """Returns the observable part of a simulated world, and frees the rest."""
    dataset = of_world(simulated_world(size, seed))
    give_back()
    return dataset


def as_line(line: dict[str, Any]) -> str:
    """Returns a line of text."""
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
