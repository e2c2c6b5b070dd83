"""Trains callsieve and plain LightGBM on the two Sichuan tables, and measures the flaws of the data. Prints JSON.

python -m tests.bench.bench_sichuan --data FOLDER [--seeds 0,1,2,3,4] [--threads 0]

FOLDER holds both tables and is declared for evaluation (`bench_published.py` does that for a copy). Splits are
60 / 20 / 20 by the rule of GAT-COBO (IEEE TBD, arXiv 2303.17334, `main.py`), each with the next random state. All
models see the same rows. No choice depends on these figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, recall_score, roc_auc_score
from sklearn.model_selection import train_test_split

from callsieve.features.files.progress import silent
from callsieve.serving.bundle.forest import read_forest
from callsieve.serving.custody.purposes import require_purpose
from callsieve.training.model.fit import FitRows, fit
from callsieve.training.model.settings import Parameter
from tests.bench.harness import interval

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.features.files.progress import Progress

    Array = npt.NDArray[Any]

EIGHT_MONTHS, MARCH = "sichuan_eight_months.parquet", "sichuan_march_calls.parquet"
ACTIVE = "voc_cnt >= 5"  # of the March table: without it, "no activity" predicts the label
TABLES: dict[str, str | None] = {EIGHT_MONTHS: None, MARCH: ACTIVE}
SEEDS = tuple(range(5))
SPLIT_SEED = 2
# For a small table patience matters more than depth.
PARAMETERS: Mapping[str, Parameter] = {
    "learning_rate": 0.03,
    "min_data_in_leaf": 20,
    "lambda_l2": 1.0,
    "rounds": 1000,
    "patience": 100,
}
PLAIN_TREES, PLAIN_MOST, PLAIN_PATIENCE = 100, 1000, 100
# Figures of others for the eight months, on a split of their own: an independent re-run of GAT-COBO (2025), and a plain
# LightGBM.
PUBLISHED = {
    "GAT-COBO, independent re-run": {"auc": 0.9505, "macro_f1": 0.9152, "macro_recall": 0.9016, "g_mean": 0.8984},
    "plain LightGBM": {"auc": 0.9577, "macro_f1": 0.9160, "macro_recall": 0.9015, "g_mean": 0.8982},
}
MEASURES = ("auc", "macro_f1", "macro_recall", "g_mean")


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Values, labels and column names of a table."""

    X: Array
    y: Array
    names: tuple[str, ...]


def read_table(path: Path, where: str | None) -> FeatureTable:
    """Reads the rows of a table that a query selects; columns of distinct integers identify rows and are left out."""
    require_purpose(path, "evaluation")
    frame = pd.read_parquet(path) if where is None else pd.read_parquet(path).query(where)
    y = frame.pop("label").to_numpy(dtype=np.int8)
    numeric = frame.select_dtypes(include=["number", "bool"])
    identifiers = [name for name in numeric if numeric[name].dtype.kind in "iu" and numeric[name].is_unique]
    values = numeric.drop(columns=identifiers)
    return FeatureTable(values.to_numpy(dtype=float), y, tuple(map(str, values)))


def split(y: Array, state: int) -> tuple[Array, Array, Array]:
    """Returns the training, validation and test rows: 60, 20 and 20 %."""
    rest, test = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=state)
    train, valid = train_test_split(rest, test_size=0.25, stratify=y[rest], random_state=state)
    return train, valid, test


def classifier_figures(y: Array, raw: Array) -> dict[str, float]:
    """Returns the AUC, and macro measures at probability 1/2 (raw score 0)."""
    predicted = (raw >= 0).astype(int)
    recalls = recall_score(y, predicted, average=None)
    macro_f1 = f1_score(y, predicted, average="macro")
    figures = (roc_auc_score(y, raw), macro_f1, recalls.mean(), np.sqrt(recalls.prod()))
    return {name: float(value) for name, value in zip(MEASURES, figures, strict=True)}


def benchmark(
    data: Path, *, seeds: Sequence[int] = SEEDS, threads: int = 0, progress: Progress = silent
) -> dict[str, Any]:
    """Trains on both tables once for each seed; the seed also moves the split.

    Args:
        data: folder of the two files.
    Returns: the figures of each table, and the flaws of both, as plain values for JSON.
    Raises:
        ValueError: in one line, if a file is missing, or the folder is not declared for evaluation.
    """
    figures: dict[str, Any] = {"seeds": list(seeds), "tables": {}}
    for place, (name, condition) in enumerate(TABLES.items()):
        if not (data / name).is_file():
            raise ValueError(f"{data}: expected the file {name}")
        table = read_table(data / name, condition)
        runs = []
        for nth, seed in enumerate(seeds):
            progress(f"{name} {nth + 1}/{len(seeds)}", (place + nth / len(seeds)) / len(TABLES))
            runs.append(one_split(table, seed, threads))
        figures["tables"][name] = {
            "rows": len(table.y),
            "features": len(table.names),
            "where": condition,
            "positive_share": float(table.y.mean()),
            **over_splits(runs),
            "published": PUBLISHED if name == EIGHT_MONTHS else {},
        }
    figures["flaws"] = flaws(pd.read_parquet(data / EIGHT_MONTHS), pd.read_parquet(data / MARCH))
    return figures


def one_split(table: FeatureTable, seed: int, threads: int) -> dict[str, dict[str, float]]:
    """Returns the figures on the test rows of one split, by model."""
    learn, check, test = split(table.y, SPLIT_SEED + seed)
    inside, outside = (FitRows(table.X[rows], table.y[rows]) for rows in (learn, check))
    text = fit(inside, outside, table.names, seed=seed, threads=threads, parameters=PARAMETERS)
    raw = {
        "callsieve": read_forest(text).predict_raw(np.ascontiguousarray(table.X[test])),
        f"LightGBM as it comes, {PLAIN_TREES} trees": plain(inside, None, seed, threads)(table.X[test]),
        "LightGBM as it comes, early stopping": plain(inside, outside, seed, threads)(table.X[test]),
    }
    return {name: classifier_figures(table.y[test], scores) for name, scores in raw.items()}


def plain(learn: FitRows, check: FitRows | None, seed: int, threads: int) -> Callable[[Array], Array]:
    """Trains LightGBM with its own defaults, and returns a function that gives raw scores.

    With `check`, the number of trees is the one with the least log-loss on those rows.
    """
    settings = {"objective": "binary", "metric": "binary_logloss", "seed": seed, "deterministic": True,
                "force_row_wise": True, "num_threads": threads, "verbosity": -1}  # fmt: skip
    data = lgb.Dataset(learn.X, learn.y)
    if check is None:
        model = lgb.train(settings, data, PLAIN_TREES)
    else:
        judge = lgb.Dataset(check.X, check.y, reference=data)
        stop = lgb.early_stopping(PLAIN_PATIENCE, verbose=False)
        model = lgb.train(settings, data, PLAIN_MOST, valid_sets=[judge], callbacks=[stop])
    return lambda X: np.asarray(model.predict(X, raw_score=True))


def over_splits(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Returns mean and deviation of each measure by model, and how far the AUC of callsieve is ahead of the others."""
    models = {name: {measure: spread([run[name][measure] for run in runs]) for measure in MEASURES} for name in runs[0]}
    ahead = {
        # An interval over differences on the same splits. It is too narrow, because splits share rows.
        name: interval([run["callsieve"]["auc"] - run[name]["auc"] for run in runs])
        for name in models
        if name != "callsieve"
    }
    return {"models": models, "auc_ahead_of": ahead}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns mean and standard deviation (n - 1)."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}


def flaws(eight: pd.DataFrame, march: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the flaws of the data with figures; they limit the meaning of any AUC on it."""
    idle = march["voc_cnt"] == 0
    active = march.query(ACTIVE)
    whole = eight[eight["month_ids"] == eight["month_ids"].max()]
    ratios = [name for name in ("phone2opposite_mean", "calltype_rate", "sms_rate") if name in eight]
    intervals = [name for name in march if "call_interval" in str(name)]
    return [
        {
            "flaw": "numbers that were cut off make no call in March: no activity predicts the label",
            "shown_by": "fraud and normal subscribers without a March call",
            "figures": [share(idle[march["label"] == kind]) for kind in (1, 0)],
            "so": f"rows are kept where {ACTIVE}",
        },
        {
            "flaw": "how little was called predicts it also among all rows",
            "shown_by": "AUC of the number of March calls alone, on all rows and on those kept",
            "figures": [alone(table["voc_cnt"], table["label"]) for table in (march, active)],
            "so": "no figure of all rows is reported",
        },
        {
            "flaw": "the months in which a number was seen are in the label: fraud numbers live short",
            "shown_by": "AUC of the months seen alone",
            "figures": [alone(eight["month_ids"], eight["label"])],
            "so": "part of the AUC on the eight months is of observation, not of behaviour",
        },
        {
            "flaw": "among numbers seen in all months, ratios say less",
            "shown_by": f"best AUC of one of {', '.join(ratios)}, on all rows and among those",
            "figures": [max(alone(table[name], table["label"]) for name in ratios) for table in (eight, whole)],
            "so": "compare models on this table, not with other data",
        },
        {
            "flaw": "intervals between calls wrap at 24 hours: a fault of the source",
            "shown_by": "longest interval in seconds; a day has 86,400",
            "figures": [float(march[intervals].max().max())],
            "so": "good for ranking, not for calibration",
        },
    ]


def share(rows: pd.Series[bool]) -> float:
    """Returns the share of true rows."""
    return float(rows.mean())


def alone(column: pd.Series[Any], label: pd.Series[Any]) -> float:
    """Returns the AUC of one column alone, in the better of the two directions."""
    area = float(roc_auc_score(label, column.fillna(-1.0)))
    return max(area, 1 - area)


def main() -> None:
    """Prints the figures of both tables as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=list(SEEDS))
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(benchmark(options.data, seeds=options.seeds, threads=options.threads), ensure_ascii=False))


if __name__ == "__main__":
    main()
